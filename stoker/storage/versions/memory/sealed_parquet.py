"""Parquet files in which every altered or missing byte is found, also when they are read in part.

The footer's metadata hold where each row group ends and its CRC-32, and the footer's own SHA-256. So a reader that has
the end of a file and one of its row groups has compared all that it reads. To any other reader it is plain Parquet.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stoker.storage.errors import CorruptShard, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions.document import Document
from stoker.storage.versions.sealed import canonical
from stoker.storage.versions.verified import put, second_read

SCHEMA = 1  # of the metadata below; raise it also when a table has other columns
ROW_GROUP = 32_768  # rows: a lookup reads one group, and a merge holds one of each file
_MAGIC = b"PAR1"
_METADATA = b"stoker"  # in the footer: {"groups": [[end, crc32], ...], "schema": ..., "seal": ...}
_SEAL, _HEX = b'"seal":"', 64  # what stands before the seal, and its length
_MAX_TAIL = 256 * 2**20  # bytes
_MAX_GROUP = 2**30  # bytes of a row group, unpacked


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A sealed Parquet object, as others name it."""

    key: str
    size: int  # bytes
    sha256: str
    rows: int
    tail: int  # bytes of the footer, at the end of the object

    @classmethod
    def from_document(cls, document: Document) -> "StoredTable":
        """What stands in a JSON object. Raises CorruptShard."""
        return cls(
            key=document.text("key"),
            size=document.whole("size"),
            sha256=document.text("sha256"),
            rows=document.whole("rows"),
            tail=document.whole("tail"),
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer has written."""

    size: int  # bytes
    sha256: str
    rows: int
    tail: int  # bytes of the footer

    def stored_as(self, key: str) -> StoredTable:
        """The same with the key that it gets in a store."""
        return StoredTable(key, self.size, self.sha256, self.rows, self.tail)


class SealedWriter:
    """Writes a table to a file, row group by row group. The same rows and pyarrow give the same bytes.

    Args:
        file: open for writing in binary.
        schema: the columns.
        dictionaries: those of few different values.
        statistics: those by which readers choose row groups.
        group: rows of a row group; None: ROW_GROUP.
    """

    def __init__(
        self,
        file: BinaryIO,
        schema: pa.Schema,
        *,
        dictionaries: Sequence[str] = (),
        statistics: Sequence[str] = (),
        group: int | None = None,
    ) -> None:
        self._group = group or ROW_GROUP
        self._sink = _Sink(file)
        self._schema = schema
        # Without Arrow's own schema: it differs between tables of the same values that were built in different ways.
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            schema,
            compression="zstd",
            use_dictionary=list(dictionaries),
            write_statistics=list(statistics),
            store_schema=False,
        )
        self._waiting: list[pa.Table] = []
        self._groups: list[tuple[int, int]] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows. How many come at a time makes no difference to the file."""
        self._waiting.append(table.select(self._schema.names).cast(self._schema))
        if sum(waiting.num_rows for waiting in self._waiting) < self._group:
            return
        joined = pa.concat_tables(self._waiting)
        whole = joined.num_rows - joined.num_rows % self._group
        for start in range(0, whole, self._group):
            self._write_group(joined.slice(start, self._group))
        self._waiting = [joined.slice(whole)]

    def close(self) -> Written:
        """Write what is left, and the footer."""
        rest = pa.concat_tables([*self._waiting, self._schema.empty_table()])
        if rest.num_rows:
            self._write_group(rest)
        content = {"groups": self._groups, "schema": SCHEMA, "seal": "0" * _HEX}
        self._sink.footer = bytearray()
        self._parquet.add_key_value_metadata({_METADATA: canonical(content)})
        self._parquet.close()
        tail = self._sink.footer
        place = tail.rindex(_SEAL) + len(_SEAL)
        tail[place : place + _HEX] = hashlib.sha256(tail).hexdigest().encode()
        self._sink.footer = None
        self._sink.write(bytes(tail))
        return Written(self._sink.size, self._sink.sha256.hexdigest(), self._rows, len(tail))

    def discard(self) -> None:
        """Write no more; does nothing after ``close``."""
        if self._parquet.is_open:
            self._sink.footer = bytearray()  # goes nowhere
            self._parquet.close()

    def _write_group(self, table: pa.Table) -> None:
        self._parquet.write_table(table.combine_chunks(), row_group_size=self._group)
        self._groups.append((self._sink.size, self._sink.crc32))  # of the first group with the magic bytes before it
        self._sink.crc32 = 0
        self._rows += table.num_rows


class _Sink(io.RawIOBase):
    """Passes bytes on to a file and counts them; those of the footer are held back."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.footer: bytearray | None = None
        self.sha256 = hashlib.sha256()
        self.crc32 = 0
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size + len(self.footer or b"")

    def write(self, payload: Any) -> int:  # Any: a buffer
        content = bytes(payload)
        if self.footer is not None:
            self.footer += content
        else:
            self._file.write(content)
            self.sha256.update(content)
            self.crc32 = zlib.crc32(content, self.crc32)
            self.size += len(content)
        return len(content)


def encode(
    table: pa.Table, *, dictionaries: Sequence[str] = (), statistics: Sequence[str] = ()
) -> tuple[bytes, Written]:
    """The file of a table in memory, see ``SealedWriter``."""
    file = io.BytesIO()
    writer = SealedWriter(file, table.schema, dictionaries=dictionaries, statistics=statistics)
    writer.write(table)
    written = writer.close()
    return file.getvalue(), written


def put_table(
    store: Store,
    key_of: Callable[[str], str],
    open_writer: Callable[[BinaryIO], SealedWriter],
    fill: Callable[[SealedWriter], None],
    *,
    folder: Path | None = None,
) -> StoredTable:
    """Put a table into a store by way of a temporary file, so that memory holds a row group of it. Raises StorageError.

    Args:
        store: gets the object when the table is complete.
        key_of: its key, from its SHA-256.
        open_writer: makes the writer of a file.
        fill: writes the rows.
        folder: of the temporary file; None: the system's.
    """
    try:
        with TemporaryDirectory(prefix="stoker-", dir=folder) as name:
            path = Path(name) / "table.parquet"
            with path.open("wb") as file:
                writer = open_writer(file)
                try:
                    fill(writer)
                    written = writer.close()
                finally:
                    writer.discard()
            stored = written.stored_as(key_of(written.sha256))
            put(store, stored.key, path, sha256=stored.sha256)
            return stored
    except OSError as error:
        raise StorageRefused(
            f"{folder or gettempdir()}: {error.strerror or error}; a table is written there"
        ) from error


@dataclass(frozen=True, slots=True)
class Group:
    """A row group and its bytes in the file."""

    index: int
    start: int
    stop: int
    crc32: int


class SealedReader:
    """Reads a sealed Parquet file in part. All errors of its bytes are CorruptShard.

    Args:
        read: the bytes from a start to a stop.
        size: bytes of the file.
        tail: bytes of its footer; None: it says itself how many, which costs one more read.
        schema: the columns that it must have.
        where: its address, for messages.
        remedy: what to do about a damaged one.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        *,
        size: int,
        schema: pa.Schema,
        where: str,
        remedy: str,
        tail: int | None = None,
    ) -> None:
        self._read, self._size, self._tail = read, size, tail
        self.schema, self._where, self._remedy = schema, where, remedy

    @classmethod
    def of_object(cls, store: Store, stored: StoredTable, *, schema: pa.Schema, remedy: str) -> "SealedReader":
        """A reader of an object; reads nothing yet."""
        return cls(
            lambda start, stop: store.read(stored.key, start=start, size=stop - start),
            size=stored.size,
            tail=stored.tail,
            schema=schema,
            where=f"{store.url}/{stored.key}",
            remedy=remedy,
        )

    @property
    def groups(self) -> list[Group]:
        """The row groups, in order."""
        return self._footer[1]

    @property
    def rows(self) -> int:
        """Rows of all groups."""
        return int(self._footer[0].num_rows)

    def bounds(self, group: Group, column: str) -> tuple[Any, Any]:  # Any: values of the column
        """The least and the greatest value of a column in a row group."""
        chunk = self._footer[0].row_group(group.index).column(self.schema.get_field_index(column))
        if chunk.statistics is None or not chunk.statistics.has_min_max:
            raise self._damaged(f"row group {group.index} has no bounds of {column!r}")
        return chunk.statistics.min, chunk.statistics.max

    def table(self, groups: Sequence[Group], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of consecutive row groups, by one read of their bytes; only those columns, if given."""
        return self._decode(groups, self._fetch(groups), columns)

    def with_hash(self, wanted: int, column: str = "hash") -> pa.Table:
        """The rows of one hash, of a file that is sorted by it and has its statistics: one read, and one of the footer.

        Empty if there are none.
        """
        bounds = [(group, self.bounds(group, column)) for group in self.groups]
        groups = [group for group, (least, greatest) in bounds if least <= wanted <= greatest]
        payload = self._fetch(groups)
        equal = pc.equal(self._decode(groups, payload, [column])[column], pa.scalar(wanted, pa.uint64()))
        if not pc.any(equal, min_count=0).as_py():
            return self.schema.empty_table()
        return self._decode(groups, payload, None).filter(equal)

    def scan(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of one group after the other."""
        for group in self.groups:
            yield self.table([group], columns)

    def _fetch(self, groups: Sequence[Group]) -> bytes:
        """The bytes of consecutive row groups, compared with their checksums."""

        def read() -> bytes:
            payload = self._read(groups[0].start, groups[-1].stop)
            for group in groups:
                of_group = payload[group.start - groups[0].start : group.stop - groups[0].start]
                if zlib.crc32(of_group) != group.crc32:
                    raise self._damaged(f"row group {group.index} differs from its checksum")
            return payload

        return second_read(read) if groups else b""

    def _decode(self, groups: Sequence[Group], payload: bytes, columns: Sequence[str] | None) -> pa.Table:
        names = self.schema.names if columns is None else list(columns)
        if not groups:
            return self.schema.empty_table().select(names)
        metadata = self._footer[0]
        unpacked = sum(metadata.row_group(group.index).total_byte_size for group in groups)
        if unpacked > _MAX_GROUP * len(groups):
            raise self._damaged(f"{unpacked:,} bytes in {len(groups)} row groups")
        window = _Window(payload, groups[0].start, self._size)
        try:
            file = pq.ParquetFile(pa.PythonFile(window, mode="r"), metadata=metadata, pre_buffer=False)
            found = file.read_row_groups([group.index for group in groups], columns=names, use_threads=False)
            return found.replace_schema_metadata(None).cast(pa.schema([self.schema.field(name) for name in names]))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._damaged(" ".join(str(error).split())[:200]) from error

    @cached_property
    def _footer(self) -> tuple[pq.FileMetaData, list[Group]]:
        return second_read(self._read_footer)

    def _read_footer(self) -> tuple[pq.FileMetaData, list[Group]]:
        size = self._tail
        if size is None:
            size = int.from_bytes(self._read(max(0, self._size - 8), self._size)[:4], "little") + 8
        if not 0 < size <= min(self._size, _MAX_TAIL):
            raise self._damaged("it has no footer")
        tail = self._read(self._size - size, self._size)
        place = tail.rfind(_SEAL) + len(_SEAL)
        blank = tail[:place] + b"0" * _HEX + tail[place + _HEX :]
        if place < len(_SEAL) or hashlib.sha256(blank).hexdigest().encode() != tail[place : place + _HEX]:
            raise self._damaged("its footer differs from its checksum")
        try:
            metadata = pq.read_metadata(pa.BufferReader(tail))
            content = json.loads(metadata.metadata[_METADATA])
            schema, ends = content["schema"], content["groups"]
            starts = [0, *(stop for stop, _ in ends)]
            groups = [Group(index, starts[index], stop, crc32) for index, (stop, crc32) in enumerate(ends)]
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(" ".join(str(error).split())[:200]) from error
        if schema > SCHEMA:
            raise StorageRefused(
                f"{self._where}: written with schema {schema}, and this Stoker knows up to {SCHEMA}; upgrade Stoker"
            )
        if metadata.num_row_groups != len(groups) or starts[-1] != (self._size - size if groups else 0):
            raise self._damaged("its row groups do not lie end to end")
        if metadata.schema.to_arrow_schema().names != self.schema.names:
            raise self._damaged(f"columns {', '.join(metadata.schema.names)[:200]}")
        return metadata, groups

    def _damaged(self, what: str) -> CorruptShard:
        return CorruptShard(f"{self._where}: damaged: {what}; {self._remedy}")


def decode(payload: bytes, *, schema: pa.Schema, where: str, remedy: str) -> pa.Table:
    """The rows of a whole file. Raises CorruptShard if any byte differs from what was written, StorageRefused."""
    reader = SealedReader(
        lambda start, stop: payload[start:stop], size=len(payload), schema=schema, where=where, remedy=remedy
    )
    if not payload.startswith(_MAGIC):
        raise CorruptShard(f"{where}: damaged: it does not begin like Parquet; {remedy}")
    return reader.table(reader.groups)


class _Window(io.RawIOBase):
    """A file of which only the bytes from ``start`` are there."""

    def __init__(self, payload: bytes, start: int, size: int) -> None:
        super().__init__()
        self._payload, self._start, self._size, self._place = payload, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        start = self._place - self._start
        stop = len(self._payload) if size is None or size < 0 else start + size
        found = self._payload[max(0, start) : stop]
        self._place += len(found)
        return found
