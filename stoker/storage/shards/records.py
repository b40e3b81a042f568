"""Records as Parquet: what is known of every candidate and sample, for any tool that reads tables."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.storage.errors import CorruptShard

MEMBERS = pa.list_(pa.struct([("extension", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))
# In every table made of rows, in this order, before all other columns.
FIXED = {
    "key": pa.string(),
    "reason": pa.string(),  # null: kept
    "detail": pa.string(),
    "step": pa.string(),  # the source or step that rejected it
    "partition": pa.string(),
    "start": pa.int64(),  # the sample's bytes in the tar; null if rejected
    "stop": pa.int64(),
    "members": MEMBERS,
    "group": pa.string(),
}
_ROWS = 65_536  # of one row group


def encode(rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:  # Any: JSON values, bytes, lists
    """A Parquet file: the same bytes for the same rows and version of pyarrow.

    Rows get the columns of FIXED and then their own in order of name; a column whose values have no common type
    becomes text.
    """
    table = rows if isinstance(rows, pa.Table) else _table(rows)
    table = _without_nulls(table).replace_schema_metadata(None).combine_chunks()
    sink = io.BytesIO()
    # Arrow's own schema stays out: it tells two tables of the same values apart by how they came about.
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROWS, store_schema=False)
    return sink.getvalue()


def decode(payload: bytes | memoryview, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file, or those of the columns that it has. Raises CorruptShard."""
    try:
        file = pq.ParquetFile(pa.BufferReader(payload))
        wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        return file.read(columns=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptShard(f"not Parquet records: {' '.join(str(error).split())[:200]}") from error


def sha256(payload: bytes) -> str:
    """The SHA-256 of a file, in hex."""
    return hashlib.sha256(payload).hexdigest()


def join(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of all tables in order, with the columns of all, in order of their first appearance.

    A column that a table lacks is null there; whole and broken numbers become broken ones; other differing types
    become text.
    """
    given = [table.replace_schema_metadata(None) for table in tables]
    if not given:
        return pa.schema(list(FIXED.items())).empty_table()
    kinds: dict[str, list[pa.DataType]] = {}
    for table in given:
        for field in table.schema:
            kinds.setdefault(field.name, []).append(field.type)
    schema = pa.schema([(name, _common(types)) for name, types in kinds.items()])
    return pa.concat_tables([_fitted(table, schema) for table in given])


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = {name for row in rows for name in row}
    others = sorted(names - FIXED.keys())
    columns = {name: _fixed([row.get(name) for row in rows], kind) for name, kind in FIXED.items()}
    columns |= {name: _column([row.get(name) for row in rows]) for name in others}
    return pa.table(columns)


def _fixed(values: list[Any], kind: pa.DataType) -> pa.Array:  # Any: what the column holds
    try:
        return pa.array(values, kind)
    except (UnicodeEncodeError, pa.ArrowInvalid, pa.ArrowTypeError):
        if not pa.types.is_string(kind):
            raise
        return pa.array([_text(value) for value in values], kind)


def _column(values: list[Any]) -> pa.Array:  # Any: JSON values and bytes
    if not any(isinstance(value, Mapping) or _holds_mappings(value) for value in values):
        try:
            return pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass  # no common type
    return pa.array([_text(value) for value in values], pa.string())


def _holds_mappings(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in value)


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.hex()
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # Arrow takes no half surrogate pairs


def _without_nulls(table: pa.Table) -> pa.Table:
    """Columns that hold nothing become text: what other parts have there can then be joined to them."""
    for place, field in enumerate(table.schema):
        if pa.types.is_null(field.type):
            table = table.set_column(place, field.name, pa.nulls(table.num_rows, pa.string()))
    return table


def _common(types: list[pa.DataType]) -> pa.DataType:
    first, *others = dict.fromkeys(types)
    for other in others:
        try:
            both = [pa.schema([("x", first)]), pa.schema([("x", other)])]
            first = pa.unify_schemas(both, promote_options="permissive").field("x").type
        except pa.ArrowException:
            return pa.string()
    return first


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        if column.type != field.type:
            if pa.types.is_string(field.type):
                column = pa.array([_text(value) for value in column.to_pylist()], pa.string())
            else:
                column = column.cast(field.type)
        columns.append(column)
    return pa.table(columns, schema=schema)
