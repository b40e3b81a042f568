"""Reports in the terminal: what there is, what a version holds, what was refused and why."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from stoker.flows.cli.show_changes import diff, verified, why
from stoker.flows.page.template import measure, options
from stoker.flows.report.columns import CategoryColumn
from stoker.flows.report.format import (
    age_text,
    listed,
    number_text,
    percent_text,
    plural,
    size_text,
    sparkline,
    time_text,
)
from stoker.flows.report.report import RecipeComponent, Report, report
from stoker.flows.report.terminal import Sheet
from stoker.storage.errors import StokerError, StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, load_manifest

__all__ = ["diff", "list_corpora", "show", "show_json", "verified", "why"]
_BAR = 24
_HISTORY = 8  # versions of a sparkline
_VALUES = 12  # of a column of words
_SPLITS = 4  # columns of splits in a table


def list_corpora(store: Store, console: Console) -> None:
    """One line a corpus: its newest version, what it holds, and how it grew. Raises StorageError."""
    sheet = Sheet(console)
    names = catalog.corpora(store)
    if not names:
        sheet.say(f"{store.url} holds no corpus yet; make one: stoker ingest recipes/digits.toml")
        return
    rows: list[Iterable[Text | str]] = []
    damaged: list[str] = []
    for name in names:
        versions = catalog.versions(store, name)
        try:
            manifests = [load_manifest(store, name, version) for version in versions[-_HISTORY:]]
        except StorageUnavailable:
            raise
        except StokerError as error:
            rows.append((f"{name}@{versions[-1]}", "?", "?", "?", "", ""))
            damaged.append(str(error))
            continue
        newest = manifests[-1]
        grown = sparkline([one.samples for one in manifests])
        rows.append(
            (
                newest.reference,
                number_text(newest.samples),
                size_text(newest.size),
                number_text(len(newest.shards)),
                age_text(newest.created_at),
                grown if len(manifests) > 1 else "",
            )
        )
    sheet.table(("corpus", "samples>", "size>", "shards>", "published…", "versions"), rows)
    for message in damaged:
        sheet.mark(message, "red")


def show_json(manifest: Manifest) -> dict[str, Any]:  # Any: JSON
    """What ``show`` prints, as JSON values; documented by the dataclasses of ``stoker.flows.report.report``."""
    return report(manifest).to_json()


def show(manifest: Manifest, console: Console) -> None:
    """A version at a glance and in numbers, from its manifest alone."""
    found = report(manifest)
    sheet = Sheet(console)
    _head(found, sheet)
    if not found.indexed:
        _road(found, sheet)
        _refused(found, sheet)
    _splits(found, sheet)
    for one in found.categories:
        if one.distinct > 1 or one.missing:
            _words(one, [split.name for split in found.splits], sheet)
    _measures(found, sheet)
    _rights(found, sheet)
    sheet.heading("What next")
    sheet.facts(((one.command, one.does) for one in found.next), style="cyan")


def _head(found: Report, sheet: Sheet) -> None:
    kind = found.holds[:-1]
    if found.indexed:
        _head_of_indexed(found, kind, sheet)
        return
    refused = found.candidates - found.samples
    sheet.title(found.reference, f"{time_text(found.created_at)}, {age_text(found.created_at)}")
    sheet.say(
        f"{plural(found.samples, kind)} made from {plural(found.candidates, 'candidate')} of {found.source.name}; "
        f"{number_text(refused)} refused. {size_text(found.size)} in {plural(found.shards, 'shard')}."
    )
    sheet.facts(
        [
            ("source", _part(found.source)),
            *((f"step {place}", _part(one)) for place, one in enumerate(found.steps, 1)),
            *((f"rule {place}", _part(one)) for place, one in enumerate(found.rules, 1)),
            ("made by", f"Stoker {found.stoker}, recipe {found.recipe_digest[:12]}, content {found.content[:12]}"),
        ]
    )


def _head_of_indexed(found: Report, kind: str, sheet: Sheet) -> None:
    sheet.title(found.reference, f"{time_text(found.created_at)}, {age_text(found.created_at)}")
    sheet.say(
        f"{plural(found.samples, kind)} in {plural(found.shards, 'tar')} that others wrote; {size_text(found.size)}. "
        "What they were made from and what was refused is unknown."
    )
    sheet.facts(
        [
            ("tars", found.tars or "in this store"),
            ("fields", "; ".join(found.fields) or "unknown"),
            ("source", _part(found.source)),
            ("indexed by", f"Stoker {found.stoker}, content {found.content[:12]}"),
        ]
    )


def _part(part: RecipeComponent) -> str:
    given = options(part.options)
    return f"{part.name}: {given}" if given else part.name


def _road(found: Report, sheet: Sheet) -> None:
    sheet.heading(f"What became of {plural(found.candidates, 'candidate')}")
    total = found.candidates or 1
    rows: list[Iterable[Text | str]] = [
        (one.title, f"-{one.lost:,}" if one.lost else "", number_text(one.left), sheet.bar(one.left / total, _BAR))
        for one in found.funnel
    ]
    kept = percent_text(found.samples / total)
    rows.append((f"in {found.reference}", "", number_text(found.samples), f"{kept} kept"))
    sheet.table(("stage", "refused>", "left>", ""), rows)
    if found.moved:
        sheet.note(f"{plural(found.moved, 'sample')} changed the split, so that alike ones stand together.")


def _refused(found: Report, sheet: Sheet) -> None:
    if not found.refused:
        return
    sheet.heading("Refused, by reason")
    top = found.refused[0].count
    rows = [
        (one.reason, number_text(one.count), sheet.bar(one.count / top, 10, "red"), one.meaning)
        for one in found.refused
    ]
    sheet.table(("reason", "count>", "", "it means*"), rows)


def _splits(found: Report, sheet: Sheet) -> None:
    sheet.heading("Splits")
    rows = [
        (one.name, number_text(one.samples), percent_text(one.share), number_text(one.shards), size_text(one.size))
        for one in found.splits
    ]
    sheet.table(("split", "samples>", "of all>", "shards>", "size>"), rows)


def _words(words: CategoryColumn, splits: list[str], sheet: Sheet) -> None:
    about = "" if words.exact else "about "
    sheet.heading(f"{words.title.capitalize()}: {about}{number_text(words.distinct)}")
    shown = words.values[:_VALUES]
    top = max((one.count for one in shown), default=1)
    named = splits if 1 < len(splits) <= _SPLITS else []
    rows: list[Iterable[Text | str]] = [
        (
            one.value or "(empty)",
            *(number_text(one.splits.get(split, 0)) for split in named),
            number_text(one.count),
            sheet.bar(one.count / top, _BAR // 2),
        )
        for one in shown
    ]
    sheet.table((f"{words.column}…", *(f"{split}>" for split in named), "all>", ""), rows)
    others = words.others + sum(one.count for one in words.values[_VALUES:])
    rest = [f"{number_text(others)} with other values"] if others else []
    rest += [f"{number_text(words.missing)} without"] if words.missing else []
    if rest:
        sheet.note(f"and {listed(rest)}")


def _measures(found: Report, sheet: Sheet) -> None:
    if not found.numbers:
        return
    sheet.heading("Measures")
    rows: list[Iterable[Text | str]] = []
    for one in found.numbers:
        low, middle, high = (measure(value, one.unit) for value in (one.minimum, one.median, one.maximum))
        drawn: Text | str = sheet.histogram(each.count for each in one.bins) if one.bins else "the same in all"
        rows.append((one.title, low, middle, high, drawn))
    sheet.table(("", "least>", "median>", "most>", ""), rows)


def _rights(found: Report, sheet: Sheet) -> None:
    sheet.heading("Licences")
    shown = list(found.licences.items())
    rows = [(name, number_text(count), sheet.bar(count / max(found.samples, 1), 10)) for name, count in shown[:_VALUES]]
    sheet.table(("licence…", "samples>", ""), rows)
    said = [f"{plural(len(shown) - _VALUES, 'other licence')}"] if len(shown) > _VALUES else []
    authors = found.distinct.get("author", 0)
    said.append(f"about {plural(authors, 'author')}" if authors else "no author is named")
    if found.duplicates:
        said.append("duplicates: " + listed((f"{name} {count:,}" for name, count in found.duplicates.items()), most=5))
    sheet.note("; ".join(said))
