"""A trial of rules: what they would take of a version, without writing anything."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rule import Rule
from stoker.pipelines.stages.curate import FIRST_RULE, Decided, Judging
from stoker.pipelines.stages.raw_part import kept_columns, read_sample
from stoker.pipelines.stages.views import view
from stoker.pipelines.stages.views.curate_again import decide
from stoker.pipelines.stages.why import Drops
from stoker.storage.shards.row_checksum import CRC32C
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest

_EXAMPLES = 3  # of each rule, worst and borderline ones each
_EXCERPT = 160  # characters
_TOLD = ("title", "url", "label", "caption")  # of a record, with an example
_PLACED = ("start", "stop", "content_sha256", CRC32C)


@dataclass(frozen=True, slots=True)
class Example:
    """A sample that a rule would drop, that would come back, or that would lie in another split.

    Args:
        key: the sample's.
        reason: for which it would be dropped, or was, if it comes back; "" of one that moves.
        rule: that says so.
        witness: key of the sample because of which it goes; "": none.
        similarity: to that; None: not measured.
        stays: key of the sample that would be in the version, the witness or, where that is dropped, the one in its
            place; "": none.
        before: the split in which the version holds it; "": it does not.
        after: the split in which it would be; "": in none.
        record: title, url, label and caption, where it has them.
        excerpt: of its text; "": it has none.
        parts: digests of the raw parts that hold it, the witness and the one that stays, by key.
    """

    key: str
    reason: str
    rule: str
    witness: str
    similarity: float | None
    stays: str
    before: str
    after: str
    record: dict[str, Any]  # Any: Parquet values
    excerpt: str
    parts: dict[str, str]


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
        come: examples of samples that would come.
        move: examples of samples that would lie in another split.
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
    come: tuple[Example, ...]
    move: tuple[Example, ...]


def trial(recipe: Recipe, before: Manifest, store: Store, scratch: Path, judging: Judging) -> Trial:
    """What a recipe's rules would make of a version; ``recipe`` is that of ``recipe_of``. Raises StorageError.

    Each rule is asked twice, in its place and alone; the only one once.
    """
    decided = decide(recipe, before, store, scratch, judging)
    stored = view.compare(store, before, decided.kept)
    held = view.samples_of(store, before)
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
    read = _Reader(before, store, held, decided)
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
        come=tuple(read.come()),
        move=tuple(read.move()),
    )


def _dropped(rule: Rule, decided: Decided) -> frozenset[str]:
    """The keys that a recipe's only rule drops, and no rule of Stoker's own."""
    table = decided.table
    is_drop = pc.and_(pc.equal(table["action"], "drop"), pc.equal(table["rule"], name_of(rule)))
    return frozenset(table["key"].filter(is_drop).to_pylist())


def _of_rule(name: str, table: pa.Table, held: pa.Table, alone: Collection[str] | None, read: "_Reader") -> RuleTrial:
    drops = table.filter(pc.equal(table["action"], "drop"))
    leaving = drops.filter(pc.is_valid(_splits(drops, held)))
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
    """Reads what is told of samples that would go, come or move.

    Args:
        before: the version.
        store: that holds it.
        held: the samples of the version, from ``samples_of``.
        decided: what the rules decide.
    """

    def __init__(self, before: Manifest, store: Store, held: pa.Table, decided: Decided) -> None:
        self._before, self._store, self._held, self._decided = before, store, held, decided
        self._parts = {part.digest: part for part in before.parts}
        self._drops = Drops(decided.table)

    def examples(self, table: pa.Table) -> Iterator[Example]:
        """The example of each row of decisions. Raises StorageError, DamagedParts among them."""
        for row in table.to_pylist():
            yield self._example(row["part"], row, self._stays(row))

    def come(self) -> Iterator[Example]:
        """Samples that the version does not hold and would, the first by key, with why it does not."""
        kept = self._decided.kept
        coming = kept.filter(pc.invert(pc.is_in(kept["key"], value_set=self._held["key"])))
        if not coming.num_rows:
            return
        drops = Drops.of_version(self._store, self._before)
        for row in _first_by_key(coming):
            drop = drops.of(row["part"], row["key"]) or {"key": row["key"], "witness": ""}
            yield self._example(row["part"], drop, self._stays(drop))

    def move(self) -> Iterator[Example]:
        """Samples of the version that would lie in another split, the first by key."""
        kept = self._decided.kept
        moving = kept.filter(pc.fill_null(pc.not_equal(_splits(kept, self._held), kept["split"]), False))
        for row in _first_by_key(moving):
            yield self._example(row["part"], {"key": row["key"]})

    def _example(self, digest: str, decision: Mapping[str, Any], stays: str = "") -> Example:  # Any: Parquet values
        key, witness, part = decision["key"], decision.get("witness") or "", self._parts[digest]
        kept, _ = kept_columns(self._store, part, ["key", *_PLACED, *_TOLD])
        record = kept.filter(pc.equal(kept["key"], key)).slice(0, 1).to_pylist()[0]
        text = read_sample(self._store, part, record).fields.get("txt", b"")
        parts = {key: digest} | {one: self._part_of(one) for one in (witness, stays) if one and one != key}
        return Example(
            key=key,
            reason=decision.get("value", ""),
            rule=decision.get("rule", ""),
            witness=witness,
            similarity=decision.get("similarity"),
            stays=stays,
            before=_split(self._held, key, digest),
            after=_split(self._decided.kept, key, digest),
            record={name: record[name] for name in _TOLD if record.get(name) not in (None, "")},
            excerpt=_excerpt(text),
            parts=parts,
        )

    def _stays(self, drop: Mapping[str, Any]) -> str:  # Any: Parquet values
        """The sample at the end of the witnesses, as the rules would have it; "" if they would keep none."""
        stays = self._drops.follow(drop["key"], drop["witness"])[1] if drop["witness"] else ""
        # The witness of a drop that the version tells may be in no part any more.
        return stays if _value(self._decided.kept, stays, "part") else ""

    def _part_of(self, key: str) -> str:
        """The raw part of a sample that is kept or dropped."""
        table = self._decided.table
        # A sample dropped for its key has a namesake, which is the one that witnesses are.
        others = table.filter(pc.not_equal(table["rule"], FIRST_RULE))
        return _value(self._decided.kept, key, "part") or _value(others, key, "part")


def _excerpt(text: bytes) -> str:
    """The beginning of a text, in one line; what is cut ends with a mark.

    >>> _excerpt(b"one\\n  two"), _excerpt(b"word " * 100)[-8:]
    ('one two', 'd word …')
    """
    read = text[: 4 * _EXCERPT + 4]
    line = " ".join(read.decode(errors="replace").split())
    if len(line) <= _EXCERPT and len(read) == len(text):
        return line
    cut = line[: _EXCERPT - 2]
    words, space, _ = cut.rpartition(" ")
    return (words if space else cut) + " …"


def _first_by_key(samples: pa.Table) -> list[dict[str, Any]]:  # Any: Parquet values
    rows: list[dict[str, Any]] = samples.sort_by("key").slice(0, _EXAMPLES).to_pylist()
    return rows


def _splits(samples: pa.Table, held: pa.Table) -> pa.ChunkedArray:
    """The split in which each sample is held; null: it is not, although a namesake of another part may be."""
    rows = pc.index_in(samples["key"], value_set=held["key"])
    return pc.if_else(pc.equal(held["part"].take(rows), samples["part"]), held["split"].take(rows), None)


def _split(samples: pa.Table, key: str, part: str) -> str:
    """The split in which samples have that of a part; "" if they do not have it."""
    return _value(samples.filter(pc.equal(samples["part"], part)), key, "split")


def _value(table: pa.Table, key: str, name: str) -> str:
    """The value in a column of the first row with a key; "" if there is none."""
    place = pc.index(table["key"], key).as_py()
    return "" if place < 0 else str(table[name][place])
