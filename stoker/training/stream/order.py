"""The order of an epoch's samples: a function of (shards, seed, epoch) alone, known without reading a sample.

A windowed shuffle: the shards are permuted, then the samples of neighbouring shards, a window of them, are shuffled
among each other, so that a reader needs no more than a window at a time. A window has as many samples as ``window`` of
the largest shards at most, so that small shards, and those of which many samples are masked, mix as well as others.
Price: samples mix within a window only (``shuffling`` measures how well); memory is O(shards), and the permutations of
a few windows.

With ``quick_start`` the first window is read while its shards arrive: first come samples from the beginnings of two of
its shards, then from those of all of them up to twice as many as have come so far, and so on. Each of these stretches
is shuffled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Int64Array

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_WINDOWS = 4  # whose permutations are kept
_FIRST_STRETCH = 128  # samples of a quick start that come first; each stretch about doubles their sum
_OF_FIRST_SHARDS = 256  # samples that come from the first shards alone
_MOST_SHARDS = 8  # times ``window`` in a window: each open one takes a file handle
_FIRST_SHARDS = 2  # that give them: from a store that is far each one takes two requests


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """The order in which one epoch visits the samples of shards.

    Without ``shuffle``: shard by shard, as they are stored.
    """

    counts: Sequence[int] | Int64Array  # samples of each shard
    seed: int = 0
    epoch: int = 0
    window: int = 8  # of the largest shards
    shuffle: bool = True
    quick_start: bool = False
    full_windows: bool = True  # False: each is of ``window`` shards, however small, as in releases before masks

    @cached_property
    def samples(self) -> int:
        """Samples of an epoch."""
        return int(np.asarray(self.counts, np.int64).sum())

    @cached_property
    def shards(self) -> Int64Array:
        """The shards, as indexes into ``counts``, in the order of this epoch."""
        if not self.shuffle:
            return np.arange(len(self.counts), dtype=np.int64)
        return permutation(len(self.counts), self.seed, self.epoch, 0)

    @cached_property
    def _starts(self) -> Int64Array:
        """The position of each shard's first sample, in the epoch's order; at the end the number of samples."""
        counts = np.asarray(self.counts, np.int64)[self.shards]
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    @cached_property
    def edges(self) -> Int64Array:
        """The place of each window's first shard in the epoch's order; at the end the number of shards."""
        shards = len(self.counts)
        if not self.full_windows:
            return np.append(np.arange(0, shards, self.window, dtype=np.int64), shards)
        limit, edges = _limit(self.counts, self.window), [0]
        while edges[-1] < shards:
            first = edges[-1]
            stop = int(np.searchsorted(self._starts, self._starts[first] + limit, side="right")) - 1
            edges.append(min(max(stop, first + 1), first + _MOST_SHARDS * self.window))
        return np.array(edges, np.int64)

    def window_of(self, position: int) -> int:
        """The window that holds a position."""
        shard = np.searchsorted(self._starts, position, side="right") - 1
        return int(np.searchsorted(self.edges, shard, side="right")) - 1

    def _shuffled(self, window: int, samples: int) -> Int64Array:
        """The permutation of a window's samples. A few are kept: threads that make batches ahead straddle two."""
        shuffled = self._permutations.get(window)
        if shuffled is None:
            if self.quick_start and window == 0 and samples > _FIRST_STRETCH:
                shuffled = self._quickly_shuffled(samples)
            else:
                shuffled = permutation(samples, self.seed, self.epoch, window + 1)
            self._permutations[window] = shuffled
            for old in list(self._permutations)[:-_WINDOWS]:
                self._permutations.pop(old, None)
        return shuffled

    def _quickly_shuffled(self, samples: int) -> Int64Array:
        """The first window's samples, those from the beginnings of its shards first."""
        starts = self._starts[: self.edges[1] + 1]
        begins, counts = starts[:-1], np.diff(starts)
        first = counts * (np.arange(len(counts)) < _FIRST_SHARDS)
        stretches: list[Int64Array] = []
        stop, taken = 0, np.zeros_like(counts)
        while stop < samples:
            stop = min(2 * stop or _FIRST_STRETCH, samples)
            few = not stretches or stop <= min(_OF_FIRST_SHARDS, int(first.sum()))
            giving = first if few else counts
            total = max(1, int(giving.sum()))
            until = np.maximum(taken, giving * min(stop, total) // total)  # rows of each shard
            rows = [np.arange(first, last) for first, last in zip(begins + taken, begins + until, strict=True)]
            stretch = np.concatenate(rows)
            stretches.append(stretch[permutation(len(stretch), self.seed, self.epoch, 1, len(stretches))])
            taken = until
        return np.concatenate(stretches)

    @cached_property
    def _permutations(self) -> dict[int, Int64Array]:
        return {}

    def shards_of(self, window: int) -> Int64Array:
        """The shards of a window, as indexes into ``counts``; none after the last window."""
        first, stop = self.edges[window : window + 2].tolist() if window + 1 < len(self.edges) else (0, 0)
        return self.shards[first:stop]

    def locate(self, start: int, stop: int) -> tuple[Int64Array, Int64Array]:
        """For each position in [start, stop): the shard, as an index into ``counts``, and the row in that shard."""
        shards: list[Int64Array] = []
        rows: list[Int64Array] = []
        position, stop = max(0, start), min(stop, self.samples)
        while position < stop:
            window = self.window_of(position)
            first, last = self._starts[self.edges[window : window + 2]].tolist()
            end = min(stop, last)
            inner = np.arange(position - first, end - first, dtype=np.int64)  # counted within the window
            if self.shuffle:
                inner = self._shuffled(window, last - first)[inner]
            order = np.searchsorted(self._starts, inner + first, side="right") - 1
            shards.append(self.shards[order])
            rows.append(inner + first - self._starts[order])
            position = end
        if len(shards) == 1:
            return shards[0], rows[0]
        none = [np.zeros(0, np.int64)]
        return np.concatenate(shards or none), np.concatenate(rows or none)


def most_shards(counts: Sequence[int] | Int64Array, window: int) -> int:
    """The shards that a window can have, at most.

    >>> most_shards([100] * 50, 8), most_shards([100] * 50 + [1000], 8), most_shards([3], 8)
    (8, 51, 8)
    """
    fitting = np.searchsorted(np.cumsum(np.sort(np.asarray(counts, np.int64))), _limit(counts, window), side="right")
    return max(window, min(int(fitting), _MOST_SHARDS * window))


def _limit(counts: Sequence[int] | Int64Array, window: int) -> int:
    """The samples of a window, at most."""
    return window * int(np.max(counts, initial=0))


def permutation(count: int, *key: int) -> Int64Array:
    """A permutation of ``range(count)`` that depends on ``key`` alone, in every version of numpy.

    Sorted by the hashes of a counter (splitmix64: Steele, Lea and Flood, OOPSLA 2014); numpy's own permutations
    may change between its versions (NEP 19), and a resumed run would then see another order.

    >>> permutation(5, 1, 2).tolist()
    [1, 4, 0, 2, 3]
    """
    start = 0
    for part in key:
        start = _mix_one((start + part * _GOLDEN + 1) & _MASK)
    counter = np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(start)
    return np.argsort(_mix(counter), kind="stable").astype(np.int64)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _mix_one(value: int) -> int:
    return int(_mix(np.array([value], np.uint64))[0])


def share(size: int, rank: int, world_size: int) -> tuple[int, int]:
    """The part [start, stop) of a global batch that a rank gets; the parts of all ranks make up the batch.

    >>> [share(10, rank, 4) for rank in range(4)]
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    return size * rank // world_size, size * (rank + 1) // world_size
