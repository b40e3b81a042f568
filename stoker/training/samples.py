"""The samples of a batch in place: views of mapped or fetched bytes; nothing is copied or parsed until asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from stoker.storage.index import Places, ShardIndex
from stoker.storage.sample import Sample
from stoker.storage.shard import RECORD, parse_record, record_of


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Those samples of a batch that lie in one shard."""

    where: str  # the shard, for messages
    index: ShardIndex
    rows: Places  # in the shard
    places: Places  # in the batch
    regions: Sequence[memoryview]  # each row's bytes [start, stop) of the tar


class Samples(Sequence[Sample]):
    """A batch's samples in its order: ``column("jpg")`` is the fast way, ``samples[0]`` copies and parses one sample.

    The views stay valid as long as anyone holds them.
    """

    def __init__(self, groups: Sequence[Group], size: int, fields: Sequence[str] | None = None) -> None:
        self._groups = tuple(groups)
        self._size = size
        self._fields = fields  # that ``samples[0]`` has; None: all
        self._found: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self._size

    @property
    def size(self) -> int:
        """Bytes of the samples in their tars, headers and padding among them."""
        return sum(
            int((group.index.stops[group.rows] - group.index.starts[group.rows]).sum()) for group in self._groups
        )

    @property
    def extensions(self) -> list[str]:
        """The fields that samples of these shards have, sorted."""
        return sorted({extension for group in self._groups for extension in group.index.extensions})

    def column(self, extension: str) -> list[memoryview | None]:
        """A field of every sample, in the batch's order; None where a sample lacks it."""
        found: list[memoryview | None] = [None] * self._size
        for group in self._groups:
            offsets, sizes = group.index.within(extension, group.rows)
            for place, region, offset, size in zip(group.places.tolist(), group.regions, offsets, sizes, strict=True):
                if size >= 0:
                    found[place] = region[offset : offset + size]
        return found

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
            found[group.places] = group.index.stops[group.rows] - group.index.starts[group.rows]
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
            regions = [region for region, keep in zip(group.regions, kept.tolist(), strict=True) if keep]
            groups.append(Group(group.where, group.index, group.rows[kept], places - (places > place), regions))
        return Samples(groups, self._size - 1, self._fields)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self._size))]
        group, own = self._group(range(self._size)[place])
        row, region = int(group.rows[own]), group.regions[own]
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
            if extension == RECORD and (found := record_of(payload, key)) is not None:
                record = found
            elif self._fields is None or extension in self._fields:
                fields[extension] = bytes(payload)
        return Sample.found(key, fields, record)

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
