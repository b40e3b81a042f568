"""Rows of Parquet and Arrow batches in bounded memory, though a file of a kilobyte may stand for gigabytes.

A dictionary holds a repeated value once; it stays one until a few rows at a time become Python's objects.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stoker.pipelines.errors import SourceBroken

Row = Mapping[str, Any]  # Any: whatever a column holds, or Unreadable
MAX_VALUE = 64 << 20  # bytes of one value that a dictionary stands for
_BUDGET = 32 << 20  # bytes of rows that are unpacked at once
_MAX_CHUNK = 64 << 20  # bytes of one column of a row group, unpacked, where few bytes stand for so many
_MAX_LISTED = 1 << 24  # values of lists of one column of a row group, where few bytes stand for them
_MAX_RATIO = 200  # of unpacked to packed bytes; real columns of this size stay below
_VALUE = 8  # bytes of a number
_BUFFER = 1 << 20  # bytes that are read at once: else a column of a whole row group is
# What pyarrow raises for a value that Python cannot hold: dates after year 9999, time zones that nobody knows (a
# KeyError), text that is not UTF-8 (a ValueError), as are Arrow's own errors.
_UNREADABLE = (OverflowError, LookupError, ValueError)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In the place of a value that cannot be read: the reason of the row's reject, and what is wrong."""

    reason: str = "corrupt"
    detail: str = ""


def open_parquet(path: Path, names: Sequence[str] | None = None) -> pq.ParquetFile:
    """The file, for reading these columns (None: all). Raises SourceBroken for one that is made to fill the memory."""
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
    dictionaries = set[str]()
    for group, column in _chunks(metadata, names):
        chunk = metadata.row_group(group).column(column)
        unpacked = _unbounded(metadata, group, column)
        if unpacked:
            raise SourceBroken(
                f"{path}: column {chunk.path_in_schema!r} of row group {group + 1} makes {unpacked} bytes of "
                f"{chunk.total_compressed_size}; most likely it is made to fill the memory; if it is not, leave it "
                "out, or write fewer rows a group"
            )
        if chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page:
            dictionaries.add(chunk.path_in_schema)
    return pq.ParquetFile(
        path,
        metadata=metadata,
        read_dictionary=sorted(dictionaries),
        buffer_size=_BUFFER,
        page_checksum_verification=True,
    )


def unbounded(path: Path, names: Sequence[str]) -> list[str]:
    """Those of a Parquet file's columns that ``open_parquet`` refuses."""
    metadata = pq.read_metadata(path)
    paths = {
        metadata.schema.column(column).path
        for group, column in _chunks(metadata, names)
        if _unbounded(metadata, group, column)
    }
    return [name for name in names if any(_is_within(path, name) for path in paths)]


def _unbounded(metadata: pq.FileMetaData, group: int, column: int) -> int:
    """The bytes that a column of a row group may make at once, where that is too much; 0 where it is not.

    Batches bound what rows make together, but not one page of values, and not one row with all values of its group.
    """
    chunk = metadata.row_group(group).column(column)
    sizes = [(chunk.total_uncompressed_size, _MAX_CHUNK)]
    if metadata.schema.column(column).max_repetition_level:  # zeros are a few bytes in any encoding
        sizes.append((_VALUE * chunk.num_values, _VALUE * _MAX_LISTED))
    packed = chunk.total_compressed_size
    return max((int(size) for size, most in sizes if size > most and size > _MAX_RATIO * packed), default=0)


def batch_rows(file: pq.ParquetFile, group: int, most: int, names: Sequence[str] | None = None) -> int:
    """How many rows of a row group, at most, are one batch of bounded size."""
    rows = max(1, file.metadata.row_group(group).num_rows)
    size = 0
    for _, column in _chunks(file.metadata, names, [group]):
        chunk = file.metadata.row_group(group).column(column)
        size += max(chunk.total_uncompressed_size, _VALUE * chunk.num_values)
    return max(1, min(most, int(_BUDGET * rows // max(1, size))))


def _chunks(
    metadata: pq.FileMetaData, names: Sequence[str] | None, groups: Iterable[int] | None = None
) -> Iterator[tuple[int, int]]:
    """The row groups and the columns of flat values that belong to the columns of these names."""
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    read = [index for index, path in enumerate(paths) if names is None or any(_is_within(path, name) for name in names)]
    for group in groups if groups is not None else range(metadata.num_row_groups):
        yield from ((group, index) for index in read)


def _is_within(path: str, name: str) -> bool:
    """Whether flat values are those of a column, or within it."""
    return path == name or path.startswith(f"{name}.")


def check_batch(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid for a batch of an Arrow file whose values lie outside of its memory: reading them would crash.

    Text that is not UTF-8, and numbers that are no date, are left to their rows.
    """
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            _as_stored(column).validate(full=True)


def _as_stored(array: pa.Array) -> pa.Array:
    """The array with bytes in the place of texts, and numbers in that of dates and times."""
    if isinstance(array, pa.ExtensionArray):
        return _as_stored(array.storage)
    if isinstance(array, pa.DictionaryArray):
        return pa.DictionaryArray.from_arrays(array.indices, _as_stored(array.dictionary))
    return array.view(_stored_type(array.type))


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_date64(kind) or pa.types.is_time64(kind):
        return pa.int64()
    if pa.types.is_time32(kind):
        return pa.int32()
    if pa.types.is_decimal(kind):
        return pa.binary(kind.byte_width)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_stored_type(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_stored_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_stored_type(kind.value_type)))
    return kind


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch, with Unreadable in the place of values that cannot be read."""
    size = sum(map(_unpacked, batch.columns))
    if batch.num_rows > 1 and (size > _BUDGET or sum(map(_as_objects, batch.columns)) > _BUDGET):
        middle = batch.num_rows // 2
        yield from rows_of(batch.slice(0, middle))
        yield from rows_of(batch.slice(middle))
        return
    if max(size, _VALUE * sum(map(_count, batch.columns))) <= MAX_VALUE:
        plain = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns
        ]
        try:
            yield from pa.RecordBatch.from_arrays(plain, names=batch.schema.names).to_pylist()
            return
        except _UNREADABLE:
            pass  # one of its values: which?
    for index in range(batch.num_rows):
        yield {name: _value(column.slice(index, 1)) for name, column in zip(batch.schema.names, batch, strict=True)}


def _value(column: pa.Array) -> Any:  # Any: whatever the column holds
    """The one value of an array, or Unreadable."""
    size = max(_unpacked(column), _VALUE * _count(column))
    if size > MAX_VALUE:
        return Unreadable("too_large", f"{size} bytes, more than {MAX_VALUE}")
    try:
        return column[0].as_py()
    except UnicodeDecodeError:
        return Unreadable("not_utf8", "text that is not UTF-8")
    except _UNREADABLE as error:
        return Unreadable("corrupt", f"{column.type}: {' '.join(str(error).split())[:100]}")


def _unpacked(array: pa.Array) -> int:
    """The bytes that values of dictionaries take when each row has its own; those of other values are there already."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _unpacked(array.storage)
    if pa.types.is_dictionary(kind):
        if not (_is_binary(kind.value_type)):
            return _unpacked(array.dictionary) * len(array)
        lengths = pc.binary_length(array.dictionary)
        return int(pc.sum(pc.take(lengths, array.indices)).as_py() or 0)
    if pa.types.is_run_end_encoded(kind):
        return int(array.values.nbytes) * len(array)
    if pa.types.is_struct(kind):
        return sum(map(_unpacked, array.flatten()))
    if pa.types.is_map(kind):
        return _unpacked(array.keys) + _unpacked(array.items) if len(array) else 0
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return _unpacked(array.flatten())
    return 0


def _as_objects(array: pa.Array) -> int:
    """About the bytes that values make as Python's objects, without those of dictionaries: see ``_unpacked``."""
    if pa.types.is_dictionary(array.type):
        return _VALUE * len(array)
    return max(int(array.nbytes), _VALUE * _count(array))


def _count(array: pa.Array) -> int:
    """Values in an array, those within lists and structs counted one by one. Copies none of them."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _count(array.storage)
    if pa.types.is_struct(kind):
        return len(array) + sum(_count(array.field(index)) for index in range(kind.num_fields))
    if pa.types.is_fixed_size_list(kind):
        return len(array) + _count(array.values.slice(array.offset * kind.list_size, len(array) * kind.list_size))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        first, last = (max(0, array.offsets[index].as_py()) for index in (0, len(array)))
        return len(array) + _count(array.values.slice(first, max(0, last - first)))
    return len(array)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
    )


def doubled_name(fields: Iterable[pa.Field]) -> str:
    """The first name that two fields have, also within a struct; "" if there is none: Python would keep the last.

    >>> doubled_name(pa.schema([("a", pa.int8()), ("b", pa.struct([("x", pa.int8()), ("x", pa.int8())]))]))
    'b.x'
    """
    seen = set[str]()
    for field in fields:
        if field.name in seen:
            return str(field.name)
        seen.add(field.name)
    for field in fields:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_nested(kind) and not pa.types.is_union(kind):
            inner = doubled_name([kind.field(index) for index in range(kind.num_fields)])
            if inner:
                return f"{field.name}.{inner}"
    return ""
