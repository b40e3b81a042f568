"""A shard's index as arrays: the byte range of each sample and of each of its fields, without Python objects."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records, row_checksum
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import RECORD, parse_external_record

Int64Array = npt.NDArray[np.int64]
MAX_GAP = 64 * 2**10  # bytes between two members of a sample that are read with them
COLUMNS = ("key", "start", "stop", "members")  # of the index file, that a reader needs
_DICTIONARIES = ("members.list.element.extension",)


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Byte ranges of the samples of one tar, one row per sample in the tar's order.

    ``offsets[e, row]`` is the offset in the tar of the payload of field ``extensions[e]``, ``sizes[e, row]`` its size
    in bytes; both are -1 where a sample lacks the field. A sample's members are the bytes [start, stop). Arrays,
    because worker processes share them copy-on-write: reference counts would copy every page of Python objects.
    """

    keys: pa.Array  # of strings
    starts: Int64Array
    stops: Int64Array
    extensions: tuple[str, ...]
    offsets: Int64Array  # (extensions, rows)
    sizes: Int64Array  # (extensions, rows)
    numbers: Int64Array | None = None  # of each row among all samples of the tar; None: this index has all of them
    checksums: npt.NDArray[np.uint32] | None = None  # of each row, see ``row_checksum``; None: of an older release
    by_members: bool = False  # the checksums are those of members, which may lie apart

    @classmethod
    def decode(cls, payload: bytes | memoryview, where: str, *, size: int | None = None) -> "ShardIndex":
        """The index in a Parquet file. Raises CorruptShard if it is invalid or exceeds a tar of ``size``."""
        columns = (*COLUMNS, *row_checksum.CHECKSUMS)
        return cls.of(records.decode(payload, columns=columns, dictionaries=_DICTIONARIES), where, size=size)

    @classmethod
    def of(cls, table: pa.Table, where: str, *, size: int | None = None) -> "ShardIndex":
        """The index in a table of an index, or of kept samples of a raw part. Raises CorruptShard as ``decode``."""
        if set(COLUMNS) - set(table.column_names):
            raise CorruptShard(
                f"{where}: no index of a shard: it lacks {sorted(set(COLUMNS) - set(table.column_names))}"
            )
        try:
            return cls._of(table, where, size)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise CorruptShard(f"{where}: no index of a shard: {' '.join(str(error).split())[:200]}") from error

    @classmethod
    def _of(cls, table: pa.Table, where: str, size: int | None) -> "ShardIndex":
        starts, stops = (_integers(table[name]) for name in ("start", "stop"))
        members = _single_array(table["members"])
        places = _integers(members.offsets)
        flat = members.values[places[0] : places[-1]] if len(places) else members.values
        extension = flat.field("extension")
        if not isinstance(extension, pa.DictionaryArray):
            extension = extension.dictionary_encode()
        names = tuple(str(name) for name in extension.dictionary.to_pylist())
        codes = _integers(extension.indices)
        counts = np.diff(places)
        rows = np.repeat(np.arange(len(members), dtype=np.int64), counts)
        offset, length = _integers(flat.field("offset")), _integers(flat.field("size"))
        outside = (offset < starts[rows]) | (length < 0) | (offset + length > stops[rows])
        if outside.any() or (starts < 0).any() or (size is not None and len(stops) and int(stops.max()) > size):
            raise CorruptShard(f"{where}: it places samples outside the shard; run `stoker verify`")
        offsets = np.full((len(names), len(members)), -1, np.int64)
        sizes = np.full((len(names), len(members)), -1, np.int64)
        offsets[codes, rows] = offset
        sizes[codes, rows] = length
        checksums, by_members = _checksums(table)
        keys = _single_array(table["key"])
        return cls(keys, starts, stops, names, offsets, sizes, checksums=checksums, by_members=by_members)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        arrays = (self.starts, self.stops, self.offsets, self.sizes, self.checksums)
        return int(self.keys.nbytes) + sum(array.nbytes for array in arrays if array is not None)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Int64Array) -> "ShardIndex":
        """The index of some rows alone, ascending; their numbers in the tar are kept.

        Raises CorruptShard if there are fewer.
        """
        if len(rows) and int(rows.max()) >= len(self):
            raise CorruptShard(f"an index of {len(self):,} samples, of which number {int(rows.max()):,} is wanted")
        numbers = rows if self.numbers is None else self.numbers[rows]
        return ShardIndex(
            _take(self.keys, rows),
            self.starts[rows],
            self.stops[rows],
            self.extensions,
            self.offsets[:, rows],
            self.sizes[:, rows],
            numbers,
            None if self.checksums is None else self.checksums[rows],
            self.by_members,
        )

    def number(self, row: int) -> int:
        """The number of a row among all samples of the tar."""
        return row if self.numbers is None else int(self.numbers[row])

    def sample(self, row: int, region: "Region", fields: Container[str] | None = None) -> Sample:
        """A row's sample, copied from its bytes [start, stop) of the tar; only these ``fields``, if given."""
        key, start = self.keys[row].as_py(), int(self.starts[row])
        payloads: dict[str, bytes] = {}
        record: dict[str, Any] = {}  # Any: JSON values
        for column, extension in enumerate(self.extensions):
            size = int(self.sizes[column, row])
            if size < 0:
                continue
            offset = int(self.offsets[column, row]) - start
            payload = region[offset : offset + size]
            if extension == RECORD and (parsed := parse_external_record(payload, key)) is not None:
                record = parsed
            elif fields is None or extension in fields:
                payloads[extension] = bytes(payload)
        return Sample.unchecked(key, payloads, record)

    def sizes_of(self, extension: str) -> Int64Array:
        """The field's size in bytes in each row; -1 where a sample lacks it."""
        if extension not in self.extensions:
            return np.full(len(self), -1, np.int64)
        sizes: Int64Array = self.sizes[self.extensions.index(extension)]
        return sizes

    def within(self, extension: str, rows: Int64Array) -> tuple[list[int], list[int], bool]:
        """The field's first and last offsets in the tar for these rows, and whether every row of the tar has the field.

        A missing field ends before it begins. Lists of plain integers slice memory fastest.
        """
        if extension not in self.extensions:
            return [0] * len(rows), [-1] * len(rows), False
        column = self.extensions.index(extension)
        return self.offsets[column].take(rows).tolist(), self._ends[column].take(rows).tolist(), self._complete[column]

    @cached_property
    def lengths(self) -> Int64Array:
        """Bytes of each row's members, with headers and padding; without what lies between links and their targets."""
        starts, stops = self._spans
        apart = np.clip(stops - np.maximum(starts, self._reached), 0, None).sum(axis=0, dtype=np.int64)
        return np.where(self.scattered, apart, self.stops - self.starts)

    @cached_property
    def scattered(self) -> npt.NDArray[np.bool_]:
        """Which rows have members that lie far apart: links stand for members anywhere in an external tar."""
        if self.checksums is not None and not self.by_members:  # of a shard, whose samples lie in one piece each
            return np.zeros(len(self), np.bool_)
        starts, stops = self._spans
        gaps: npt.NDArray[np.bool_] = np.asarray((starts - self._reached > MAX_GAP).any(axis=0), bool)
        if len(stops):
            gaps |= self.stops - stops.max(axis=0) > MAX_GAP
        return gaps

    @cached_property
    def _spans(self) -> tuple[Int64Array, Int64Array]:
        """Where the members of each row begin and end, ascending; (extensions, rows). What is empty is at the start."""
        empty = self.sizes <= 0
        starts = np.where(empty, self.starts, self.offsets)
        order = np.argsort(starts, axis=0, kind="stable")
        stops = np.where(empty, self.starts, self.offsets + self.sizes)
        return np.take_along_axis(starts, order, axis=0), np.take_along_axis(stops, order, axis=0)

    @cached_property
    def _reached(self) -> Int64Array:
        """How far a row's members reach that begin before each of them; (extensions, rows)."""
        _, stops = self._spans
        return np.maximum.accumulate(np.concatenate([self.starts[None], stops])[: len(stops)], axis=0)

    def ranges(self, row: int) -> list[tuple[int, int]]:
        """The bytes to read of a row, ascending: one range unless its members lie apart."""
        if not self.scattered[row]:
            return [(int(self.starts[row]), int(self.stops[row]))]
        ranges: list[tuple[int, int]] = []
        offsets, ends = self.offsets[:, row], self.offsets[:, row] + self.sizes[:, row]
        for start, stop in sorted(zip(offsets.tolist(), ends.tolist(), strict=True)):
            if start < 0 or stop == start:  # no such member, or nothing in it
                continue
            if ranges and start <= ranges[-1][1] + MAX_GAP:
                ranges[-1] = ranges[-1][0], max(stop, ranges[-1][1])
            else:
                ranges.append((start, stop))
        return ranges

    def region(self, row: int, pieces: Sequence[memoryview]) -> "Region":
        """A row's bytes by those of its ``ranges``."""
        if not self.scattered[row]:
            (piece,) = pieces
            return piece
        offsets = [start for start, _ in self.ranges(row)]
        return ScatteredBytes(int(self.starts[row]), list(zip(offsets, pieces, strict=True)))

    def check(self, row: int, region: "Region", tar: str) -> None:
        """Raise CorruptShard, naming tar and sample, unless a row's bytes have its checksum, if the index has them."""
        if self.checksums is not None and (actual := self._checksum(row, region)) != self.checksums[row]:
            row_checksum.check(int(self.checksums[row]), actual, self.keys[row].as_py(), tar)

    def _checksum(self, row: int, region: "Region") -> int:
        if isinstance(region, memoryview) and not self.by_members:
            return row_checksum.crc32c(region)
        payloads = []
        for column in sorted(range(len(self.extensions)), key=self.extensions.__getitem__):
            size, offset = int(self.sizes[column, row]), int(self.offsets[column, row] - self.starts[row])
            if size >= 0:
                payloads.append(region[offset : offset + size])
        return row_checksum.members_crc32c(map(row_checksum.crc32c, payloads))

    @cached_property
    def _ends(self) -> Int64Array:
        return np.where(self.sizes < 0, -2, self.offsets + self.sizes)

    @cached_property
    def _complete(self) -> list[bool]:
        return [bool((sizes >= 0).all()) for sizes in self.sizes]


class ScatteredBytes:
    """Ranges of a tar, sliced like its bytes from ``start`` on: a slice lies within one of them, or is empty."""

    def __init__(self, start: int, ranges: Sequence[tuple[int, memoryview]]) -> None:
        """``ranges``: the offset in the tar and the bytes of each."""
        self._start, self._ranges = start, tuple(ranges)

    def __getitem__(self, span: slice) -> memoryview:
        start, stop = self._start + span.start, self._start + span.stop
        for offset, payload in self._ranges:
            if offset <= start and stop <= offset + len(payload):
                return payload[start - offset : stop - offset]
        return memoryview(b"")


Region = memoryview | ScatteredBytes  # the bytes [start, stop) of a sample


def _checksums(table: pa.Table) -> tuple[npt.NDArray[np.uint32] | None, bool]:
    """The checksum of each row, and whether they are of members; None where a row has none."""
    for name in row_checksum.CHECKSUMS:
        if row_checksum.has_checksums(table, name):
            array = _single_array(table[name])
            values = np.frombuffer(array.buffers()[1] or b"", np.uint32)[array.offset : array.offset + len(array)]
            return values, name == row_checksum.MEMBERS_CRC32C
    return None, False


def _single_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as a single array."""
    combined = column.combine_chunks()
    if isinstance(combined, pa.Array):
        return combined
    return combined.chunk(0) if combined.num_chunks else pa.array([], column.type)


def _take(array: pa.Array, rows: Int64Array) -> pa.Array:
    """Some elements, ascending. Not Arrow's own ``take``, which imports pyarrow.compute and pandas."""
    if not len(rows):
        return array.slice(0, 0)
    edges = np.flatnonzero(np.diff(rows) != 1) + 1
    runs = zip(rows[np.concatenate([[0], edges])].tolist(), np.diff([0, *edges, len(rows)]).tolist(), strict=True)
    return pa.concat_arrays([array.slice(first, count) for first, count in runs])


def _integers(column: pa.ChunkedArray | pa.Array) -> Int64Array:
    """A column of integers as a read-only array. Raises ValueError if it has nulls."""
    if column.null_count:
        raise ValueError(f"{column.null_count} places are missing")
    array = _single_array(column) if isinstance(column, pa.ChunkedArray) else column
    # Not to_numpy, which imports pandas where it is installed; and nothing that imports pyarrow.compute, as cast,
    # flatten and dictionary_encode do: together 0.3 s of a training's first batch.
    dtype = {pa.int64(): np.int64, pa.int32(): np.int32}.get(array.type)
    if dtype is None:
        array, dtype = array.cast(pa.int64()), np.int64
    values = np.frombuffer(array.buffers()[1] or b"", dtype)[array.offset : array.offset + len(array)]
    return values.astype(np.int64, copy=False)
