"""Exact search for near-duplicates among many 256-bit hashes, by Hamming distance.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012):
of two hashes within the distance, one of 16 bands of 16 bits differs in at most a sixteenth of it. So only hashes
that are that near in one band are compared in full. Price: an index of 160 bytes a hash and 8 MiB, and at
distance 31 lookups of 17 values in each of 16 bands for each representative.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BITS = 256
_BANDS = 16
_BAND_BITS = BITS // _BANDS
MAX_DISTANCE = 4 * _BANDS - 1  # beyond, bands must differ in four bits: looking them up costs more than comparing all
_BLOCK = 1024  # hashes compared with each other at once: a few MiB of distances
_CANDIDATES_PER_BATCH = 1 << 21  # pairs compared in full at once: 64 MiB of words

Words = npt.NDArray[np.uint64]  # (hashes, 4)
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A hash that is near an older one, its representative, which is itself no near-duplicate of another."""

    index: int  # in the input
    representative: int  # index in the input
    distance: int  # bits


def parse_hashes(hashes: list[str]) -> Words:
    """Hashes in hex, of 64 digits each, as rows of four words. Raises ValueError."""
    payload = bytes.fromhex("".join(hashes))
    if len(payload) * 8 != BITS * len(hashes):
        raise ValueError(f"a hash that is not {BITS // 4} hexadecimal digits long")
    return np.frombuffer(payload, dtype="<u8").reshape(-1, BITS // 64).astype(np.uint64)


def near_duplicates(hashes: Words, distance: int) -> Iterator[NearDuplicate]:
    """Every hash within ``distance`` bits of an older representative, in order of the input.

    The oldest representative near enough is chosen; a hash with none near becomes one itself. So a chain of small
    steps does not collapse into its first link, and the result does not depend on the batches that are compared at
    once.
    ``distance`` is at most ``MAX_DISTANCE``.

    Only representatives are looked up in the index, and equal hashes are looked up once: many copies of one image
    cost one comparison a copy, not one for each pair.

    >>> [duplicate] = near_duplicates(parse_hashes(["0" * 64, "f" * 64, "0" * 63 + "3"]), 31)
    >>> duplicate
    NearDuplicate(index=2, representative=0, distance=2)
    """
    distinct, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # the distinct hashes by their oldest holder
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    oldest = first[order]
    representatives, distances = _assign_representatives(distinct[order], distance)
    rank_of_input = rank[inverse.ravel()]
    for index in range(len(hashes)):
        own_rank = int(rank_of_input[index])
        if representatives[own_rank] >= 0:
            yield NearDuplicate(index, int(oldest[representatives[own_rank]]), int(distances[own_rank]))
        elif oldest[own_rank] != index:
            yield NearDuplicate(index, int(oldest[own_rank]), 0)


def near_pairs(hashes: Words, distance: int) -> Iterator[tuple[int, int]]:
    """All (older, newer) indices of distinct hashes that lie within ``distance`` bits, each pair once, in no order."""
    if distance == 0 or len(hashes) < 2:
        return
    result: set[tuple[int, int]] = set()
    for older, newer in _BandIndex.of(hashes, distance).candidates(np.arange(len(hashes)), behind=-1):
        ordered = newer > older
        older, newer = older[ordered], newer[ordered]
        close = _distances(hashes[older], hashes[newer]) <= distance
        result.update(zip(older[close].tolist(), newer[close].tolist(), strict=True))
    yield from result


def _assign_representatives(hashes: Words, distance: int) -> tuple[Indices, Indices]:
    """For each of distinct hashes the index of its representative and the distance to it; -1 for representatives."""
    count = len(hashes)
    representatives, distances = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    if distance == 0 or count < 2:
        return representatives, distances
    band_index = _BandIndex.of(hashes, distance)
    start = 0
    while start < count:
        block = np.flatnonzero(representatives[start:] < 0)[:_BLOCK] + start
        if not block.size:
            break
        block_representatives = _assign_in_block(hashes, block, representatives, distances, distance)
        for older, newer in band_index.candidates(block_representatives, behind=int(block[-1])):
            unassigned = representatives[newer] < 0
            older, newer = older[unassigned], newer[unassigned]
            pair_distances = _distances(hashes[older], hashes[newer])
            close = pair_distances <= distance
            older, newer, pair_distances = older[close], newer[close], pair_distances[close]
            # The oldest representative of each: the first in the order of (newer, older).
            by_age = np.lexsort((older, newer))
            older, newer, pair_distances = older[by_age], newer[by_age], pair_distances[by_age]
            oldest = np.concatenate(([True], newer[1:] != newer[:-1])) if newer.size else np.zeros(0, bool)
            representatives[newer[oldest]], distances[newer[oldest]] = older[oldest], pair_distances[oldest]
        start = int(block[-1]) + 1
    return representatives, distances


def _assign_in_block(
    hashes: Words, block: Indices, representatives: Indices, distances: Indices, distance: int
) -> Indices:
    """The indices of a block's representatives; the block's other hashes are assigned to them, oldest first."""
    words = hashes[block]
    pair_distances = np.zeros((len(words), len(words)), np.uint16)
    for word in range(words.shape[1]):
        pair_distances += np.bitwise_count(words[:, None, word] ^ words[None, :, word])
    assigned = np.zeros(len(words), bool)
    for older, newer in np.argwhere(np.triu(pair_distances <= distance, 1)):
        if not assigned[older] and not assigned[newer]:
            assigned[newer] = True
            representatives[block[newer]], distances[block[newer]] = block[older], pair_distances[older, newer]
    result: Indices = block[~assigned]
    return result


def _distances(left: Words, right: Words) -> Indices:
    """The Hamming distances between the rows of two arrays."""
    distances: Indices = np.bitwise_count(left ^ right).sum(axis=1, dtype=np.int64)
    return distances


@dataclass(frozen=True, slots=True)
class _BandIndex:
    """For each band and value the indices of the hashes that have it, in order."""

    bands: npt.NDArray[np.uint16]  # (hashes, bands)
    indices: npt.NDArray[np.int64]  # (bands, hashes), sorted by value, then index
    starts: npt.NDArray[np.int64]  # (bands, values + 1): where in ``indices`` a value's hashes begin
    flips: npt.NDArray[np.uint16]  # what may differ in one band at least

    @classmethod
    def of(cls, hashes: Words, distance: int) -> "_BandIndex":
        bands = hashes.astype("<u8").view("<u2").astype(np.uint16)
        indices = np.stack([np.argsort(bands[:, band], kind="stable") for band in range(_BANDS)])
        values = np.arange((1 << _BAND_BITS) + 1)
        starts = np.stack([np.searchsorted(bands[indices[band], band], values) for band in range(_BANDS)])
        flips = np.arange(1 << _BAND_BITS, dtype=np.uint16)
        return cls(bands, indices, starts, flips[np.bitwise_count(flips) <= distance // _BANDS])

    def candidates(self, queries: Indices, *, behind: int) -> Iterator[tuple[Indices, Indices]]:
        """Pairs of a query and a hash with an index above ``behind`` that are near in one band, in batches.

        A pair may come several times. A batch never holds an older query than the batches before it.
        """
        batch = max(1, _CANDIDATES_PER_BATCH // (_BANDS * self.flips.size * max(1, 2 * len(self.bands) >> _BAND_BITS)))
        for start in range(0, queries.size, batch):
            yield self._candidates(queries[start : start + batch], behind)

    def _candidates(self, queries: Indices, behind: int) -> tuple[Indices, Indices]:
        query_parts, match_parts = [], []
        for band in range(_BANDS):
            values = (self.bands[queries, band][:, None] ^ self.flips[None, :]).astype(np.int64)
            starts = self.starts[band][values].ravel()
            sizes = self.starts[band][values + 1].ravel() - starts
            steps = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            matches = self.indices[band][np.repeat(starts, sizes) + steps]
            newer = matches > behind
            query_parts.append(np.repeat(np.repeat(queries, self.flips.size), sizes)[newer])
            match_parts.append(matches[newer])
        return np.concatenate(query_parts), np.concatenate(match_parts)
