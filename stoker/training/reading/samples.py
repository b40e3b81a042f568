"""The samples of a batch as views of mapped or downloaded bytes: nothing is copied or parsed until it is asked for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Int64Array, Region, ShardIndex
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import RECORD, parse_record


@dataclass(frozen=True, slots=True, eq=False)
class ShardSlice:
    """Those samples of a batch that are in one shard."""

    url: str  # of the shard, for messages
    index: ShardIndex
    rows: Int64Array  # in the shard
    slots: Int64Array  # each row's index in the batch
    regions: Sequence[Region]  # each row's bytes [start, stop) of the tar; empty if there is ``whole``
    whole: memoryview | None = None  # the tar
    sha256: str = ""  # of the tar, as the manifest has it

    def column(self, extension: str) -> list[memoryview | None]:
        """A field of each row; None where the row lacks it."""
        starts, stops, all_have = self.index.within(extension, self.rows)
        if self.whole is not None:
            if all_have:
                return list(map(self.whole.__getitem__, map(slice, starts, stops)))
            return [
                self.whole[start:stop] if start <= stop else None for start, stop in zip(starts, stops, strict=True)
            ]
        region_starts = self.index.starts[self.rows].tolist()
        return [
            region[start - region_start : stop - region_start] if start <= stop else None
            for region, region_start, start, stop in zip(self.regions, region_starts, starts, stops, strict=True)
        ]

    def region(self, number: int) -> Region:
        """The bytes [start, stop) of the row ``rows[number]``."""
        if self.whole is None:
            return self.regions[number]
        row = int(self.rows[number])
        return self.whole[int(self.index.starts[row]) : int(self.index.stops[row])]

    def select(self, kept: npt.NDArray[np.bool_], slots: Int64Array) -> "ShardSlice":
        """Some of the rows, in other slots of the batch."""
        regions: Sequence[Region] = ()
        if self.regions:
            regions = [region for region, keep in zip(self.regions, kept.tolist(), strict=True) if keep]
        return ShardSlice(self.url, self.index, self.rows[kept], slots, regions, self.whole, self.sha256)


class Samples(Sequence[Sample]):
    """A batch's samples, in the batch's order. ``column("jpg")`` is the fast way to read a field of all of them;
    ``samples[0]`` copies and parses one. The views stay valid as long as anyone holds them.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import ShardStream
    >>> stream = ShardStream(*sample_corpus(12), batch_size=3, shuffle=False)
    >>> samples = stream.batch(0, 0)
    >>> len(samples), samples.keys, samples.extensions
    (3, ['n0000', 'n0001', 'n0002'], ['json', 'txt'])
    >>> [bytes(payload) for payload in samples.column("txt")]
    [b'0', b'1', b'2']
    >>> samples[2].fields, samples[2].record["label"]
    ({'txt': b'2'}, '2')
    >>> stream.close()

    Args:
        slices: the samples shard by shard; their slots together are the numbers below ``size``.
        size: samples.
        fields: the fields that ``samples[0]`` has; None: all. ``column`` knows all of them.
    """

    def __init__(self, slices: Sequence[ShardSlice], size: int, fields: Sequence[str] | None = None) -> None:
        self._slices = tuple(slices)
        self._size = size
        self._fields = fields
        self._in_order: Callable[[list[memoryview | None]], Iterable[memoryview | None]] | None = None
        self._located: npt.NDArray[np.int64] | None = None  # (2, size): each slot's slice, and its number in that

    def __len__(self) -> int:
        return self._size

    @property
    def size(self) -> int:
        """Bytes of the samples in their tars, with headers and padding."""
        if not self._slices:
            return 0
        return int(np.concatenate([part.index.lengths.take(part.rows) for part in self._slices]).sum())

    @property
    def extensions(self) -> list[str]:
        """The fields that occur in these shards, sorted."""
        return sorted({extension for part in self._slices for extension in part.index.extensions})

    def column(self, extension: str) -> list[memoryview | None]:
        """A field of every sample; None where a sample lacks it."""
        payloads: list[memoryview | None] = []
        for part in self._slices:
            payloads += part.column(extension)
        if self._in_order is None:
            slots = np.concatenate([part.slots for part in self._slices] or [np.zeros(0, np.int64)])
            order = np.empty(len(slots), np.int64)
            order[slots] = np.arange(len(slots), dtype=np.int64)  # they are the numbers below ``size``
            # With one index itemgetter would return no tuple, and without any there is none.
            self._in_order = list if len(order) < 2 else itemgetter(*order.tolist())
        return list(self._in_order(payloads))

    def first(self, extensions: Sequence[str]) -> list[memoryview | None]:
        """For each sample the first of these fields that it has."""
        payloads: list[memoryview | None] = [None] * self._size
        for extension in extensions:
            if None not in payloads:
                break
            for index, payload in enumerate(self.column(extension)):
                if payloads[index] is None:
                    payloads[index] = payload
        return payloads

    @property
    def keys(self) -> list[str]:
        """The samples' keys."""
        keys = [""] * self._size
        for part in self._slices:
            # Not take, which imports pyarrow.compute and pandas: a third of a second of the first batch.
            for slot, row in zip(part.slots.tolist(), part.rows.tolist(), strict=True):
                keys[slot] = part.index.keys[row].as_py()
        return keys

    @property
    def sizes(self) -> list[int]:
        """Bytes of each sample in its tar."""
        sizes = np.zeros(self._size, np.int64)
        for part in self._slices:
            sizes[part.slots] = part.index.lengths[part.rows]
        return sizes.tolist()

    @property
    def shards(self) -> list[str]:
        """The URL of each sample's shard."""
        urls = [""] * self._size
        for part in self._slices:
            for slot in part.slots.tolist():
                urls[slot] = part.url
        return urls

    def records(self) -> list[dict[str, Any]]:  # Any: JSON values
        """The samples' records, parsed; empty where a sample has none. Raises CorruptShard."""
        return [{} if payload is None else parse_record(payload) for payload in self.column(RECORD)]

    def where(self, place: int) -> str:
        """Shard and key of the sample ``samples[place]``, for messages."""
        part, number = self._locate(place)
        return f"{part.url}: sample {part.index.keys[int(part.rows[number])].as_py()}"

    def identity(self, place: int) -> tuple[str, int]:
        """The SHA-256 of the shard of the sample ``samples[place]``, and its number there."""
        part, number = self._locate(place)
        return part.sha256 or part.url, part.index.number(int(part.rows[number]))

    def lacks(self, place: int, what: str) -> str:
        """The message for a field that the sample ``samples[place]`` lacks: what it has."""
        there = [extension for extension in self.extensions if self.column(extension)[place] is not None]
        return f"{self.where(place)}: no {what}; its fields: {', '.join(there)}"

    def without(self, place: int) -> "Samples":
        """All samples but ``samples[place]``."""
        slices = []
        for part in self._slices:
            kept = part.slots != place
            slots = part.slots[kept]
            slices.append(part.select(kept, slots - (slots > place)))
        return Samples(slices, self._size - 1, self._fields)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._size))]
        part, number = self._locate(range(self._size)[index])
        return part.index.sample(int(part.rows[number]), part.region(number), self._fields)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self._size))

    def _locate(self, slot: int) -> tuple[ShardSlice, int]:
        """The slice of a slot, and its number in that slice."""
        if self._located is None:
            self._located = np.zeros((2, self._size), np.int64)
            for number, part in enumerate(self._slices):
                self._located[0, part.slots] = number
                self._located[1, part.slots] = np.arange(len(part.slots))
        number, own_number = self._located[:, slot].tolist()
        return self._slices[number], own_number
