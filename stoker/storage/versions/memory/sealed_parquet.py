"""Parquet files in which every altered or missing byte is found, also when they are read in part.

The footer's metadata hold where each row group ends and its CRC-32, and the footer's own SHA-256. So a reader that has
the end of a file and one of its row groups has compared all that it reads. To any other reader it is plain Parquet.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.store import Store
from stoker.storage.versions.document import Document
from stoker.storage.versions.sealed import refuse_newer
from stoker.storage.versions.verified import second_read

SCHEMA = 1  # of the metadata below; raise it also when a table has other columns
_MAGIC = b"PAR1"
METADATA = b"stoker"  # in the footer: {"groups": [[end, crc32], ...], "schema": ..., "seal": ...}
SEAL, HEX = b'"seal":"', 64  # what stands before the seal, and its length
_MAX_TAIL = 256 * 2**20  # bytes
_GUESS = 256 * 2**10  # bytes at the end that are read where the footer's size is not known
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
        tail: bytes of its footer; None: it says itself how many, which costs one more read if they are many.
        schema: the columns that it must have.
        where: its address, for messages.
        remedy: what to do about a damaged one.
        texts: the values that a column may have, of columns in which others are damage.
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
        texts: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        self._read, self._size, self._tail = read, size, tail
        self.schema, self._where, self._remedy, self._texts = schema, where, remedy, texts

    @classmethod
    def of_object(
        cls,
        store: Store,
        stored: StoredTable,
        *,
        schema: pa.Schema,
        remedy: str,
        texts: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> "SealedReader":
        """A reader of an object; reads nothing yet."""
        return cls(
            lambda start, stop: store.read(stored.key, start=start, size=stop - start),
            size=stored.size,
            tail=stored.tail,
            schema=schema,
            where=f"{store.url}/{stored.key}",
            remedy=remedy,
            texts=texts,
        )

    @property
    def groups(self) -> list[Group]:
        """The row groups, in order."""
        return self._footer[1]

    @property
    def said(self) -> Mapping[str, Any]:  # Any: JSON values
        """What its writer put into the footer's metadata."""
        return self._footer[2]

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

    def scan(
        self, columns: Sequence[str] | None = None, *, hashes: npt.NDArray[np.uint64] | None = None
    ) -> Iterator[pa.Table]:
        """The rows of one group after the other; ``hashes``, sorted: of groups alone that may have one of them."""
        for group in self.groups:
            if hashes is not None:
                least, greatest = self.bounds(group, "hash")
                place = np.searchsorted(hashes, np.uint64(least))
                if place == len(hashes) or hashes[place] > greatest:
                    continue
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
            table = found.replace_schema_metadata(None).cast(pa.schema([self.schema.field(name) for name in names]))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._damaged(" ".join(str(error).split())[:200]) from error
        for name in self._texts.keys() & set(names):
            self._check_texts(name, table[name])
        return table

    def _check_texts(self, name: str, column: pa.ChunkedArray) -> None:
        known = self._texts[name]
        foreign = [text for text in column.unique().to_pylist() if text not in known]
        if foreign:
            raise self._damaged(f"{name} {str(foreign[0])[:60]!r}, expected one of {', '.join(known)}")

    @cached_property
    def _footer(self) -> tuple[pq.FileMetaData, list[Group], Mapping[str, Any]]:  # Any: JSON values
        return second_read(self._read_footer)

    def _read_footer(self) -> tuple[pq.FileMetaData, list[Group], Mapping[str, Any]]:  # Any: JSON values
        size, end = self._tail, b""
        if size is None:
            end = self._read(max(0, self._size - _GUESS), self._size)
            size = int.from_bytes(end[-8:-4], "little") + 8
        if not 0 < size <= min(self._size, _MAX_TAIL):
            raise self._damaged("it has no footer")
        tail = end[-size:] if size <= len(end) else self._read(self._size - size, self._size)
        place = tail.rfind(SEAL) + len(SEAL)
        blank = tail[:place] + b"0" * HEX + tail[place + HEX :]
        if place < len(SEAL) or hashlib.sha256(blank).hexdigest().encode() != tail[place : place + HEX]:
            raise self._damaged("its footer differs from its checksum")
        try:
            metadata = pq.read_metadata(pa.BufferReader(tail))
            content = json.loads(metadata.metadata[METADATA])
            schema, ends = content["schema"], content["groups"]
            starts = [0, *(stop for stop, _ in ends)]
            groups = [Group(index, starts[index], stop, crc32) for index, (stop, crc32) in enumerate(ends)]
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(" ".join(str(error).split())[:200]) from error
        refuse_newer(schema, SCHEMA, self._where)
        if metadata.num_row_groups != len(groups) or starts[-1] != (self._size - size if groups else 0):
            raise self._damaged("its row groups do not lie end to end")
        if metadata.schema.to_arrow_schema().names != self.schema.names:
            raise self._damaged(f"columns {', '.join(metadata.schema.names)[:200]}")
        return metadata, groups, content

    def _damaged(self, what: str) -> CorruptShard:
        return CorruptShard(f"{self._where}: damaged: {what}; {self._remedy}")


def decode(
    payload: bytes,
    *,
    schema: pa.Schema,
    where: str,
    remedy: str,
    texts: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> pa.Table:
    """The rows of a whole file. Raises CorruptShard if any byte differs from what was written, StorageRefused."""
    reader = SealedReader(
        lambda start, stop: payload[start:stop],
        size=len(payload),
        schema=schema,
        where=where,
        remedy=remedy,
        texts=texts,
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
