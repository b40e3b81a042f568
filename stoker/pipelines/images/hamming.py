"""All neighbours among many 256-bit hashes, exactly."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BITS = 256
_BANDS = 16
_BAND_BITS = BITS // _BANDS
MAX_DISTANCE = 4 * _BANDS - 1  # beyond, bands must differ in four bits: looking them up costs more than comparing all
_BLOCK = 1024  # hashes compared with each other at once: a few MiB of distances
_CANDIDATES_PER_BATCH = 1 << 21  # candidates verified at once: 64 MiB of words

Words = npt.NDArray[np.uint64]  # (hashes, 4)
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A hash at most so far from an older one, the leader, which itself follows none. Both are places in the input."""

    index: int
    representative: int
    distance: int


def parse_hashes(hashes: list[str]) -> Words:
    """Hashes in hex, of 64 digits each, as rows of four words. Raises ValueError."""
    payload = bytes.fromhex("".join(hashes))
    if len(payload) * 8 != BITS * len(hashes):
        raise ValueError(f"a hash that is not {BITS // 4} hexadecimal digits long")
    return np.frombuffer(payload, dtype="<u8").reshape(-1, BITS // 64).astype(np.uint64)


def near_duplicates(hashes: Words, distance: int) -> Iterator[NearDuplicate]:
    """Every hash that lies within ``distance`` bits of an older one that does not follow itself, in their order.

    The leader is the oldest such; everything else leads. So a chain of small steps does not collapse into its
    first link, and the answer does not depend on how the work is cut. ``distance`` is at most ``MAX_DISTANCE``.

    Exact by the pigeonhole principle (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index
    Hashing", CVPR 2012): of two hashes within the distance, one of 16 bands differs in at most a sixteenth of it,
    so all values so near to a leader's band are looked up. Only leaders look, and equal hashes are one, so that a
    family of many copies is a star and not all its pairs.
    """
    distinct, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # the distinct hashes by their oldest holder
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    oldest = first[order]
    leaders, distances = _lead(distinct[order], distance)
    group = rank[inverse.ravel()]
    for place in range(len(hashes)):
        own = int(group[place])
        if leaders[own] >= 0:
            yield NearDuplicate(place, int(oldest[leaders[own]]), int(distances[own]))
        elif oldest[own] != place:
            yield NearDuplicate(place, int(oldest[own]), 0)


def near_pairs(hashes: Words, distance: int) -> Iterator[tuple[int, int]]:
    """All (older, newer) places of distinct hashes that lie within ``distance`` bits, each once, in no order."""
    if distance == 0 or len(hashes) < 2:
        return
    found: set[tuple[int, int]] = set()
    for looking, near in _Index.of(hashes, distance).near(np.arange(len(hashes)), at=-1):
        behind = near > looking
        looking, near = looking[behind], near[behind]
        close = _apart(hashes[looking], hashes[near]) <= distance
        found.update(zip(looking[close].tolist(), near[close].tolist(), strict=True))
    yield from found


def _lead(hashes: Words, distance: int) -> tuple[Places, Places]:
    """For each of distinct hashes its leader, or -1 for those that lead, and the distance to it."""
    many = len(hashes)
    leaders, distances = np.full(many, -1, np.int64), np.zeros(many, np.int64)
    if distance == 0 or many < 2:
        return leaders, distances
    index = _Index.of(hashes, distance)
    at = 0
    while at < many:
        rest = np.flatnonzero(leaders[at:] < 0)[:_BLOCK] + at
        if not rest.size:
            break
        found = _within(hashes, rest, leaders, distances, distance)
        for looking, near in index.near(found, at=int(rest[-1])):
            open_ = leaders[near] < 0
            looking, near = looking[open_], near[open_]
            apart = _apart(hashes[looking], hashes[near])
            close = apart <= distance
            looking, near, apart = looking[close], near[close], apart[close]
            # The oldest leader of each: the first in the order of (follower, leader).
            by_age = np.lexsort((looking, near))
            looking, near, apart = looking[by_age], near[by_age], apart[by_age]
            oldest = np.concatenate(([True], near[1:] != near[:-1])) if near.size else np.zeros(0, bool)
            leaders[near[oldest]], distances[near[oldest]] = looking[oldest], apart[oldest]
        at = int(rest[-1]) + 1
    return leaders, distances


def _within(hashes: Words, rest: Places, leaders: Places, distances: Places, distance: int) -> Places:
    """Settle who leads whom within a block, oldest first; the places of those that lead."""
    block = hashes[rest]
    apart = np.zeros((len(block), len(block)), np.uint16)
    for word in range(block.shape[1]):
        apart += np.bitwise_count(block[:, None, word] ^ block[None, :, word])
    follows = np.zeros(len(block), bool)
    for older, newer in np.argwhere(np.triu(apart <= distance, 1)):
        if not follows[older] and not follows[newer]:
            follows[newer] = True
            leaders[rest[newer]], distances[rest[newer]] = rest[older], apart[older, newer]
    led: Places = rest[~follows]
    return led


def _apart(one: Words, other: Words) -> Places:
    apart: Places = np.bitwise_count(one ^ other).sum(axis=1, dtype=np.int64)
    return apart


@dataclass(frozen=True, slots=True)
class _Index:
    """For each band and value the places of the hashes that have it, in their order."""

    bands: npt.NDArray[np.uint16]  # (hashes, bands)
    places: npt.NDArray[np.int64]  # (bands, hashes), sorted by value, then place
    starts: npt.NDArray[np.int64]  # (bands, values + 1)
    flips: npt.NDArray[np.uint16]  # what may differ in one band at least

    @classmethod
    def of(cls, hashes: Words, distance: int) -> "_Index":
        bands = hashes.astype("<u8").view("<u2").astype(np.uint16)
        places = np.stack([np.argsort(bands[:, band], kind="stable") for band in range(_BANDS)])
        values = np.arange((1 << _BAND_BITS) + 1)
        starts = np.stack([np.searchsorted(bands[places[band], band], values) for band in range(_BANDS)])
        flips = np.arange(1 << _BAND_BITS, dtype=np.uint16)
        return cls(bands, places, starts, flips[np.bitwise_count(flips) <= distance // _BANDS])

    def near(self, leaders: Places, *, at: int) -> Iterator[tuple[Places, Places]]:
        """Pairs of a leader and a hash behind place ``at`` with a band nearly in common, some at a time.

        A pair may come several times. Leaders come in their order: a piece never holds a leader older than those
        of the pieces before it.
        """
        wide = max(1, _CANDIDATES_PER_BATCH // (_BANDS * self.flips.size * max(1, 2 * len(self.bands) >> _BAND_BITS)))
        for start in range(0, leaders.size, wide):
            some = leaders[start : start + wide]
            yield from self._near(some, at)

    def _near(self, some: Places, at: int) -> Iterator[tuple[Places, Places]]:
        found_leaders, found = [], []
        for band in range(_BANDS):
            values = (self.bands[some, band][:, None] ^ self.flips[None, :]).astype(np.int64)
            begin = self.starts[band][values].ravel()
            sizes = self.starts[band][values + 1].ravel() - begin
            total = int(sizes.sum())
            steps = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            near = self.places[band][np.repeat(begin, sizes) + steps]
            looking = np.repeat(np.repeat(some, self.flips.size), sizes)
            behind = near > at
            found_leaders.append(looking[behind])
            found.append(near[behind])
        yield np.concatenate(found_leaders), np.concatenate(found)
