"""`stoker index`: make a version of external WebDataset tars, which are indexed in place."""

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from stoker.flows.cli.output import print_json, published_json
from stoker.flows.logs import note
from stoker.flows.private import make_private
from stoker.flows.progress import terminal_progress
from stoker.flows.report.format import size_text, splits_text
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.release import __version__
from stoker.storage.plural import plural

if TYPE_CHECKING:
    from stoker.storage.indexed.indexing import Indexed


def index(arguments: Namespace) -> int:
    """Index tars, and print what they hold."""
    from stoker.pipelines.stages.forgetting.forget import obey
    from stoker.storage.indexed.indexing import index as index_tars
    from stoker.storage.indexed.tars import as_pattern, corpus_of, find_tars

    _check_usage(arguments)
    if arguments.to:
        if arguments.store and arguments.store != arguments.to:
            raise UsageError("index: --to and --store name two stores; give one")
        arguments.store = arguments.to
    settings = load_settings(arguments)
    store = settings.open_store()
    url = as_pattern(arguments.urls)
    corpus = arguments.name or corpus_of(url)
    make_private(settings.home)
    store.probe()
    with terminal_progress(settings.home) as reporter:
        reporter.start_phase(f"looking for tars in {url if len(arguments.urls) == 1 else url.partition('{')[0] or '.'}")
        reporter.interruptible = True
        tars = find_tars(url, store)
        reporter.interruptible = False
        total_size = sum(tar.size for tar in tars.objects)
        reporter.message(f"{corpus}: {plural(len(tars.objects), 'tar')}, {size_text(total_size)}, in {tars.store.url}")
        reporter.start_phase(f"indexing {corpus}", 100)
        indexed = index_tars(
            tars,
            store,
            corpus,
            splits=arguments.split,
            key=arguments.key,
            skip_damaged=arguments.skip_damaged,
            again=arguments.again,
            workers=settings.slots,
            code=__version__,
            progress=lambda size, samples: reporter.advance_to(
                100 * size // max(total_size, 1), plural(samples, "sample")
            ),
            stop=reporter.stop_requested.is_set,
        )
        if indexed is None:
            raise KeyboardInterrupt("the tars that were done stay done; the same command goes on")
        if (view := obey(store, corpus)) is not None:
            indexed = replace(indexed, manifest=view)
    if arguments.json:
        counts = {"tars": len(tars.objects), "tars_read": indexed.read, "repeated": indexed.repeated}
        more = {"prefixed": indexed.prefixed, "left_out": indexed.left_out}
        lists = {"losses": list(indexed.losses), "notes": list(indexed.notes)}
        print_json(published_json(indexed.manifest, new=indexed.new) | counts | more | lists)
    else:
        splits = splits_text(indexed.manifest.splits)
        samples = plural(indexed.manifest.samples, "sample")
        print(f"{indexed.manifest.reference}: {samples} ({splits}), {size_text(indexed.manifest.size)}")
    _print_notes(indexed, len(tars.objects))
    return 0


def _check_usage(arguments: Namespace) -> None:
    """Refuse values of --as and --split that no tar could make right. Raises UsageError."""
    from stoker.storage.errors import StorageError
    from stoker.storage.indexed.tars import split_of
    from stoker.storage.versions.catalog import parse_reference

    try:
        _, version = parse_reference(arguments.name or "tars")
        for option in arguments.split:
            split_of("", [option])
    except StorageError as error:
        raise UsageError(f"index: {error}") from None
    if version is not None:
        raise UsageError(f"index: --as {arguments.name}; expected a name without a version, which is counted by itself")


_MOST_LINES = 20


def _more(lines: int) -> list[str]:
    return [f"and {lines - _MOST_LINES:,} more; --json lists all"] if lines > _MOST_LINES else []


def _print_notes(indexed: "Indexed", tars: int) -> None:
    manifest = indexed.manifest
    if indexed.repeated:
        note(
            f"{plural(indexed.repeated, 'sample')} with a key that came before in the same tar, or with members "
            "that are not adjacent: each is a sample of its own, as in WebDataset; a number was added to its key"
        )
    if indexed.prefixed:
        note("several tars hold the same keys: each key has its tar's name before it")
    if indexed.left_out:
        note(f"{plural(indexed.left_out, 'file')} left out: not named like a sample's (KEY.EXTENSION)")
    for text in (*indexed.notes[:_MOST_LINES], *_more(len(indexed.notes))):
        note(text)
    if indexed.losses:
        note(f"left out, because it cannot be read in place ({len(indexed.losses):,}):")
        for text in (*indexed.losses[:_MOST_LINES], *_more(len(indexed.losses))):
            note(f"  {text}")
    empty = sum(1 for shard in manifest.shards if not shard.samples)
    if empty:
        note(f"{plural(empty, 'tar')} without a sample")
    if not indexed.new:
        note("nothing changed since this version, so no new one was made")
    elif indexed.read < tars:
        note(f"{plural(indexed.read, 'tar')} read, {tars - indexed.read:,} known from before")
    note(f"next: stoker show {manifest.reference}")
