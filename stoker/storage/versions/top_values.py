"""Statistics of a version that are not sums of those of its groups: one kind a column, the most frequent values.

Groups of shards are summarised one by one, and what is kept of many values there is chosen so that merging is exact,
not by how frequent they are. So the values of the whole version are counted once more when it is published, in the
indexes of its shards. Price: those are read whole, if there is such a column; memory holds its distinct values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.shards import records
from stoker.storage.shards.kinds import INDEX
from stoker.storage.statistics.categories import MAX_CATEGORIES, Categories
from stoker.storage.statistics.summary import Column, Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Shard
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.verified import verified_table

_ALWAYS = frozenset({"label", "language"})  # columns whose values are of interest however many there are
_MAX_LENGTH = 1000  # characters of a listed value
_MAX_ROWS = 2**20  # counts held before they are added up


def with_top_values(statistics: Mapping[str, Summary], shards: Sequence[Shard], store: Store) -> dict[str, Summary]:
    """Statistics by split, whose columns of more values than have a count of their own list the most frequent ones.

    The same samples give the same lists, however they are grouped into shards. Raises StorageError, CorruptShard.
    """
    columns = _overfull(statistics.values())
    if not columns:
        return dict(statistics)
    counts = {(split, name): _Counts() for split in statistics for name in columns}
    masks = Masks(store)
    for shard in shards:
        index = verified_table(store, shard.index, INDEX, sha256=shard.index_sha256, columns=columns)
        index = masks.live(shard, index)
        for name in index.column_names:
            counts[shard.split, name].add(index[name])
    result = dict(statistics)
    for name in columns:
        tables = {split: counts[split, name].table() for split in statistics}
        top = _most_frequent(pa.concat_tables(tables.values()))
        for split, table in tables.items():
            result[split] = _with_counts(result[split], name, table.filter(pc.is_in(table["value"], value_set=top)))
    return result


def with_one_kind(statistics: Mapping[str, Summary], shards: Sequence[Shard], store: Store) -> dict[str, Summary]:
    """Statistics by split, in which columns that are numbers in some groups and text in others are text.

    As text they have the same statistics however samples are grouped. Raises StorageError, CorruptShard.
    """
    mixed = [
        name for name, column in _merged(statistics.values()).columns.items() if column.count and column.kind == "mixed"
    ]
    if not mixed:
        return dict(statistics)
    columns = {(split, name): Column() for split in statistics for name in mixed}
    masks = Masks(store)
    for shard in shards:
        index = verified_table(store, shard.index, INDEX, sha256=shard.index_sha256, columns=mixed)
        index = masks.live(shard, index)
        for name in mixed:
            text = _text_of(index[name]) if name in index.column_names else None
            of_shard = summarise(pa.table({name: text or pa.nulls(shard.samples, pa.string())})).columns[name]
            columns[shard.split, name] = columns[shard.split, name].merge(of_shard)
    return {
        split: replace(summary, columns={**summary.columns, **{name: columns[split, name] for name in mixed}})
        for split, summary in statistics.items()
    }


def _text_of(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Texts, flags and numbers as text; None for others, which have no statistics."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pa.chunked_array([records.as_text(column)])
    return None


def _merged(summaries: Iterable[Summary]) -> Summary:
    whole = Summary.empty()
    for summary in summaries:
        whole = whole.merge(summary)
    return whole


def _overfull(summaries: Iterable[Summary]) -> list[str]:
    """The columns that name groups of samples and have values without a count of their own."""
    return [
        name
        for name, column in _merged(summaries).columns.items()
        if column.categories is not None and column.categories.others and (column.is_categorical or name in _ALWAYS)
    ]


_EMPTY = pa.table({"value": pa.array([], pa.string()), "count": pa.array([], pa.int64())})


@dataclass
class _Counts:
    """How often each text occurs in a column that comes in pieces."""

    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0

    def add(self, column: pa.ChunkedArray) -> None:
        text = _text_of(column)
        if text is None:
            return
        values, counts = pc.value_counts(text.drop_null()).flatten()
        self.tables.append(pa.table({"value": values, "count": counts.cast(pa.int64())}))
        self.rows += len(values)
        if self.rows > _MAX_ROWS:
            self.tables = [self.table()]
            self.rows = self.tables[0].num_rows // 2  # so that many distinct values are not added up at every piece

    def table(self) -> pa.Table:
        """Columns ``value`` and ``count``, each value once."""
        return _added_up(pa.concat_tables([_EMPTY, *self.tables]))


def _added_up(table: pa.Table) -> pa.Table:
    sums = table.group_by("value").aggregate([("count", "sum")])
    return sums.select(["value", "count_sum"]).rename_columns(["value", "count"])


def _most_frequent(table: pa.Table) -> pa.Array:
    total = _added_up(table)
    total = total.filter(pc.less_equal(pc.utf8_length(total["value"]), _MAX_LENGTH))
    ordered = total.sort_by([("count", "descending"), ("value", "ascending")])
    return ordered["value"].slice(0, MAX_CATEGORIES).combine_chunks()


def _with_counts(summary: Summary, name: str, table: pa.Table) -> Summary:
    """The summary, with these counts in place of those of a column, if it has any."""
    column = summary.columns.get(name)
    if column is None or column.categories is None:
        return summary
    counts = dict(zip(table["value"].to_pylist(), table["count"].to_pylist(), strict=True))
    total = sum(column.categories.counts.values()) + column.categories.others
    categories = Categories(counts, total - sum(counts.values()), most_frequent=True)
    return replace(summary, columns={**summary.columns, name: replace(column, categories=categories)})
