"""Subcommands that only read: list, show, diff, why. Each prints to stdout and returns the exit code."""

from argparse import Namespace
from typing import TYPE_CHECKING

from rich.console import Console

from stoker.flows.cli.output import print_json
from stoker.flows.logs import note
from stoker.flows.start import load_settings
from stoker.storage.versions.manifest import load_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stoker.storage.stores.store import Store
    from stoker.storage.versions.manifest import Manifest


def list_corpora(arguments: Namespace) -> int:
    """Print the corpora of the store."""
    from stoker.flows.cli.show import corpora_json, print_corpora

    store = load_settings(arguments).open_store(reading=True)
    if arguments.json:
        print_json(corpora_json(store))
    else:
        print_corpora(store, Console())
    return 0


def show(arguments: Namespace) -> int:
    """Print a version's report, for a person or as JSON."""
    from stoker.flows.cli.curation.query import show_samples
    from stoker.flows.cli.show import print_version, version_json
    from stoker.flows.report.remembered import memory_text
    from stoker.pipelines.stages.remembering.counting import count_remembered
    from stoker.storage.clock import utc_now
    from stoker.storage.plural import plural
    from stoker.storage.versions.catalog import versions
    from stoker.storage.versions.memory.taken_out import count_taken_out

    store = load_settings(arguments).open_store(reading=True)
    manifest = load_manifest(store, arguments.corpus)
    if arguments.rejected or arguments.reason:
        return _rejected(store, manifest, arguments)
    if arguments.where is not None or arguments.by or arguments.sort:
        return show_samples(store, manifest, arguments)
    withdrawn = count_taken_out(store, manifest.shards)
    existing = versions(store, manifest.corpus)
    is_newest = manifest.version == max(existing, default=0)
    remembered = count_remembered(store, manifest.corpus, utc_now()) if is_newest else None
    if arguments.json:
        memory = {"memory": remembered.to_json()} if remembered else {}
        print_json(version_json(manifest, existing) | {"withdrawn": withdrawn} | memory)
    else:
        print_version(manifest, Console(), existing)
        if remembered:
            note(memory_text(remembered))
        if withdrawn:
            note(f"{plural(withdrawn, 'sample')} of it taken out since by `stoker forget`: no reader gets them")
    return 0


def _rejected(store: "Store", manifest: "Manifest", arguments: Namespace) -> int:
    """Print the candidates that are not in the version, one a line, in the order in which they were read."""
    from stoker.flows.report.format import percent_text, visible
    from stoker.flows.report.refusals import all_refusals
    from stoker.flows.report.samples import SampleReader
    from stoker.plugins import suggestion
    from stoker.storage.errors import NotFound

    if manifest.is_indexed:
        raise NotFound(f"{manifest.reference}: Stoker did not write its tars, so what was rejected is unknown")
    reasons = sorted(reason for reason, count in manifest.rejected.items() if count)
    if arguments.reason and arguments.reason not in reasons:
        hint = suggestion(arguments.reason, reasons) if reasons else "nothing was"
        raise NotFound(f"{manifest.reference}: nothing was rejected as {arguments.reason!r}; {hint}")
    found = all_refusals(SampleReader(store), manifest, reason=arguments.reason)
    if arguments.json:
        print_json({"reference": manifest.reference, "rejects": [refusal.to_json() for refusal in found]})
        return 0
    for refusal in found:
        like = "" if refusal.similarity is None else f" ({percent_text(refusal.similarity)} alike)"
        why = f"of {refusal.duplicate_of}{like}" if refusal.duplicate_of else refusal.detail
        columns = (refusal.reason, refusal.key, refusal.url, why, refusal.outcome_class.depends_on)
        print("\t".join(visible(column) for column in columns))
    return 0


def diff(arguments: Namespace) -> int:
    """Print what changed between two versions."""
    from stoker.flows.cli.show import print_difference
    from stoker.flows.report.difference import difference

    store = load_settings(arguments).open_store(reading=True)
    older, newer = load_manifest(store, arguments.older), load_manifest(store, arguments.newer)
    if arguments.json:
        print_json(difference(older, newer, store).to_json())
    else:
        print_difference(older, newer, store, Console())
    return 0


def why(arguments: Namespace) -> int:
    """Print what became of a candidate."""
    from stoker.flows.cli.show import print_lineages
    from stoker.flows.report.lineage import former_text
    from stoker.flows.report.terminal import Sheet
    from stoker.pipelines.registry import reasons_of
    from stoker.pipelines.stages.remembering.former import find_former
    from stoker.pipelines.stages.why import Search
    from stoker.storage.errors import NotFound

    store = load_settings(arguments).open_store(reading=True)
    manifest = load_manifest(store, arguments.corpus)
    if manifest.is_indexed:
        raise NotFound(
            f"{manifest.reference}: Stoker did not write its tars, so what became of a candidate is unknown; what is "
            f"in it: stoker stream {manifest.reference} --json"
        )
    names = list(dict.fromkeys(_names_of(manifest, arguments.text)))
    search = Search(store, manifest)
    lineages = next((found for name in names if (found := search.lineages(name))), [])
    if not lineages and (day := _taken_out(store, manifest, arguments.text)):
        raise NotFound(f"{manifest.corpus}: {arguments.text!r} was taken out on {day}, and is not asked for any more")
    former = None
    if not lineages:
        former = next(filter(None, (find_former(store, manifest, name, search.finder) for name in names)), None)
    if not lineages and former is None:
        raise NotFound(
            f"{manifest.reference}: its sources never offered {arguments.text!r}{_or_purged(store, manifest)}; "
            "expected a sample's key, URL, page's URL or SHA-256, or the path of a local file"
        )
    if arguments.json:
        stories = [lineage.to_json() for lineage in lineages]
        more = {"former": former.to_json()} if former else {}
        print_json({"reference": manifest.reference, "asked": arguments.text, "stories": stories} | more)
    elif former:
        Sheet(Console()).say(former_text(former, manifest, arguments.text))
    else:
        print_lineages(lineages, reasons_of(manifest.recipe), Console())
    return 0


def _taken_out(store: "Store", manifest: "Manifest", text: str) -> str:
    """The day on which this URL, key or SHA-256 was taken out of the corpus, and why; "" if it was not."""
    from stoker.pipelines.stages.forgetting.matching import taken_out_for

    record = {"url": text, "page_url": text, "key": text, "sha256": text.lower()}
    day, reason = taken_out_for(store, manifest.corpus, record)
    return f"{day} ({reason})" if reason else day


def _or_purged(store: "Store", manifest: "Manifest") -> str:
    """By what a candidate may have been taken out that is not found by its names any more."""
    from stoker.pipelines.stages.forgetting.matching import Forgotten

    told = sorted({"author", "host", "page"} & Forgotten.load(store, manifest.corpus).tombstones.kinds)
    return (
        f", or it was purged by its {' or '.join(told)}: then nothing is kept of it but a hash of that" if told else ""
    )


def _names_of(manifest: "Manifest", text: str) -> "Iterator[str]":
    """What records may call a candidate: as it was typed, or a file by its path.

    A file's URL in records is relative to the folder that the recipe's source names. In a URL that was typed, spaces
    and the like may be as they are, or not.
    """
    import os
    import urllib.parse

    yield text
    if text.startswith("file:"):
        path = text.removeprefix("file:").removeprefix("//")
        typed = list(dict.fromkeys(filter(None, (path, urllib.parse.unquote(path)))))
    else:
        typed = [] if "://" in text else [text]
    for name in typed:
        for relative in _relative(manifest, name):
            yield f"file:{urllib.parse.quote(os.fsencode(relative))}"


def _relative(manifest: "Manifest", text: str) -> "Iterator[str]":
    """The paths below its source's folder that a path may mean."""
    import os
    import re
    from pathlib import Path

    yield text  # as records have it: `stoker show --rejected` prints it so
    path = Path(os.path.abspath(Path(text).expanduser()))
    # Records have paths below the folder that the source names: its name stands before them in the path.
    files = manifest.recipe.get("source", {}).get("files", "")
    folder = Path(re.split(r"[*?\[]", files)[0].rpartition("/")[0] if re.search(r"[*?\[]", files) else files).name
    for first in range(len(path.parts) - 1, 0, -1):
        if not folder or path.parts[first - 1] == folder:
            yield "/".join(path.parts[first:])
