"""`stoker index`: WebDataset tars that others wrote become a version, and stay where they are."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from stoker import __version__
from stoker.flows.progress import watched
from stoker.flows.report.format import plural, size_text
from stoker.flows.settings import UsageError
from stoker.flows.start import settings_of

if TYPE_CHECKING:
    from stoker.storage.indexed.indexing import Indexed


def index_command(arguments: Namespace) -> int:
    """Index tars, and say what they hold."""
    from stoker.storage.indexed.indexing import index
    from stoker.storage.indexed.tars import as_pattern, corpus_of, find_tars
    from stoker.storage.versions.catalog import parse_reference

    if arguments.to:
        if arguments.store and arguments.store != arguments.to:
            raise UsageError("index: --to and --store name two stores; give one")
        arguments.store = arguments.to
    own = settings_of(arguments)
    store = own.open_store()
    url = as_pattern(arguments.urls)
    corpus, version = parse_reference(arguments.name or corpus_of(url))
    if version is not None:
        raise UsageError(f"index: --as {arguments.name}; expected a name without a version, which is counted by itself")
    store.probe()
    with watched(own.home) as board:
        board.phase(f"looking for tars in {url if len(arguments.urls) == 1 else url.partition('{')[0] or '.'}")
        board.blocking = True
        tars = find_tars(url, store)
        board.blocking = False
        whole = sum(tar.size for tar in tars.objects)
        board.note(f"{corpus}: {plural(len(tars.objects), 'tar')}, {size_text(whole)}, in {tars.store.url}")
        board.phase(f"indexing {corpus}", 100)
        done = index(
            tars,
            store,
            corpus,
            splits=arguments.split,
            workers=own.slots,
            code=__version__,
            progress=lambda size, samples: board.reach(100 * size // max(whole, 1), f"{samples:,} samples"),
            stop=board.stopped.is_set,
        )
        if done is None:
            raise KeyboardInterrupt("the tars that were done stay done; the same command goes on")
    _print(done, len(tars.objects))
    return 0


def _print(done: "Indexed", tars: int) -> None:
    manifest = done.manifest
    splits = ", ".join(f"{name} {one.samples:,}" for name, one in manifest.splits.items())
    print(f"{manifest.reference}: {manifest.samples:,} samples ({splits}), {size_text(manifest.size)}")
    if done.repeated:
        _say(
            f"{plural(done.repeated, 'sample')} had a key that came before in the same tar, or members that lie apart: "
            "each is a sample of its own, as to WebDataset; a number was added to its key"
        )
    if done.prefixed:
        _say("keys come again in other tars: each has its tar's name before it")
    if done.left_out:
        _say(f"{plural(done.left_out, 'file')} left out: no sample's by its name (KEY.EXTENSION)")
    empty = sum(1 for shard in manifest.shards if not shard.samples)
    if empty:
        _say(f"{plural(empty, 'tar')} without a sample")
    if not done.new:
        _say("nothing changed since this version, so no new one was made")
    elif done.read < tars:
        _say(f"{plural(done.read, 'tar')} read, {tars - done.read:,} known from before")
    _say(f"next: stoker show {manifest.reference}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
