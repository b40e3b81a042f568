"""A shard's index in arrays: where each sample and each of its fields lies, with no Python object for each."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records

Places = npt.NDArray[np.int64]
COLUMNS = ("key", "start", "stop", "members")  # of the Parquet beside a shard, that a reader needs


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Where the samples of one tar lie, row by row in its order.

    ``offsets[e, row]`` is the tar's byte at which the payload of field ``extensions[e]`` begins, ``sizes[e, row]`` its
    bytes; -1 where a sample lacks the field. A sample's members lie in the bytes [start, stop). Arrays, because worker
    processes share them copy-on-write, and counting references would copy every page of Python objects.
    """

    keys: pa.Array  # of strings
    starts: Places
    stops: Places
    extensions: tuple[str, ...]
    offsets: Places  # (extensions, rows)
    sizes: Places  # (extensions, rows)

    @classmethod
    def decode(cls, payload: bytes | memoryview, where: str, *, size: int | None = None) -> "ShardIndex":
        """The index in a Parquet file. Raises CorruptShard if it is none, or places bytes outside a tar of ``size``."""
        table = records.decode(payload, columns=COLUMNS)
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
        starts, stops = (_whole(table[name]) for name in ("start", "stop"))
        members = _one(table["members"])
        flat = members.flatten()
        extension = flat.field("extension").dictionary_encode()
        names = tuple(str(name) for name in extension.dictionary.to_pylist())
        codes = _whole(extension.indices)
        counts = np.diff(_whole(members.offsets))
        rows = np.repeat(np.arange(len(members), dtype=np.int64), counts)
        offset, length = _whole(flat.field("offset")), _whole(flat.field("size"))
        outside = (offset < starts[rows]) | (length < 0) | (offset + length > stops[rows])
        if outside.any() or (starts < 0).any() or (size is not None and len(stops) and int(stops.max()) > size):
            raise CorruptShard(f"{where}: it places samples outside the shard; run `stoker verify`")
        offsets = np.full((len(names), len(members)), -1, np.int64)
        sizes = np.full((len(names), len(members)), -1, np.int64)
        offsets[codes, rows] = offset
        sizes[codes, rows] = length
        return cls(_one(table["key"]), starts, stops, names, offsets, sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def sizes_of(self, extension: str) -> Places:
        """The bytes of a field, row by row; -1 where a sample lacks it."""
        if extension not in self.extensions:
            return np.full(len(self), -1, np.int64)
        sizes: Places = self.sizes[self.extensions.index(extension)]
        return sizes

    def within(self, extension: str, rows: Places) -> tuple[list[int], list[int], bool]:
        """Where the field begins and ends in the tar in each of these rows, and whether all of them have it.

        One that is lacking ends before it begins. Lists of plain integers: what slices memory fastest.
        """
        if extension not in self.extensions:
            return [0] * len(rows), [-1] * len(rows), False
        place = self.extensions.index(extension)
        return self.offsets[place].take(rows).tolist(), self._ends[place].take(rows).tolist(), self._whole[place]

    @cached_property
    def lengths(self) -> Places:
        """The bytes of each row's members, headers and padding among them."""
        return self.stops - self.starts

    @cached_property
    def _ends(self) -> Places:
        return np.where(self.sizes < 0, -2, self.offsets + self.sizes)

    @cached_property
    def _whole(self) -> list[bool]:
        return [bool((sizes >= 0).all()) for sizes in self.sizes]


def _one(column: pa.ChunkedArray) -> pa.Array:
    """A column as a single array."""
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else whole.chunk(0) if whole.num_chunks else pa.array([], column.type)


def _whole(column: pa.ChunkedArray | pa.Array) -> Places:
    """A column of integers as an array that cannot be written to. Raises ValueError for one with nulls."""
    if column.null_count:
        raise ValueError(f"{column.null_count} places are missing")
    whole = (_one(column) if isinstance(column, pa.ChunkedArray) else column).cast(pa.int64())
    # Not to_numpy, which imports pandas if there is one: 0.2 s of a training's first batch.
    return np.frombuffer(whole.buffers()[1] or b"", np.int64)[whole.offset : whole.offset + len(whole)]
