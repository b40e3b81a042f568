"""Parquet tables of records: one row per candidate or sample, readable by any tool for tables."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.row_checksum import CRC32C, has_checksums
from stoker.storage.shards.shard import Member, SampleSpan

MEMBERS = pa.list_(pa.struct([("extension", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))
# Columns of every table made of rows, in this order, before all other columns.
FIXED = {
    "key": pa.string(),
    "reason": pa.string(),  # null: kept
    "detail": pa.string(),
    "step": pa.string(),  # the source or step that rejected it
    "partition": pa.string(),
    "start": pa.int64(),  # offset of the sample in the tar; null if rejected
    "stop": pa.int64(),
    "members": MEMBERS,
    CRC32C: pa.uint32(),  # of the bytes [start, stop); null if rejected
    "group": pa.string(),
}
_ROW_GROUP = 65_536  # rows
_SMALL = 2**20  # bytes of a file that one thread reads sooner than Arrow's pool of threads is started and has its turn


def encode(rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:  # Any: JSON values, bytes, lists
    """A Parquet file. The same rows and version of pyarrow give the same bytes.

    A table of rows has the columns of FIXED, then its others in order of name. Lists and objects become JSON text, and
    so does a column whose values have no common type.
    """
    table = rows if isinstance(rows, pa.Table) else _table(rows)
    table = _without_nulls(table).replace_schema_metadata(None).combine_chunks()
    sink = io.BytesIO()
    # Without Arrow's own schema: it differs between tables of the same values that were built in different ways.
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP, store_schema=False)
    return sink.getvalue()


def decode(
    payload: bytes | memoryview,
    *,
    columns: Sequence[str] | None = None,
    dictionaries: Sequence[str] = (),
    rows: int | None = None,
) -> pa.Table:
    """The table in a Parquet file; only those of ``columns`` that it has, if given. Raises CorruptShard.

    ``dictionaries``: Parquet's paths of the texts that are to be dictionaries, where the file has one row group: Arrow
    makes none of nested columns of several. ``rows``: that it must have, which is compared before any is unpacked.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(payload))
        if rows not in (None, file.metadata.num_rows):
            raise CorruptShard(f"has {file.metadata.num_rows} rows, expected {rows}")
        if dictionaries and file.num_row_groups == 1:
            file = pq.ParquetFile(pa.BufferReader(payload), metadata=file.metadata, read_dictionary=list(dictionaries))
        selected = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        table = file.read(columns=selected, use_threads=len(payload) > _SMALL)
        table.validate(full=True)  # Parquet's reader looks at no text
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptShard(f"not Parquet records: {' '.join(str(error).split())[:200]}") from error


def sha256(payload: bytes) -> str:
    """The SHA-256 of a payload, in hex."""
    return hashlib.sha256(payload).hexdigest()


def join(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of all tables in order, with the columns of all, in order of their first appearance.

    A column that a table lacks is null there; the types are those of ``common_schema``.
    """
    bare = [table.replace_schema_metadata(None) for table in tables]
    schema = common_schema(bare)
    return pa.concat_tables([cast(table, schema) for table in bare]) if bare else schema.empty_table()


def common_schema(tables: Sequence[pa.Table]) -> pa.Schema:
    """The columns of all tables, in order of their first appearance, with types that hold the values of all.

    Integers and floats become floats, if those can hold the integers; other differing types become text. A column of
    nulls alone has any type: written alone it is text, but it makes no text of another table's numbers.
    """
    if not tables:
        return pa.schema(list(FIXED.items()))
    columns: dict[str, list[pa.ChunkedArray]] = {}
    for table in tables:
        for name in table.column_names:
            columns.setdefault(name, []).append(table[name])
    # In what older releases wrote a column of the checksums' name is a user's, of any type.
    fixed = {name: kind for name, kind in FIXED.items() if name != CRC32C}
    return pa.schema([(name, fixed.get(name) or _type_of(pieces)) for name, pieces in columns.items()])


def spans(table: pa.Table) -> list[SampleSpan]:
    """Where the sample of each row of an index, or of a raw part's kept samples, lies."""
    columns = (table[name].to_pylist() for name in ("key", "start", "stop", "members"))
    return [
        SampleSpan(key, start, stop, tuple(Member(**member) for member in members or ()), checksum)
        for key, start, stop, members, checksum in zip(*columns, checksums(table), strict=True)
    ]


def checksums(table: pa.Table) -> list[int | None]:
    """The checksum of each row's bytes; None of rows that older releases wrote."""
    return table[CRC32C].to_pylist() if has_checksums(table) else [None] * table.num_rows


def _type_of(columns: Sequence[pa.ChunkedArray]) -> pa.DataType:
    with_values = [column for column in columns if column.null_count < len(column)] or columns
    kind = _common_type([column.type for column in with_values])
    if pa.types.is_floating(kind) and any(_has_large_integers(column) for column in with_values):
        return pa.string()
    return kind


def _has_large_integers(column: pa.ChunkedArray) -> bool:
    """Whether a float64 cannot hold all of the integers."""
    if not pa.types.is_integer(column.type) or column.null_count == len(column):
        return False
    import pyarrow.compute as pc  # not with this module: it takes a tenth of a second of a training's first batch

    ends = pc.min_max(column).as_py()
    return bool(ends["min"] < -(2**53) or ends["max"] > 2**53)


def as_text(column: pa.ChunkedArray) -> pa.Array:
    """The values of a column as text, as it is where values have no common type."""
    return pa.array([_text(value) for value in column.to_pylist()], pa.string())


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = {name for row in rows for name in row}
    others = sorted(names - FIXED.keys())
    columns = {name: _fixed_column([row.get(name) for row in rows], kind) for name, kind in FIXED.items()}
    columns |= {name: _free_column([row.get(name) for row in rows]) for name in others}
    return pa.table(columns)


def _fixed_column(values: list[Any], kind: pa.DataType) -> pa.Array:  # Any: what the column holds
    try:
        return pa.array(values, kind)
    except (UnicodeEncodeError, pa.ArrowInvalid, pa.ArrowTypeError):
        if not pa.types.is_string(kind):
            raise
        return pa.array([_text(value) for value in values], kind)


def _free_column(values: list[Any]) -> pa.Array:  # Any: JSON values and bytes
    # Lists of numbers are text, too: else their column has another type in each part, and no statistics.
    if not any(isinstance(value, Mapping | list | tuple) for value in values):
        try:
            return pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass  # no common type
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.hex()
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # Arrow refuses unpaired surrogates


def _without_nulls(table: pa.Table) -> pa.Table:
    """Columns of nulls alone become text, so that tables whose column has values can be joined to them."""
    for index, field in enumerate(table.schema):
        if pa.types.is_null(field.type):
            table = table.set_column(index, field.name, pa.nulls(table.num_rows, pa.string()))
    return table


def _common_type(types: list[pa.DataType]) -> pa.DataType:
    first, *others = dict.fromkeys(types)
    for other in others:
        try:
            both = [pa.schema([("x", first)]), pa.schema([("x", other)])]
            first = pa.unify_schemas(both, promote_options="permissive").field("x").type
        except pa.ArrowException:
            return pa.string()
    return first


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with these columns, of these types; a column that the table lacks is null."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        if column.type != field.type:
            if column.null_count == table.num_rows:
                column = pa.nulls(table.num_rows, field.type)
            elif pa.types.is_string(field.type):
                column = as_text(column)
            else:
                column = column.cast(field.type)
        columns.append(column)
    return pa.table(columns, schema=schema)
