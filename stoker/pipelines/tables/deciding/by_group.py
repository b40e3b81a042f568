"""Decisions by groups of parts, as ``pack`` takes them, and the types that columns have in a whole version."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.shards import records
from stoker.storage.versions.manifest import Part

DECIDED = ("key", "part", "action", "value")  # columns of a group's decisions
_TYPE = "type of "  # begins the names of columns without values, see ``with_types``


def by_group(
    table: pa.Table, groups: Sequence[Sequence[Part]], types: Iterable[Mapping[str, pa.DataType]]
) -> tuple[bytes, ...]:
    """The decisions on each group's samples, as ``pack`` takes them; one pass over all."""
    group_of = {part.digest: number for number, group in enumerate(groups) for part in group}
    numbers = np.array([group_of[part] for part in table["part"].to_pylist()], np.int64)
    rows = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[rows], np.arange(len(groups) + 1))
    table = table.select(DECIDED)
    decisions = (table.take(pa.array(rows[start:stop])) for start, stop in pairwise(ends))
    return tuple(records.encode(with_types(*of_group)) for of_group in zip(decisions, types, strict=True))


def types_by_group(
    groups: Sequence[Sequence[Part]], parts: Sequence[Part], tables: Sequence[pa.Table]
) -> Iterator[dict[str, pa.DataType]]:
    """Of each group the columns that would have another type there than in the version, and that type.

    So a column has one type in all indexes of a version, also where a group has no value of it.
    """
    whole = records.common_schema(tables)
    table_of = {part.digest: table for part, table in zip(parts, tables, strict=True)}
    for group in groups:
        own = records.common_schema([table_of[part.digest] for part in group])
        yield {field.name: kind for field in own if (kind := whole.field(field.name).type) != field.type}


def with_types(decisions: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The decisions on a group, with empty columns whose types are those of columns of its records."""
    for name, kind in types.items():
        decisions = decisions.append_column(f"{_TYPE}{name}", pa.nulls(decisions.num_rows, kind))
    return decisions


def types_in(decisions: pa.Table) -> dict[str, pa.DataType]:
    """The types that ``with_types`` added."""
    return {field.name[len(_TYPE) :]: field.type for field in decisions.schema if field.name.startswith(_TYPE)}


def without_types(decisions: bytes) -> bytes:
    """The decisions on a group as releases gave them to ``pack`` that typed the columns of each group by themselves."""
    return records.encode(records.decode(decisions, columns=DECIDED))


def ends_of(table: pa.Table) -> pa.Table:
    """Two values of each column: the least and the largest integers, or others; nulls if there are no others."""
    columns = {}
    for name in table.column_names:
        column, ends = table[name], pa.nulls(2, table[name].type)
        if column.null_count < len(column):
            first = pc.index(pc.is_valid(column), True).as_py()
            ends = column.slice(first, 1).take(pa.array([0, 0])).combine_chunks()
            if pa.types.is_integer(column.type):
                ends = pa.array(pc.min_max(column).as_py().values(), column.type)
        columns[name] = ends
    return pa.table(columns)
