"""Reports in the terminal: the difference of two versions, the lineage of a candidate, a verification."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from stoker.flows.report.difference import Difference, MetricChange, difference
from stoker.flows.report.format import change_text, listed, number_text, size_text, time_text
from stoker.flows.report.lineage import events_of
from stoker.flows.report.terminal import Sheet
from stoker.pipelines.rejected import Reason
from stoker.pipelines.stages.why import Lineage
from stoker.storage.plural import plural
from stoker.storage.shards.blank import is_blank
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest

if TYPE_CHECKING:
    from stoker.flows.verify import Repaired
    from stoker.storage.verification.verify import Verified

_MAX_EXAMPLES = 8
_MAX_STATISTICS = 24
_KINDS = {
    "added": "Added",
    "removed": "Removed",
    "changed": "Other content",
    "moved": "Other split",
    "relabelled": "Other label",
}
_OUTCOMES = {"kept": ("kept", "green"), "rejected": ("rejected", "red"), "dropped": ("rejected", "red")}  # by state


def print_difference(a: Manifest, b: Manifest, store: Store, console: Console) -> None:
    """Print what changed from version ``a`` to ``b``. Raises StorageError."""
    changes = difference(a, b, store)
    sheet = Sheet(console)
    sheet.title(f"{changes.a} → {changes.b}", f"{time_text(a.created_at)} → {time_text(b.created_at)}")
    if changes.identical:
        sheet.say(changes.sameness)
    counts = [(_KINDS[kind].lower(), getattr(changes, kind)) for kind in _KINDS]
    rows = [
        ("samples before", changes.samples_a),
        *counts,
        ("in both", changes.same),
        ("samples after", changes.samples_b),
    ]
    sheet.table(("", "samples>"), ((name, number_text(count)) for name, count in rows), heads=False)
    if changes.withdrawn:
        sheet.note(f"taken out by stoker forget, of those removed: {changes.withdrawn:,}")
    sheet.note(f"shards in both: {changes.shards_shared:,} of {len(a.shards):,} and {len(b.shards):,}")
    _examples(changes, sheet)
    if changes.refused:
        sheet.heading("Rejected, by reason")
        _changes(changes.refused, changes, sheet)
    names = {"+": changes.columns_added, "-": changes.columns_removed}
    if any(names.values()) or changes.columns_changed:
        sheet.heading("Columns of the records")
        sheet.facts((f"{sign} {name}", "") for sign, columns in names.items() for name in columns)
        sheet.facts((f"{one.name}: {one.a} → {one.b}", "") for one in changes.columns_changed)
    if changes.statistics:
        sheet.heading("Statistics that differ")
        _changes(changes.statistics[:_MAX_STATISTICS], changes, sheet)
    if changes.recipe:
        sheet.heading("Recipe")
        sheet.table(
            ("key*", f"{changes.a}*", f"{changes.b}*"),
            ((key.name, key.a or "–", key.b or "–") for key in changes.recipe),
        )
    elif a.recipe_digest != b.recipe_digest:
        sheet.say("The recipes are the same; a source, step or rule has other code.")


def _examples(changes: Difference, sheet: Sheet) -> None:
    for kind, title in _KINDS.items():
        examples = changes.examples.get(kind, ())
        if not examples:
            continue
        sheet.heading(f"{title}: {getattr(changes, kind):,}")
        rows = [  # the filler of a purged sample has a key that nobody knows
            (
                "withdrawn" if is_blank(sample.key) else sample.key,
                " → ".join(text for text in (sample.before, sample.after) if text),
                sample.title,
            )
            for sample in examples[:_MAX_EXAMPLES]
        ]
        sheet.table(("key", "", "title…"), rows, heads=False)
        hidden = getattr(changes, kind) - len(rows)
        if hidden:
            sheet.note(f"and {hidden:,} more")


def _changes(pairs: Iterable[MetricChange], changes: Difference, sheet: Sheet) -> None:
    rows = [(pair.name, _number(pair, pair.a), _number(pair, pair.b), _change(pair)) for pair in pairs]
    sheet.table(("*", f"{changes.a}>", f"{changes.b}>", "change>"), rows)


def _number(pair: MetricChange, value: float | None) -> str:
    return f"{'~' if pair.about and value is not None else ''}{number_text(value)}"


def _change(pair: MetricChange) -> str:
    if pair.a is None or pair.b is None:
        return ""
    return f"{'~' if pair.about else ''}{change_text(pair.b - pair.a)}"


def print_lineages(lineages: Sequence[Lineage], reasons: Mapping[str, Reason], console: Console) -> None:
    """Print the lineage of each candidate in short sentences, and its record."""
    sheet = Sheet(console)
    for number, lineage in enumerate(lineages):
        if number:
            sheet.say("")
        title = str(lineage.record.get("title") or "")
        sheet.title(lineage.key, title if title != lineage.key else "")
        sheet.mark(*(("withdrawn", "red") if lineage.withdrawn else _OUTCOMES[lineage.state]))
        sheet.facts((line.title, line.text) for line in events_of(lineage, reasons))
        own = sorted(name for name in lineage.record if name not in _NAMED and name not in _TOLD)
        names = [*(name for name in _NAMED if name not in _LAST), *own, *_LAST]
        record = [
            (_NAMED.get(name, name), str(lineage.record[name]))
            for name in names
            if lineage.record.get(name) not in (None, "")
        ]
        if record:
            sheet.say("Its record")
            sheet.facts(record)


_NAMED = {  # columns of Stoker's own, in this order, and how they are called
    "label": "label",
    "caption": "caption",
    "language": "language",
    "licence": "licence",
    "author": "author",
    "attribution": "attribution",
    "group": "group",
    "sha256": "sha256",
    "content_sha256": "content_sha256",
    "pixels_sha256": "pixels_sha256",
    "code": "code",
    "recipe": "recipe for fetching",  # its part before the rules; `show` names the whole recipe's digest
}
_LAST = ("sha256", "content_sha256", "pixels_sha256", "code", "recipe")  # after the columns of the source's own
# What the sentences above the record tell.
_TOLD = frozenset({"key", "title", "source", "partition", "step", "reason", "detail", "fetched_at", "final_url"})


def print_verification(result: "Verified", reference: str, console: Console, repaired: "Repaired") -> None:
    """Print the result of verifying a version, and what its repair did."""
    sheet = Sheet(console)
    for key in repaired.rewritten:
        sheet.note(f"written again: {key}")
    for key in repaired.removed:
        sheet.note(f"removed, the next run makes it again: {key}")
    if lost := result.lost_originals:
        sheet.note(
            f"{plural(len(lost), 'tar')} of originals lost, which is no damage of {reference}: what they held is asked "
            f"for again when a recipe needs it: {listed(lost, most=3)}"
        )
    counts = f"{plural(result.shards, 'shard')}, {plural(result.samples, 'sample')}, {size_text(result.size)}"
    if not result.problems:
        sheet.mark(f"{reference} is whole: {counts} read again; every checksum and count is right.", "green")
        return
    sheet.mark(f"{reference} is damaged: {plural(len(result.problems), 'problem')} in {counts}.", "red")
    for problem in result.problems:
        sheet.note(problem)
    advice = list(repaired.advice)
    if not advice:
        advice = [
            f"`stoker verify --repair {reference}` writes again what can be derived, and says what to do about the rest"
        ]
    for line in advice:
        sheet.say(f"What next: {line}.")
