"""Read ranges of rows from Parquet and Arrow files, with a bounded number of rows in memory."""

import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.pipelines.errors import SourceBroken, as_broken_source
from stoker.pipelines.tables.columns import Column, column_of_type, columns_of
from stoker.pipelines.tables.open_groups import OpenGroup, give_back, group_key, take
from stoker.pipelines.tables.row_batches import (
    Row,
    Unreadable,
    batch_rows,
    check_batch,
    doubled_name,
    open_parquet,
    rows_of,
    unbounded,
)
from stoker.storage.plain_file import check_plain, open_plain

_BATCH_ROWS = 1024  # rows in memory at once, at most, and fewer of large ones: see ``batch_rows``
MAX_UNPACKED = 128 << 20  # bytes of a batch that few bytes stand for
MAX_RATIO = 200  # of unpacked to packed bytes; buffers of real data of this size stay below, but for constants
_MAGIC = b"ARROW1"  # of a file; a stream has none
_DICTIONARY, _BATCH = 2, 3  # kinds of messages
_MOST = 1 << 31  # bytes of a message's metadata


def columns(path: Path) -> dict[str, Column]:
    """The columns of a Parquet or Arrow file by name. Raises SourceBroken."""
    with _schema(path) as schema:
        _refuse_doubled(path, [pa.field(name, pa.null()) for name in schema.names])
        metadata = (schema.metadata or {}).get(b"huggingface")
        try:
            features = json.loads(metadata)["info"]["features"] if metadata else {}
        except (ValueError, KeyError, TypeError):
            features = {}
        known = columns_of(features) if isinstance(features, dict) else {}
        return {field.name: known.get(field.name) or column_of_type(field.type) for field in schema}


def count_rows(path: Path) -> int:
    """The number of rows of a file. Raises SourceBroken."""
    with _broken_source_errors(path):
        if _is_parquet(path):
            return int(pq.read_metadata(path).num_rows)
        return sum(batch.num_rows for batch in _arrow_batches(path))


def left_out(path: Path, names: Sequence[str]) -> list[str]:
    """Those of these columns that cannot be read in bounded memory. Raises SourceBroken."""
    with _broken_source_errors(path):
        return unbounded(path, names) if names and _is_parquet(path) else []


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Raises SourceBroken if one of these columns cannot be read in bounded memory, as reading it does."""
    if left_out(path, names):
        with _broken_source_errors(path):
            open_parquet(path, names).close()


def read_rows(
    path: Path, start: int, stop: int, names: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[Row]:
    """The columns of these names in the rows from ``start`` to before ``stop``, in order. Raises SourceBroken.

    Of the ``optional`` ones among them, those that cannot be read in bounded memory are Unreadable.
    """
    missing = dict.fromkeys(left_out(path, optional), Unreadable("too_large", "its row group would fill the memory"))
    names = [name for name in dict.fromkeys(names) if name not in missing]
    with _broken_source_errors(path):
        with _schema(path) as schema:
            _refuse_doubled(path, [schema.field(name) for name in names])
        for first, batch in _batches(path, start, stop, names):
            rows = rows_of(batch.slice(max(0, start - first), stop - max(start, first)))
            yield from ({**row, **missing} for row in rows) if missing else rows


def _refuse_doubled(path: Path, fields: Sequence[pa.Field]) -> None:
    name = doubled_name(fields)
    if name:
        raise SourceBroken(f"{path}: two columns are called {name!r}")


def _batches(path: Path, start: int, stop: int, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batches that overlap the range, each with the number of its first row."""
    first = 0
    if not _is_parquet(path):
        for batch in _arrow_batches(path):
            if first < stop and first + batch.num_rows > start:
                check_batch(batch.select(names))
            for offset in range(0, batch.num_rows, _BATCH_ROWS):
                piece = batch.select(names).slice(offset, _BATCH_ROWS)
                if first < stop and first + piece.num_rows > start:
                    yield first, piece
                first += piece.num_rows
            if first >= stop:
                return
        return
    for group, size in enumerate(_group_sizes(path)):
        if first < stop and first + size > start:
            for row, batch in _group_batches(path, group, names, start - first, min(stop - first, size)):
                yield first + row, batch
        first += size


def _group_sizes(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _group_batches(
    path: Path, group: int, names: Sequence[str], start: int, stop: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batches of a row group that overlap the range, each with the number of its first row in the group."""
    key = group_key(path, group, names)
    reader = take(key, max(0, start))
    if reader is None:
        file = open_parquet(path, names)
        rows = batch_rows(file, group, _BATCH_ROWS, names)
        batches = file.iter_batches(batch_size=rows, row_groups=[group], columns=names)
        reader = OpenGroup(key, file, batches, 0)
    sound = False
    try:
        while reader.row < stop and (batch := reader.next_batch()) is not None:
            if reader.row + batch.num_rows > start:
                sound = True  # a caller that reads no further leaves the group as it is
                yield reader.row, batch
                sound = False
            if reader.row + batch.num_rows > stop:
                break  # the next range begins in this batch
            reader.advance()
        sound = stop < reader.file.metadata.row_group(group).num_rows
    finally:
        if sound:
            give_back(reader)
        else:
            reader.file.close()


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file, or of an Arrow stream (the format that ``datasets`` saves)."""
    check_plain(path)
    with pa.memory_map(str(path)) as source:
        checked = check_messages(memoryview(source.read_buffer()))
        source.seek(0)
        if _starts_with(path, _MAGIC):
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            batches = iter(pa.ipc.open_stream(source))
        while True:
            try:
                next(checked, None)
            except ValueError as error:
                raise SourceBroken(f"{path}: {error}") from None
            batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _starts_with(path: Path, magic: bytes) -> bool:
    with open_plain(path) as file:
        return file.read(len(magic)) == magic


def _is_parquet(path: Path) -> bool:
    return _starts_with(path, b"PAR1")


@contextmanager
def _schema(path: Path) -> Iterator[pa.Schema]:
    with _broken_source_errors(path):
        if _is_parquet(path):
            yield pq.read_schema(path)
        else:
            with pa.memory_map(str(path)) as source:
                open_reader = pa.ipc.open_file if _starts_with(path, _MAGIC) else pa.ipc.open_stream
                yield open_reader(source).schema


def _broken_source_errors(path: Path) -> AbstractContextManager[None]:
    errors = (pa.ArrowException, OSError, LookupError, UnicodeDecodeError)  # the last two: damaged names
    return as_broken_source(path, "neither Parquet nor Arrow that can be read", *errors)


# pyarrow decompresses a batch as a whole, and zeros of gigabytes are kilobytes. Each compressed buffer begins with the
# size that it unpacks to. Format: https://arrow.apache.org/docs/format/Columnar.html, and FlatBuffers' "Internals".
class _Flat:
    """Reads tables of a FlatBuffer. Raises struct.error outside of it, ValueError for a place before it."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def number(self, form: str, place: int) -> int:
        if place < 0:
            raise ValueError("a place before the metadata")
        return int(struct.unpack_from(form, self._data, place)[0])

    def root(self) -> int:
        return self.number("<I", 0)

    def field(self, table: int, index: int) -> int:
        """The place of a table's field; 0 if it has none."""
        vtable = table - self.number("<i", table)
        slot = 4 + 2 * index
        offset = self.number("<H", vtable + slot) if slot < self.number("<H", vtable) else 0
        return table + offset if offset else 0

    def follow(self, place: int) -> int:
        """The place that a field points to."""
        return place + self.number("<I", place)

    def structs(self, place: int, form: str) -> Iterator[tuple[int, ...]]:
        """The structs of a vector that a field points to."""
        if place:
            start = self.follow(place)
            size = struct.calcsize(form) * self.number("<I", start)
            yield from struct.iter_unpack(form, self._data[start + 4 : start + 4 + size])


def check_messages(data: memoryview) -> Iterator[None]:
    """Check dictionaries and batches as they are read; yields after each batch, when it and all before it were checked.

    Raises ValueError for one that is made to fill the memory, and for what is no message.
    """
    try:
        places = _file_places(data) if data[: len(_MAGIC)] == _MAGIC else _stream_places(data)
        batches = 0
        for place in places:
            kind, unpacked, packed = _sizes(data, place)
            where = f"batch {batches + 1}" if kind == _BATCH else f"a dictionary before batch {batches + 1}"
            if unpacked > MAX_UNPACKED:
                raise ValueError(
                    f"{where} makes {unpacked} bytes of {packed}; most likely it is made to fill the memory; if it "
                    "is not, write batches of fewer rows, or as Parquet"
                )
            if kind == _BATCH:
                batches += 1
                yield
    except struct.error:
        raise ValueError("a message that lies outside of the file") from None


def _file_places(data: memoryview) -> Iterator[int]:
    """The places of the messages of a file, from its footer: all dictionaries, then the batches, as they are read."""
    tail = len(data) - len(_MAGIC) - 4
    size = _Flat(data).number("<i", tail)
    footer = _Flat(data[max(0, tail - size) : tail])
    root = footer.root()
    for index in (2, 3):
        for offset, _, _ in footer.structs(footer.field(root, index), "<qi4xq"):
            yield offset


def _stream_places(data: memoryview) -> Iterator[int]:
    place = 0
    while place + 4 <= len(data):
        start, size = _metadata(data, place)
        if not size:
            return
        yield place
        flat = _Flat(data[start : start + size])
        field = flat.field(flat.root(), 3)
        length = flat.number("<q", field) if field else 0
        if length < 0:
            raise ValueError("a message of no size")
        place = start + size + length


def _metadata(data: memoryview, place: int) -> tuple[int, int]:
    """The place of a message's metadata and their size, 0 for the mark at the end."""
    flat = _Flat(data)
    if flat.number("<I", place) == 0xFFFFFFFF:
        place += 4
    size = flat.number("<i", place)
    if not 0 <= size < _MOST:
        raise ValueError("a message of no size")
    return place + 4, size


def _sizes(data: memoryview, place: int) -> tuple[int, int, int]:
    """A message's kind, and the bytes that its buffers make of few, with how many these are."""
    start, size = _metadata(data, place)
    flat = _Flat(data[start : start + size])
    message = flat.root()
    kind_place, header = flat.field(message, 1), flat.field(message, 2)
    kind = flat.number("<B", kind_place) if kind_place else 0
    if kind not in (_DICTIONARY, _BATCH) or not header:
        return kind, 0, 0
    batch = flat.follow(header)
    if kind == _DICTIONARY:
        batch = flat.follow(flat.field(batch, 1))
    if not flat.field(batch, 3):  # no compression
        return kind, 0, 0
    unpacked = packed = 0
    for offset, length in flat.structs(flat.field(batch, 2), "<qq"):
        declared = _Flat(data).number("<q", start + size + offset) if length >= 8 else 0
        if declared > MAX_RATIO * length:
            unpacked, packed = unpacked + declared, packed + length
    return kind, unpacked, packed
