"""Reports in the terminal: the corpora of a store, and what a version holds and what was rejected."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from stoker.flows.cli.show_changes import print_difference, print_lineages, print_verification
from stoker.flows.page.template import measure, median, options
from stoker.flows.report.columns import CategoryColumn
from stoker.flows.report.format import (
    age_text,
    listed,
    number_text,
    percent_text,
    size_text,
    sparkline,
    time_text,
)
from stoker.flows.report.masked import masked_share
from stoker.flows.report.report import RecipeComponent, Report
from stoker.flows.report.report import report as make_report
from stoker.flows.report.terminal import Sheet
from stoker.storage.errors import StokerError, StorageUnavailable
from stoker.storage.plural import plural
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, load_manifest

__all__ = ["print_corpora", "print_difference", "print_lineages", "print_verification", "print_version", "version_json"]
_BAR_WIDTH = 24
_SPARKLINE_VERSIONS = 8
_MAX_VALUES = 12  # of a column with categories
_MAX_SPLIT_COLUMNS = 4
_MAX_SPLITS = 100  # rows: rich takes a millisecond for each
NOT_THE_MOST_FREQUENT = "a sample of the values, not the most frequent ones: the next version lists those"


def print_corpora(store: Store, console: Console) -> None:
    """Print a line for each corpus: its newest version, what it holds, how it grew. Raises StorageError."""
    sheet = Sheet(console)
    names = catalog.corpora(store)
    if not names:
        sheet.say(f"{store.url} holds no corpus yet; make one: stoker demo, or start from `stoker example`")
        return
    rows: list[Iterable[Text | str]] = []
    errors: list[str] = []
    for name in names:
        versions = catalog.versions(store, name)
        loaded = [_load(store, name, version) for version in versions[-_SPARKLINE_VERSIONS:]]
        errors += [error for error in loaded if isinstance(error, str)]
        growth, newest = _growth(loaded), loaded[-1]
        if isinstance(newest, str):
            rows.append((f"{name}@{versions[-1]}", "?", "?", "?", "", growth if len(loaded) > 1 else ""))
            continue
        rows.append(
            (
                newest.reference,
                number_text(newest.samples),
                size_text(newest.size) + (f", {percent_text(masked_share(newest))} masked" if newest.masked else ""),
                number_text(len(newest.shards)),
                age_text(newest.created_at),
                growth if len(loaded) > 1 else "",
            )
        )
    sheet.table(("corpus", "samples>", "size>", "shards>", "published…", "versions"), rows)
    for message in errors:
        sheet.mark(message, "red")


def _load(store: Store, corpus: str, version: int) -> Manifest | str:
    """A version's manifest, or what is wrong with it. Raises StorageUnavailable."""
    try:
        return load_manifest(store, corpus, version)
    except StorageUnavailable:
        raise
    except StokerError as error:
        return f"{corpus}@{version}: {error}"


def _growth(loaded: Sequence[Manifest | str]) -> str:
    """The samples of versions as a line of columns; a gap for one that cannot be read."""
    return sparkline([0 if isinstance(manifest, str) else manifest.samples for manifest in loaded])


def corpora_json(store: Store) -> dict[str, Any]:  # Any: JSON
    """The corpora of a store as JSON values; ``errors`` of the versions that the table shows. StorageUnavailable."""
    corpora = []
    for name in catalog.corpora(store):
        numbers, newest = catalog.numbers(store, name), None
        versions = numbers.existing
        loaded = [_load(store, name, version) for version in versions[-_SPARKLINE_VERSIONS:]]
        manifest = loaded[-1]
        if not isinstance(manifest, str):
            names = {"reference": manifest.reference, "version": manifest.version, "created_at": manifest.created_at}
            counts = {"samples": manifest.samples, "masked": manifest.masked}
            newest = names | counts | {"shards": len(manifest.shards), "size": manifest.size}
        error = manifest if isinstance(manifest, str) else None
        errors = [text for text in loaded if isinstance(text, str)]
        about = {"corpus": name, "versions": versions, "deleted": numbers.deleted}
        corpora.append(about | {"newest": newest, "error": error, "errors": errors})
    return {"store": store.url, "corpora": corpora}


def version_json(manifest: Manifest, existing: Collection[int] | None = None) -> dict[str, Any]:  # Any: JSON
    """The report of a version as JSON values; documented by the dataclasses of ``stoker.flows.report.report``."""
    return make_report(manifest, existing).to_json()


def print_version(manifest: Manifest, console: Console, existing: Collection[int] | None = None) -> None:
    """Print the report of a version, from its manifest alone. ``existing``: see ``report``."""
    report = make_report(manifest, existing)
    sheet = Sheet(console)
    _head(report, sheet)
    if not report.indexed:
        _funnel(report, sheet)
        _reasons(report, sheet)
        _omitted(report, sheet)
    _splits(report, sheet)
    for column in report.categories:
        if column.distinct > 1 or column.missing:
            _categories(column, [split.name for split in report.splits], sheet)
    _numbers(report, sheet)
    _nested(report, sheet)
    _licences(report, sheet)
    sheet.heading("What next")
    sheet.facts(((step.command, step.does) for step in report.next), style="cyan")


def _head(report: Report, sheet: Sheet) -> None:
    if report.indexed:
        _head_of_indexed(report, sheet)
        return
    rejected = f"{number_text(report.candidates - report.samples)} rejected"
    rejected += f", known {number_text(report.known)}" if report.known else ""
    sheet.title(report.reference, f"{time_text(report.created_at)}, {age_text(report.created_at)}")
    sheet.say(
        f"{report.counted} made from {plural(report.candidates, 'candidate')} of {report.source.name}; "
        f"{rejected}. {size_text(report.size)} in {plural(report.shards, 'shard')}."
    )
    _view(report, sheet)
    sheet.facts(
        [
            ("source", _part(report.source)),
            *((f"step {number}", _part(step)) for number, step in enumerate(report.steps, 1)),
            *((f"rule {number}", _part(rule)) for number, rule in enumerate(report.rules, 1)),
            (
                "made by",
                f"Stoker {report.stoker}, recipe {report.recipe_digest[:12]}, content {report.content[:12]}",
            ),
        ]
    )


def _head_of_indexed(report: Report, sheet: Sheet) -> None:
    sheet.title(report.reference, f"{time_text(report.created_at)}, {age_text(report.created_at)}")
    sheet.say(
        f"{report.counted} in {plural(report.shards, 'external tar')}; {size_text(report.size)}. "
        "What they were made from and what was rejected is unknown."
    )
    _view(report, sheet)
    sheet.facts(
        [
            ("tars", report.tars or "in this store"),
            ("fields", "; ".join(report.fields) or "unknown"),
            ("source", _part(report.source)),
            ("indexed by", f"Stoker {report.stoker}, content {report.content[:12]}"),
        ]
    )


def _view(report: Report, sheet: Sheet) -> None:
    if report.view:
        sheet.mark(report.view, "yellow")


def _part(part: RecipeComponent) -> str:
    text = options(part.options)
    return f"{part.name}: {text}" if text else part.name


def _funnel(report: Report, sheet: Sheet) -> None:
    sheet.heading(f"What became of {plural(report.candidates, 'candidate')}")
    total = report.candidates or 1

    def bar(left: int) -> Text:
        return sheet.bar(left / total, _BAR_WIDTH)

    rows: list[Iterable[Text | str]] = [
        (stage.title, f"-{stage.lost:,}" if stage.lost else "", number_text(stage.left), bar(stage.left))
        for stage in report.funnel
    ]
    kept = percent_text(report.samples / total)
    rows.append((f"in {report.reference}", "", number_text(report.samples), f"{kept} kept"))
    sheet.table(("stage", "rejected>", "left>", ""), rows)
    if report.moved:
        sheet.note(
            f"{plural(report.moved, 'sample')} not in the split of the hash of the group: where older versions have "
            "them, or with similar samples."
        )
    if report.leaks:
        sheet.note(
            f"The same bytes in several splits: {plural(report.leaks, 'content')}, which an older release of Stoker "
            "left so; none is added."
        )


def _reasons(report: Report, sheet: Sheet) -> None:
    if not report.refused:
        return
    sheet.heading("Rejected, by reason")
    top = report.refused[0].count
    rows = [
        (
            reason.reason,
            number_text(reason.count),
            sheet.bar(reason.count / top, 10, "red"),
            reason.meaning,
            reason.outcome_class.depends_on,
        )
        for reason in report.refused
    ]
    sheet.table(("reason", "count>", "", "it means*", "depends on*"), rows)


def _omitted(report: Report, sheet: Sheet) -> None:
    if report.passed:
        steps = (f"{name} passed {plural(count, 'sample')}" for name, count in report.passed.items())
        sheet.note(
            f"steps act on the kinds of samples that they know: {listed(steps, most=_MAX_VALUES)} of another kind"
        )
    if not report.omitted:
        return
    sheet.heading("Left out of the samples, most often")
    top = max(report.omitted.values())
    rows = [(name, number_text(count), sheet.bar(count / top, 10, "red")) for name, count in report.omitted.items()]
    sheet.table(("what*", "count>", ""), rows)


def _splits(report: Report, sheet: Sheet) -> None:
    sheet.heading("Splits")
    rows = [
        (
            split.name,
            number_text(split.samples),
            percent_text(split.share),
            "" if split.asked is None else percent_text(split.asked),
            number_text(split.shards),
            size_text(split.size),
        )
        for split in report.splits[:_MAX_SPLITS]
    ]
    sheet.table(("split", "samples>", "of all>", "asked>", "shards>", "size>"), rows)
    if (hidden := len(report.splits) - _MAX_SPLITS) > 0:
        sheet.note(f"{plural(hidden, 'other split')}; --json has them all")
    for sentence in report.missed[:_MAX_SPLITS]:
        sheet.mark(sentence, "yellow")


def _categories(column: CategoryColumn, splits: list[str], sheet: Sheet) -> None:
    about = "" if column.exact else "about "
    sheet.heading(f"{column.title.capitalize()}: {about}{number_text(column.distinct)}")
    values, cut = column.values[:_MAX_VALUES], column.values[_MAX_VALUES:]
    top = max((value.count for value in values), default=1)
    splits = splits if 1 < len(splits) <= _MAX_SPLIT_COLUMNS else []
    rows: list[Iterable[Text | str]] = [
        (
            value.value or "(empty)",
            *(number_text(value.splits.get(split, 0)) for split in splits),
            number_text(value.count),
            sheet.bar(value.count / top, _BAR_WIDTH // 2),
        )
        for value in values
    ]
    sheet.table((f"{column.column}…", *(f"{split}>" for split in splits), "all>", ""), rows)
    others = column.others + sum(value.count for value in cut)
    rest = [f"{number_text(others)} with other values"] if others else []
    rest += [f"{number_text(column.missing)} without"] if column.missing else []
    if rest:
        sheet.note(f"and {listed(rest)}")
    if not column.most_frequent:
        sheet.note(NOT_THE_MOST_FREQUENT)


def _numbers(report: Report, sheet: Sheet) -> None:
    if not report.numbers:
        return
    sheet.heading("Measures")
    rows: list[Iterable[Text | str]] = []
    for column in report.numbers:
        texts = (measure(column.minimum, column.unit), median(column), measure(column.maximum, column.unit))
        histogram = sheet.histogram(each.count for each in column.bins) if column.bins else "the same in all"
        rows.append((column.title, *texts, histogram))
    sheet.table(("", "least>", "median>", "most>", ""), rows)


def _nested(report: Report, sheet: Sheet) -> None:
    if report.nested:
        columns = (f"{name} ({plural(count, 'sample')})" for name, count in report.nested.items())
        sheet.note(f"lists and objects, which are JSON text in the records: {listed(columns, most=_MAX_VALUES)}")


def _licences(report: Report, sheet: Sheet) -> None:
    sheet.heading("Licences")
    licences = list(report.licences.items())
    samples = max(report.samples, 1)
    rows = [(name, number_text(count), sheet.bar(count / samples, 10)) for name, count in licences[:_MAX_VALUES]]
    sheet.table(("licence*", "samples>", ""), rows)
    hidden = len(licences) - _MAX_VALUES
    notes = [plural(hidden, "other licence")] if hidden > 0 else []
    authors = report.distinct.get("author", 0)
    notes.append(f"about {plural(authors, 'author')}" if authors else "no author is named")
    if report.duplicates:
        notes.append(
            "duplicates: " + listed((f"{name} {count:,}" for name, count in report.duplicates.items()), most=5)
        )
    sheet.note("; ".join(notes))
