"""The kinds of Parquet tables, and the columns that readers of each rely on.

A checksum says that a table is the one that was named, not what is in it: other software may have written it. A column
that a kind does not name is a sample's own, of any type.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.records import FIXED, MEMBERS

_TEXT = pa.string()


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of table has."""

    needed: pa.Schema  # columns that are always there; one that is not nullable has a value in each row
    others: Mapping[str, pa.DataType] = field(default_factory=dict)  # of this type where they have any value

    def check(self, table: pa.Table, columns: Collection[str] | None = None) -> pa.Table:
        """The table. Raises CorruptShard naming the first column that is not right; of ``columns`` alone, if given."""
        for one in self.needed:
            if columns is None or one.name in columns:
                _check(table, one, is_needed=True)
        for name, kind in self.others.items():
            _check(table, pa.field(name, kind), is_needed=False)
        return table


def _check(table: pa.Table, expected: pa.Field, *, is_needed: bool) -> None:
    found = [one for one in table.schema if one.name == expected.name]
    if not found and not is_needed:
        return
    if len(found) != 1:
        what = "missing" if not found else f"there {len(found)} times"
        raise CorruptShard(f"its column {expected.name!r} is {what}, expected {expected.type}")
    column = table[expected.name]
    if column.type != expected.type and (is_needed or column.null_count < len(column)):
        raise CorruptShard(f"its column {expected.name!r} is {str(column.type)[:100]}, expected {expected.type}")
    missing = column.null_count if not expected.nullable else 0
    if expected.type == MEMBERS:
        members = column.combine_chunks().flatten()
        missing += members.null_count + sum(members.field(place).null_count for place in range(len(MEMBERS.value_type)))
    if missing:
        raise CorruptShard(f"its column {expected.name!r} has no value in {missing} places, expected {expected.type}")


def _schema(*names: str, maybe_null: Collection[str] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, FIXED.get(name, _TEXT), nullable=name in maybe_null) for name in names])


def _texts(*names: str) -> dict[str, pa.DataType]:
    return dict.fromkeys(names, _TEXT)


_PLACES = ("start", "stop", "members")  # null of what was rejected
RECORDS = Kind(
    _schema("key", "reason", *_PLACES, maybe_null=["reason", *_PLACES]),
    _texts("detail", "step", "partition", "group"),
)
INDEX = Kind(_schema("key", *_PLACES), _texts("split", "part", "group"))  # of a shard, or of an external tar
PACKED_INDEX = Kind(_schema("key", *_PLACES, "split", "part"), _texts("group"))  # of a shard that has raw parts
DECISIONS = Kind(
    _schema("key", "part", "action", "value", "rule"),
    _texts("witness", "detail") | {"similarity": pa.float64(), "verified": pa.bool_()},
)
