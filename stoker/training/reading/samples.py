"""The samples of a batch in place: views of mapped or fetched bytes; nothing is copied or parsed until asked for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Places, ShardIndex
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import RECORD, parse_external_record, parse_record


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Those samples of a batch that lie in one shard."""

    where: str  # the shard, for messages
    index: ShardIndex
    rows: Places  # in the shard
    places: Places  # in the batch
    regions: Sequence[memoryview]  # each row's bytes [start, stop) of the tar; none where the whole tar is here
    whole: memoryview | None = None

    def column(self, extension: str) -> list[memoryview | None]:
        """A field of each row; None where it lacks it."""
        starts, stops, all_have = self.index.within(extension, self.rows)
        if self.whole is not None:
            if all_have:
                return list(map(self.whole.__getitem__, map(slice, starts, stops)))
            return [
                self.whole[start:stop] if start <= stop else None for start, stop in zip(starts, stops, strict=True)
            ]
        begins = self.index.starts[self.rows].tolist()
        return [
            region[start - begin : stop - begin] if start <= stop else None
            for region, begin, start, stop in zip(self.regions, begins, starts, stops, strict=True)
        ]

    def region(self, own: int) -> memoryview:
        """The bytes [start, stop) of the row at that place of the group."""
        if self.whole is None:
            return self.regions[own]
        row = int(self.rows[own])
        return self.whole[int(self.index.starts[row]) : int(self.index.stops[row])]

    def keeping(self, kept: npt.NDArray[np.bool_], places: Places) -> "Group":
        """Some of the rows, at other places of the batch."""
        regions = [one for one, keep in zip(self.regions, kept.tolist(), strict=True) if keep] if self.regions else ()
        return Group(self.where, self.index, self.rows[kept], places, regions, self.whole)


class Samples(Sequence[Sample]):
    """A batch's samples in its order: ``column("jpg")`` is the fast way, ``samples[0]`` copies and parses one sample.

    The views stay valid as long as anyone holds them.
    """

    def __init__(self, groups: Sequence[Group], size: int, fields: Sequence[str] | None = None) -> None:
        self._groups = tuple(groups)
        self._size = size
        self._fields = fields  # that ``samples[0]`` has; None: all
        self._in_order: Callable[[list[memoryview | None]], Iterable[memoryview | None]] | None = None
        self._found: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self._size

    @property
    def size(self) -> int:
        """Bytes of the samples in their tars, headers and padding among them."""
        return sum(int(group.index.lengths.take(group.rows).sum()) for group in self._groups)

    @property
    def extensions(self) -> list[str]:
        """The fields that samples of these shards have, sorted."""
        return sorted({extension for group in self._groups for extension in group.index.extensions})

    def column(self, extension: str) -> list[memoryview | None]:
        """A field of every sample, in the batch's order; None where a sample lacks it."""
        found: list[memoryview | None] = []
        for group in self._groups:
            found += group.column(extension)
        if self._in_order is None:
            order = np.argsort(np.concatenate([group.places for group in self._groups] or [np.zeros(0, np.int64)]))
            # Of one place it would give no tuple, and of none there is no such thing.
            self._in_order = list if len(order) < 2 else itemgetter(*order.tolist())
        return list(self._in_order(found))

    def first(self, extensions: Sequence[str]) -> list[memoryview | None]:
        """Of each sample the first of these fields that it has."""
        found: list[memoryview | None] = [None] * self._size
        for extension in extensions:
            if None not in found:
                break
            for place, payload in enumerate(self.column(extension)):
                if found[place] is None:
                    found[place] = payload
        return found

    @property
    def keys(self) -> list[str]:
        """The samples' keys."""
        found = [""] * self._size
        for group in self._groups:
            for place, key in zip(group.places.tolist(), group.index.keys.take(group.rows).to_pylist(), strict=True):
                found[place] = key
        return found

    @property
    def sizes(self) -> list[int]:
        """Bytes of each sample in its tar."""
        found = np.zeros(self._size, np.int64)
        for group in self._groups:
            found[group.places] = group.index.lengths[group.rows]
        return found.tolist()

    @property
    def shards(self) -> list[str]:
        """The shard that each sample lies in, by its URL."""
        found = [""] * self._size
        for group in self._groups:
            for place in group.places.tolist():
                found[place] = group.where
        return found

    def records(self) -> list[dict[str, Any]]:  # Any: JSON values
        """The samples' records, parsed; empty where a sample has none. Raises CorruptShard."""
        return [{} if one is None else parse_record(one) for one in self.column(RECORD)]

    def where(self, place: int) -> str:
        """Which sample of which shard it is, for messages."""
        group, own = self._group(place)
        return f"{group.where}: sample {group.index.keys[int(group.rows[own])].as_py()}"

    def without(self, place: int) -> "Samples":
        """The others."""
        groups = []
        for group in self._groups:
            kept = group.places != place
            places = group.places[kept]
            groups.append(group.keeping(kept, places - (places > place)))
        return Samples(groups, self._size - 1, self._fields)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self._size))]
        group, own = self._group(range(self._size)[place])
        row, region = int(group.rows[own]), group.region(own)
        fields: dict[str, bytes] = {}
        record: dict[str, Any] = {}  # Any: JSON values
        index = group.index
        key = index.keys[row].as_py()
        for number, extension in enumerate(index.extensions):
            size = int(index.sizes[number, row])
            if size < 0:
                continue
            begin = int(index.offsets[number, row]) - int(index.starts[row])
            payload = region[begin : begin + size]
            if extension == RECORD and (found := parse_external_record(payload, key)) is not None:
                record = found
            elif self._fields is None or extension in self._fields:
                fields[extension] = bytes(payload)
        return Sample.unchecked(key, fields, record)

    def __iter__(self) -> Iterator[Sample]:
        return (self[place] for place in range(self._size))

    def _group(self, place: int) -> tuple[Group, int]:
        if self._found is None:
            self._found = np.zeros((2, self._size), np.int64)
            for number, group in enumerate(self._groups):
                self._found[0, group.places] = number
                self._found[1, group.places] = np.arange(len(group.places))
        number, own = self._found[:, place].tolist()
        return self._groups[number], own
