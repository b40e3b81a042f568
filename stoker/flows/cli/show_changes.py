"""Reports in the terminal of what changed, what became of a candidate, and what was found wrong."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from stoker.flows.report.difference import Difference, MetricChange, difference
from stoker.flows.report.format import change_text, number_text, plural, size_text, time_text
from stoker.flows.report.lineage import events_of
from stoker.flows.report.reasons import meanings
from stoker.flows.report.terminal import Sheet
from stoker.pipelines.stages.why import Lineage
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest

if TYPE_CHECKING:
    from stoker.storage.verification.verify import Verified

_EXAMPLES = 8
_STATISTICS = 24
_KINDS = {
    "added": "Added",
    "removed": "Removed",
    "changed": "Other content",
    "moved": "Other split",
    "relabelled": "Other label",
}
_COLOURS = {"kept": "green", "rejected": "red", "dropped": "red"}


def diff(a: Manifest, b: Manifest, store: Store, console: Console) -> None:
    """What changed from one version to another. Raises StorageError."""
    found = difference(a, b, store)
    sheet = Sheet(console)
    sheet.title(f"{found.a} → {found.b}", f"{time_text(a.created_at)} → {time_text(b.created_at)}")
    if found.identical:
        sheet.say("The two hold the same samples, byte for byte, in the same splits.")
    counts = [(_KINDS[kind].lower(), getattr(found, kind)) for kind in _KINDS]
    rows = [("samples before", found.samples_a), *counts, ("in both", found.same), ("samples after", found.samples_b)]
    sheet.table(("", "samples>"), ((name, number_text(count)) for name, count in rows), heads=False)
    sheet.note(f"shards in both: {found.shards_shared:,} of {len(a.shards):,} and {len(b.shards):,}")
    _examples(found, sheet)
    if found.refused:
        sheet.heading("Refused, by reason")
        _beside(found.refused, found, sheet)
    if found.statistics:
        sheet.heading("Statistics that differ")
        _beside(found.statistics[:_STATISTICS], found, sheet)
    if found.recipe:
        sheet.heading("Recipe")
        sheet.table(
            ("key…", f"{found.a}*", f"{found.b}*"), ((one.name, one.a or "–", one.b or "–") for one in found.recipe)
        )
    elif a.recipe_digest != b.recipe_digest:
        sheet.say("The recipes are the same; a source, step or rule has other code.")


def _examples(found: Difference, sheet: Sheet) -> None:
    for kind, title in _KINDS.items():
        examples = found.examples.get(kind, ())
        if not examples:
            continue
        sheet.heading(f"{title}: {getattr(found, kind):,}")
        rows = [
            (one.key, " → ".join(part for part in (one.before, one.after) if part), one.title)
            for one in examples[:_EXAMPLES]
        ]
        sheet.table(("key", "", "title…"), rows, heads=False)
        left = getattr(found, kind) - len(rows)
        if left:
            sheet.note(f"and {left:,} more")


def _beside(pairs: Iterable[MetricChange], found: Difference, sheet: Sheet) -> None:
    rows = [(one.name, number_text(one.a), number_text(one.b), _change(one)) for one in pairs]
    sheet.table(("…", f"{found.a}>", f"{found.b}>", "change>"), rows)


def _change(pair: MetricChange) -> str:
    return "" if pair.a is None or pair.b is None else change_text(pair.b - pair.a)


def why(lineages: Sequence[Lineage], console: Console) -> None:
    """The life of each candidate, as a short story."""
    sheet = Sheet(console)
    for place, lineage in enumerate(lineages):
        if place:
            sheet.say("")
        title = str(lineage.record.get("title") or "")
        sheet.title(lineage.key, title if title != lineage.key else "")
        sheet.mark(lineage.state, _COLOURS[lineage.state])
        source = str(lineage.record.get("source") or "")
        known = meanings([source], [lineage.rejected_by], [lineage.rejected_by])
        sheet.facts((line.title, line.text) for line in events_of(lineage, known))
        own = [(name, str(lineage.record[name])) for name in _RECORD if lineage.record.get(name) not in (None, "")]
        if own:
            sheet.say("Its record")
            sheet.facts(own)


_RECORD = (
    "label",
    "caption",
    "language",
    "licence",
    "author",
    "attribution",
    "group",
    "sha256",
    "content_sha256",
    "code",
    "recipe",
)


def verified(found: "Verified", reference: str, console: Console) -> None:
    """What verifying a version found."""
    sheet = Sheet(console)
    what = f"{plural(found.shards, 'shard')}, {plural(found.samples, 'sample')}, {size_text(found.size)}"
    if not found.problems:
        sheet.mark(f"{reference} is whole: {what} read again; every checksum and count is right.", "green")
        return
    sheet.mark(f"{reference} is damaged: {plural(len(found.problems), 'problem')} in {what}.", "red")
    for problem in found.problems:
        sheet.note(problem)
    sheet.say("What next: restore the objects named here from a copy, or ingest again and train on the new version.")
