"""What changed between two versions of a corpus, as plain data. Shards that both have are not read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.flows.report.columns import read_columns
from stoker.flows.report.report import redacted
from stoker.storage.shards import records
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Shard

SCHEMA = 1  # of to_json()
EXAMPLES = 48  # of each kind of change
_COMPARED = ("key", "split", "content_sha256", "label", "title")
_VALUES = 20  # of a column of words whose counts are compared
ReadIndex = Callable[[Shard], pa.Table]


@dataclass(frozen=True, slots=True)
class SampleChange:
    """A sample that changed: the split, label or content before and after, "" where it is not there."""

    key: str
    title: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A number of both versions; None where one has none."""

    name: str
    a: float | None
    b: float | None


@dataclass(frozen=True, slots=True)
class RecipeChange:
    """A value of both recipes; "" where one has none."""

    name: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Difference:
    """From version ``a`` to version ``b``. A sample is the same one if its key is."""

    corpus: str
    a: str
    b: str
    samples_a: int
    samples_b: int
    added: int
    removed: int
    same: int  # in both, whatever changed of them
    changed: int  # of those in both: other bytes
    moved: int  # of those in both: another split
    relabelled: int  # of those in both: another label
    shards_shared: int
    examples: Mapping[str, tuple[SampleChange, ...]]  # by kind of change, the first keys in order
    refused: tuple[MetricChange, ...]
    statistics: tuple[MetricChange, ...]
    recipe: tuple[RecipeChange, ...]

    @property
    def identical(self) -> bool:
        """Whether both hold the same samples in the same splits."""
        return not (self.added or self.removed or self.changed or self.moved or self.relabelled)

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """The difference as JSON values, documented by the dataclasses of this module."""
        return {"schema": SCHEMA} | asdict(self)


def difference(a: Manifest, b: Manifest, store: Store, *, read: ReadIndex | None = None) -> Difference:
    """From ``a`` to ``b``. ``read`` gives a shard's index, by default from the store. Raises StorageError."""
    read = read or (lambda shard: records.decode(store.read(shard.index), columns=_COMPARED))
    theirs = {shard.index_sha256 for shard in b.shards}
    shared = {shard.index_sha256 for shard in a.shards} & theirs
    both = _joined(_samples(a, shared, read), _samples(b, shared, read))
    in_a, in_b = (pc.is_valid(both[f"split_{side}"]) for side in "ab")
    held = pc.and_(in_a, in_b)
    kinds = {
        "added": pc.and_not(in_b, in_a),
        "removed": pc.and_not(in_a, in_b),
        "changed": pc.and_(held, _differs(both, "content_sha256")),
        "moved": pc.and_(held, _differs(both, "split")),
        "relabelled": pc.and_(held, _differs(both, "label")),
    }
    counts = {kind: pc.sum(mask).as_py() or 0 for kind, mask in kinds.items()}
    return Difference(
        corpus=b.corpus,
        a=a.reference,
        b=b.reference,
        samples_a=a.samples,
        samples_b=b.samples,
        **counts,
        same=a.samples - counts["removed"],
        shards_shared=len(shared),
        examples={kind: _examples(both, kind, mask) for kind, mask in kinds.items() if counts[kind]},
        refused=_refused(a, b),
        statistics=_statistics(a, b),
        recipe=_recipe(a.recipe, b.recipe),
    )


def _samples(manifest: Manifest, shared: set[str], read: ReadIndex) -> pa.Table:
    """The compared columns of the samples in shards that the other version lacks, all as text."""
    empty = pa.table({name: pa.array([], pa.string()) for name in _COMPARED})
    tables = [empty]
    for shard in manifest.shards:
        if shard.index_sha256 not in shared:
            table = read(shard)
            columns = {
                name: pc.cast(table[name], pa.string())
                if name in table.column_names
                else pa.nulls(table.num_rows, pa.string())
                for name in _COMPARED
            }
            columns["split"] = pa.array([shard.split] * table.num_rows, pa.string())
            tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _joined(a: pa.Table, b: pa.Table) -> pa.Table:
    a = a.rename_columns([name if name == "key" else f"{name}_a" for name in a.column_names])
    b = b.rename_columns([name if name == "key" else f"{name}_b" for name in b.column_names])
    return a.join(b, keys="key", join_type="full outer").sort_by("key")


def _differs(both: pa.Table, column: str) -> pa.ChunkedArray:
    a, b = both[f"{column}_a"], both[f"{column}_b"]
    return pc.fill_null(pc.not_equal(pc.fill_null(a, ""), pc.fill_null(b, "")), False)


def _examples(both: pa.Table, kind: str, mask: pa.ChunkedArray) -> tuple[SampleChange, ...]:
    column = {"changed": "content_sha256", "relabelled": "label"}.get(kind, "split")
    found = []
    for row in both.filter(mask).slice(0, EXAMPLES).to_pylist():
        before, after = (row[f"{column}_{side}"] or "" for side in "ab")
        if kind == "changed":
            before, after = before[:12], after[:12]
        found.append(SampleChange(row["key"], row["title_b"] or row["title_a"] or "", before, after))
    return tuple(found)


def _refused(a: Manifest, b: Manifest) -> tuple[MetricChange, ...]:
    reasons = sorted(
        {*a.rejected, *b.rejected}, key=lambda one: (-max(a.rejected.get(one, 0), b.rejected.get(one, 0)), one)
    )
    return tuple(MetricChange(one, a.rejected.get(one, 0), b.rejected.get(one, 0)) for one in reasons)


def _statistics(a: Manifest, b: Manifest) -> tuple[MetricChange, ...]:
    """What differs: means and medians of numbers, counts of values and licences."""
    found: list[MetricChange] = []
    (numbers_a, words_a, _), (numbers_b, words_b, _) = read_columns(a.statistics), read_columns(b.statistics)
    own_a, own_b = ({one.column: one for one in numbers} for numbers in (numbers_a, numbers_b))
    for column in dict.fromkeys([*own_b, *own_a]):
        one, other = own_a.get(column), own_b.get(column)
        for what in ("minimum", "median", "mean", "maximum"):
            before, after = (None if side is None else float(getattr(side, what)) for side in (one, other))
            found.append(MetricChange(f"{column.replace('_', ' ')}, {what}", before, after))
    varied = {one.column for one in (*words_a, *words_b) if one.distinct > 1}
    counts_a, counts_b = (
        {(one.column, value.value): value.count for one in words if one.column in varied for value in one.values}
        for words in (words_a, words_b)
    )
    licensed = ((counts_a, a.licences), (counts_b, b.licences)) if len({*a.licences, *b.licences}) > 1 else ()
    for side, licences in licensed:
        side.update({("licence", name): count for name, count in licences.items()})
    changed = [one for one in dict.fromkeys([*counts_b, *counts_a]) if counts_a.get(one) != counts_b.get(one)]
    changed.sort(key=lambda one: -abs(counts_b.get(one, 0) - counts_a.get(one, 0)))
    found += [
        MetricChange(f"{one[0]} = {one[1]}", counts_a.get(one, 0), counts_b.get(one, 0)) for one in changed[:_VALUES]
    ]
    return tuple(one for one in found if one.a != one.b)


def _recipe(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[RecipeChange, ...]:  # Any: TOML
    flat_a, flat_b = dict(_flat(redacted(a))), dict(_flat(redacted(b)))
    names = dict.fromkeys([*flat_a, *flat_b])
    return tuple(
        RecipeChange(name, flat_a.get(name, ""), flat_b.get(name, ""))
        for name in names
        if flat_a.get(name) != flat_b.get(name)
    )


def _flat(value: Any, path: str = "") -> Sequence[tuple[str, str]]:  # Any: TOML
    """Every leaf under its path; steps and rules under their names.

    >>> _flat({"steps": [{"name": "resize", "pixels": 64}], "splits": {"train": 90}})
    [('steps.resize.name', 'resize'), ('steps.resize.pixels', '64'), ('splits.train', '90')]
    """
    if isinstance(value, Mapping):
        return [leaf for name, inner in value.items() for leaf in _flat(inner, f"{path}.{name}" if path else str(name))]
    if isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        leaves: list[tuple[str, str]] = []
        for place, one in enumerate(value):
            name = one.get("name", place) if isinstance(one, Mapping) else place
            leaves += _flat(one, f"{path}.{name}")
        return leaves
    return [(path, str(value))]
