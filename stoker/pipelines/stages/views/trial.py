"""A trial of rules: what they would take of a version, without writing anything."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rule import Rule
from stoker.pipelines.stages.curate import Decided, Judging
from stoker.pipelines.stages.raw_part import kept_columns, read_sample
from stoker.pipelines.stages.views import view
from stoker.pipelines.stages.views.curate_again import decide
from stoker.storage.shards.row_checksum import CRC32C
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Part

_EXAMPLES = 3  # of each rule, worst and borderline ones each
_EXCERPT = 160  # characters
_TOLD = ("title", "url", "label", "caption")  # of a record, with an example
_PLACED = ("start", "stop", "content_sha256", CRC32C)


@dataclass(frozen=True, slots=True)
class Example:
    """A sample that a rule would drop."""

    key: str
    reason: str
    witness: str  # key of the sample because of which it goes; "": none
    similarity: float | None
    record: dict[str, Any]  # title, url, label and caption, where it has them; Any: Parquet values
    excerpt: str  # of its text; "": it has none


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """What one rule would take.

    Args:
        rule: its name; rules of the same name are told as one.
        dropped: samples by reason, of those that the rules before it leave.
        of_version: how many of these the version holds.
        alone: how many it would take if it were the only rule.
        moved: samples that it would give another split.
        worst: of those that the version holds the most similar ones, or the first by key where none has a similarity.
        borderline: the least similar ones.
    """

    rule: str
    dropped: dict[str, int]
    of_version: int
    alone: int
    moved: int
    worst: tuple[Example, ...]
    borderline: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What rules would make of a version.

    Args:
        reference: the version.
        samples: that it holds.
        after: samples that the view would hold.
        leaving: samples of the version that would go.
        returning: samples that would come.
        moving: samples that would lie in another split.
        rules: in the recipe's order, and then Stoker's own.
        together: samples by the rules that would take them, each asked alone: most first.
        splits: percent of each split, asked and reached.
    """

    reference: str
    samples: int
    after: int
    leaving: int
    returning: int
    moving: int
    rules: tuple[RuleTrial, ...]
    together: tuple[tuple[tuple[str, ...], int], ...]
    splits: tuple[tuple[str, float, float], ...]


def trial(recipe: Recipe, before: Manifest, store: Store, scratch: Path, judging: Judging) -> Trial:
    """What a recipe's rules would make of a version; ``recipe`` is that of ``recipe_of``. Raises StorageError.

    Each rule is asked twice, in its place and alone; the only one once.
    """
    decided = decide(recipe, before, store, scratch, judging)
    stored = view.compare(store, before, decided.kept)
    held = list(view.keys_of(store, before))
    alone: dict[str, frozenset[str]] = {}
    for rule in recipe.rules:  # decisions name a rule, so that several of one name are told together
        by_rule = replace(recipe, rules=(rule,))
        drops = _dropped(rule, decided if by_rule == recipe else decide(by_rule, before, store, scratch, judging))
        alone[name_of(rule)] = alone.get(name_of(rule), frozenset()) | drops
    hits = Counter[tuple[str, ...]]()
    for key in set().union(*alone.values()):
        hits[tuple(name for name, keys in alone.items() if key in keys)] += 1
    by_split = Counter(decided.kept["split"].to_pylist())
    total = max(decided.kept.num_rows, 1)
    names = dict.fromkeys([*alone, *decided.table["rule"].to_pylist()])
    read = _Reader(before.parts, store)
    return Trial(
        reference=before.reference,
        samples=before.samples,
        after=decided.kept.num_rows,
        leaving=stored.leaving,
        returning=stored.coming,
        moving=stored.moved,
        rules=tuple(
            _of_rule(name, decided.table.filter(pc.equal(decided.table["rule"], name)), held, alone.get(name), read)
            for name in names
        ),
        together=tuple(hits.most_common()),
        splits=tuple((name, share, 100 * by_split[name] / total) for name, share in recipe.splits.items()),
    )


def _dropped(rule: Rule, decided: Decided) -> frozenset[str]:
    """The keys that a recipe's only rule drops, and no rule of Stoker's own."""
    table = decided.table
    is_drop = pc.and_(pc.equal(table["action"], "drop"), pc.equal(table["rule"], name_of(rule)))
    return frozenset(table["key"].filter(is_drop).to_pylist())


def _of_rule(
    name: str, table: pa.Table, held: Sequence[str], alone: Collection[str] | None, read: "_Reader"
) -> RuleTrial:
    drops = table.filter(pc.equal(table["action"], "drop"))
    leaving = drops.filter(pc.is_in(drops["key"], pa.array(held, pa.string())))
    order = leaving.sort_by([("similarity", "descending"), ("key", "ascending")])
    measured = order.filter(pc.is_valid(order["similarity"]))
    worst, rest = order.slice(0, _EXAMPLES), measured.slice(_EXAMPLES)
    return RuleTrial(
        rule=name,
        dropped=dict(sorted(Counter(drops["value"].to_pylist()).items())),
        of_version=leaving.num_rows,
        alone=drops.num_rows if alone is None else len(alone),
        moved=table.num_rows - drops.num_rows,
        worst=tuple(read.examples(worst)),
        borderline=tuple(read.examples(rest.slice(max(rest.num_rows - _EXAMPLES, 0)))),
    )


class _Reader:
    """Reads what is told of samples that would go."""

    def __init__(self, parts: Sequence[Part], store: Store) -> None:
        self._parts, self._store = {part.digest: part for part in parts}, store

    def examples(self, table: pa.Table) -> Iterable[Example]:
        """The example of each row of decisions. Raises StorageError, DamagedParts among them."""
        for row in table.select(["key", "part", "value", "witness", "similarity"]).to_pylist():
            part = self._parts[row["part"]]
            kept, _ = kept_columns(self._store, part, ["key", *_PLACED, *_TOLD])
            record = kept.filter(pc.equal(kept["key"], row["key"])).slice(0, 1).to_pylist()[0]
            told = {name: record[name] for name in _TOLD if record.get(name) not in (None, "")}
            text = read_sample(self._store, part, record).fields.get("txt", b"")
            excerpt = " ".join(text[: 4 * _EXCERPT].decode(errors="replace").split())[:_EXCERPT]
            yield Example(row["key"], row["value"], row["witness"], row["similarity"], told, excerpt)
