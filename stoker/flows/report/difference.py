"""The difference between two versions of a corpus, as plain data.

A full outer join on the key, over the shards that only one version has; shards that both have are not read.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.flows.report.columns import NumberColumn, read_columns
from stoker.flows.report.report import redacted
from stoker.storage.shards import records
from stoker.storage.shards.kinds import INDEX
from stoker.storage.statistics.summary import Summary
from stoker.storage.statistics.types import TypeChange, type_changes
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Shard
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.memory.tombstones import load_tombstones
from stoker.storage.versions.verified import verified_table

SCHEMA = 1  # of to_json()
EXAMPLES = 48  # of each kind of change
_COMPARED = ("key", "split", "content_sha256", "label", "title")
_MAX_VALUES = 20  # values of categorical columns that are listed
ReadIndex = Callable[[Shard], pa.Table]


@dataclass(frozen=True, slots=True)
class SampleChange:
    """A sample that changed: its split, label or content before and after, "" where a version does not have it."""

    key: str
    title: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A number in both versions; None where a version does not have it."""

    name: str
    a: float | None
    b: float | None
    about: bool = False  # one of them is not exact: a median, see ``median_error`` of a NumberColumn


@dataclass(frozen=True, slots=True)
class RecipeChange:
    """An option in both recipes; "" where a recipe does not have it."""

    name: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Difference:
    """From version ``a`` to version ``b``. Samples with the same key are the same sample."""

    corpus: str
    a: str
    b: str
    samples_a: int
    samples_b: int
    added: int
    removed: int
    same: int  # in both, changed or not
    changed: int  # of those in both: with other content
    moved: int  # of those in both: in another split
    relabelled: int  # of those in both: with another label
    shards_shared: int  # tars of both, whatever each masks of them
    same_shards: bool  # all shards of both are shared, with their masks: the records are the same, too
    examples: Mapping[str, tuple[SampleChange, ...]]  # by kind of change, the first keys in order
    refused: tuple[MetricChange, ...]
    statistics: tuple[MetricChange, ...]
    recipe: tuple[RecipeChange, ...]
    columns_added: tuple[str, ...]  # of the records: no sample of a has a value in them
    columns_removed: tuple[str, ...]
    columns_changed: tuple[TypeChange, ...] = ()  # in both, with values of another type
    withdrawn: int = 0  # of those removed: taken out of the corpus by `stoker forget`; their titles are not shown

    @property
    def identical(self) -> bool:
        """Whether both hold the same samples in the same splits."""
        return not (self.added or self.removed or self.changed or self.moved or self.relabelled)

    @property
    def sameness(self) -> str:
        """How far the two are the same, in a sentence; "" if their samples or splits differ."""
        if not self.identical:
            return ""
        if self.same_shards:
            return "The two hold the same samples, byte for byte, in the same splits."
        return (
            "The two hold the same images and texts, byte for byte, in the same splits; their records (captions, "
            "licences and the like) or the shards that hold them differ."
        )

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """The difference as JSON values, documented by the dataclasses of this module."""
        return {"schema": SCHEMA} | asdict(self)


def difference(a: Manifest, b: Manifest, store: Store, *, read: ReadIndex | None = None) -> Difference:
    """The difference from ``a`` to ``b``. Raises StorageError.

    Args:
        read: returns a shard's index without masked samples; by default it is read from the store.
    """
    masks = Masks(store)

    def read_live(shard: Shard) -> pa.Table:
        return masks.live(
            shard, verified_table(store, shard.index, INDEX, sha256=shard.index_sha256, columns=_COMPARED)
        )

    read = read or read_live
    shared = {shard.identity for shard in a.shards} & {shard.identity for shard in b.shards}
    both = _joined(_samples(a, shared, read), _samples(b, shared, read))
    withdrawn = _withdrawn(both, a.corpus, store)
    in_a, in_b = (pc.is_valid(both[f"split_{side}"]) for side in "ab")
    in_both = pc.and_(in_a, in_b)
    kinds = {
        "added": pc.and_not(in_b, in_a),
        "removed": pc.and_not(in_a, in_b),
        "changed": pc.and_(in_both, _differs(both, "content_sha256")),
        "moved": pc.and_(in_both, _differs(both, "split")),
        "relabelled": pc.and_(in_both, _differs(both, "label")),
    }
    columns_a, columns_b = _columns(a), _columns(b)
    counts = {kind: pc.sum(mask).as_py() or 0 for kind, mask in kinds.items()}
    return Difference(
        corpus=b.corpus,
        a=a.reference,
        b=b.reference,
        samples_a=a.samples,
        samples_b=b.samples,
        **counts,
        same=a.samples - counts["removed"],
        shards_shared=len({one.index_sha256 for one in a.shards} & {one.index_sha256 for one in b.shards}),
        same_shards=len(shared) == len(a.shards) == len(b.shards),
        examples={kind: _examples(both, kind, mask, withdrawn) for kind, mask in kinds.items() if counts[kind]},
        refused=_refused(a, b),
        statistics=_statistics(a, b),
        recipe=_recipe(a.recipe, b.recipe),
        columns_added=tuple(sorted(columns_b - columns_a)),
        columns_removed=tuple(sorted(columns_a - columns_b)),
        columns_changed=type_changes(_summaries(a), _summaries(b)),
        withdrawn=pc.sum(pc.and_(kinds["removed"], withdrawn)).as_py() or 0,
    )


def _withdrawn(both: pa.Table, corpus: str, store: Store) -> pa.Array:
    """Which of these samples were taken out of the corpus. Raises CorruptShard for damaged tombstones, StorageError."""
    known = load_tombstones(store, corpus)
    gone = known.is_withdrawn("key", both["key"].to_pylist())
    for side in "ab":
        gone |= known.is_withdrawn("sha256", both[f"content_sha256_{side}"].to_pylist())
    return pa.array(gone)


def _samples(manifest: Manifest, shared: set[str], read: ReadIndex) -> pa.Table:
    """The compared columns of the samples in shards that the other version does not have, all as text."""
    schema = pa.schema([(name, pa.string()) for name in _COMPARED])
    tables = [schema.empty_table()]
    for shard in manifest.shards:
        if shard.identity not in shared:
            table = records.cast(read(shard), schema)  # a label may be a number, or whatever an external tar has
            split = pa.array([shard.split] * table.num_rows, pa.string())
            tables.append(table.set_column(table.column_names.index("split"), "split", split))
    return pa.concat_tables(tables)


def _joined(a: pa.Table, b: pa.Table) -> pa.Table:
    a = a.rename_columns([name if name == "key" else f"{name}_a" for name in a.column_names])
    b = b.rename_columns([name if name == "key" else f"{name}_b" for name in b.column_names])
    return a.join(b, keys="key", join_type="full outer").sort_by("key")


def _differs(both: pa.Table, column: str) -> pa.ChunkedArray:
    a, b = both[f"{column}_a"], both[f"{column}_b"]
    return pc.fill_null(pc.not_equal(pc.fill_null(a, ""), pc.fill_null(b, "")), False)


def _examples(both: pa.Table, kind: str, mask: pa.ChunkedArray, withdrawn: pa.Array) -> tuple[SampleChange, ...]:
    column = {"changed": "content_sha256", "relabelled": "label"}.get(kind, "split")
    examples = []
    for row in both.append_column("withdrawn", withdrawn).filter(mask).slice(0, EXAMPLES).to_pylist():
        before, after = (row[f"{column}_{side}"] or "" for side in "ab")
        if kind == "changed":
            before, after = before[:12], after[:12]
        title = "" if row["withdrawn"] else row["title_b"] or row["title_a"] or ""
        examples.append(SampleChange(row["key"], title, before, after))
    return tuple(examples)


def _refused(a: Manifest, b: Manifest) -> tuple[MetricChange, ...]:
    """How many candidates each reject reason has in both versions, the most frequent first."""
    counts = {reason: (a.rejected.get(reason, 0), b.rejected.get(reason, 0)) for reason in {*a.rejected, *b.rejected}}
    reasons = sorted(counts, key=lambda reason: (-max(counts[reason]), reason))
    return tuple(MetricChange(reason, *counts[reason]) for reason in reasons)


def _statistics(a: Manifest, b: Manifest) -> tuple[MetricChange, ...]:
    """What differs: means and medians of numbers, counts of categories and licences."""
    columns_a, columns_b = read_columns(a.statistics), read_columns(b.statistics)
    numbers_a, numbers_b = columns_a.numbers, columns_b.numbers
    categories_a, categories_b = columns_a.categories, columns_b.categories
    changes = [*_number_changes(numbers_a, numbers_b)]
    varied = {column.column for column in (*categories_a, *categories_b) if column.distinct > 1}
    counts_a, counts_b = (
        {
            (column.column, value.value): value.count
            for column in columns
            if column.column in varied
            for value in column.values
        }
        for columns in (categories_a, categories_b)
    )
    unlisted_a, unlisted_b = (
        {column.column for column in columns if column.others} for columns in (categories_a, categories_b)
    )
    if len({*a.licences, *b.licences}) > 1:
        counts_a.update({("licence", name): count for name, count in a.licences.items()})
        counts_b.update({("licence", name): count for name, count in b.licences.items()})
    changed = [
        value
        for value in dict.fromkeys([*counts_b, *counts_a])
        if counts_a.get(value) != counts_b.get(value)
        # A value that one of them does not list may have any count there.
        and (value in counts_a or value[0] not in unlisted_a)
        and (value in counts_b or value[0] not in unlisted_b)
    ]
    changed.sort(key=lambda value: -abs(counts_b.get(value, 0) - counts_a.get(value, 0)))
    for column_name, name in changed[:_MAX_VALUES]:
        value = (column_name, name)
        changes.append(MetricChange(f"{column_name} = {name}", counts_a.get(value, 0), counts_b.get(value, 0)))
    return tuple(change for change in changes if change.a != change.b)


def _number_changes(a: Sequence[NumberColumn], b: Sequence[NumberColumn]) -> Iterator[MetricChange]:
    columns_a, columns_b = ({column.column: column for column in columns} for columns in (a, b))
    for name in dict.fromkeys([*columns_b, *columns_a]):
        for measure in ("minimum", "median", "mean", "maximum"):
            before, after = (
                None if column is None else float(getattr(column, measure))
                for column in (columns_a.get(name), columns_b.get(name))
            )
            sides = (columns_a.get(name), columns_b.get(name))
            about = measure == "median" and any(column and column.median_error != 0 for column in sides)
            if not (about and _may_be_equal(*sides)):
                yield MetricChange(f"{name.replace('_', ' ')}, {measure}", before, after, about)


def _may_be_equal(a: NumberColumn | None, b: NumberColumn | None) -> bool:
    """Whether the medians may be the same, as far as their errors tell."""
    return bool(a and b and a.median_least <= b.median_most and b.median_least <= a.median_most)


def _columns(manifest: Manifest) -> set[str]:
    """The columns of the records in which a sample has a value."""
    summaries = _summaries(manifest).values()
    return {name for summary in summaries for name, column in summary.columns.items() if column.count}


def _summaries(manifest: Manifest) -> Mapping[str, Summary]:
    return {split: Summary.from_json(content) for split, content in manifest.statistics.items()}


def _recipe(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[RecipeChange, ...]:  # Any: TOML
    flat_a, flat_b = dict(_flat(redacted(a))), dict(_flat(redacted(b)))
    for table in ("steps", "rules"):  # what differs in nothing but its place, too
        in_a, in_b = ([str(part.get("name")) for part in recipe.get(table, ())] for recipe in (a, b))
        if _of_both(in_a, in_b) != _of_both(in_b, in_a):
            flat_a[f"{table}, order"], flat_b[f"{table}, order"] = ", ".join(in_a), ", ".join(in_b)
    names = dict.fromkeys([*flat_a, *flat_b])
    return tuple(
        RecipeChange(name, flat_a.get(name, ""), flat_b.get(name, ""))
        for name in names
        if flat_a.get(name) != flat_b.get(name)
    )


def _of_both(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of the names that both have, as often as both have them, in the order of the first.

    >>> _of_both(["a", "b", "a"], ["c", "a", "b"])
    ['a', 'b']
    """
    left = Counter(others)
    kept = []
    for name in names:
        if left[name]:
            left[name] -= 1
            kept.append(name)
    return kept


def _flat(value: Any, path: str = "") -> Sequence[tuple[str, str]]:  # Any: TOML
    """Every option with its path; steps and rules have their names in it, with a number from the second of a name on.

    >>> _flat({"steps": [{"name": "resize", "pixels": 64}], "splits": {"train": 90}})
    [('steps.resize.name', 'resize'), ('steps.resize.pixels', '64'), ('splits.train', '90')]
    >>> _flat({"rules": [{"name": "caps", "most": 3}, {"name": "caps", "most": 9}]})[1::2]
    [('rules.caps.most', '3'), ('rules.caps 2.most', '9')]
    """
    if isinstance(value, Mapping):
        return [leaf for name, inner in value.items() for leaf in _flat(inner, f"{path}.{name}" if path else str(name))]
    if isinstance(value, list | tuple) and any(isinstance(element, Mapping) for element in value):
        leaves: list[tuple[str, str]] = []
        seen = Counter[str]()
        for index, element in enumerate(value):
            name = str(element.get("name", index) if isinstance(element, Mapping) else index)
            seen[name] += 1
            numbered = name if seen[name] == 1 else f"{name} {seen[name]}"
            leaves += _flat(element, f"{path}.{numbered}")
        return leaves
    return [(path, str(value))]
