"""Exact search for near-duplicates among many 256-bit hashes, by Hamming distance.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012):
of two hashes within the distance, one of 16 bands of 16 bits differs in at most a sixteenth of it. So only hashes
that are that near in one band are compared in full. Price: an index of 160 bytes a hash and 8 MiB, and at
distance 31 lookups of 17 values in each of 16 bands for each representative.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, repeat

import numpy as np
import numpy.typing as npt

BITS = 256
_BANDS = 16
_BAND_BITS = BITS // _BANDS
MAX_DISTANCE = 4 * _BANDS - 1  # beyond, bands must differ in four bits: looking them up costs more than comparing all
_BLOCK = 1024  # hashes compared with each other at once: a few MiB of distances
_CANDIDATES_PER_BATCH = 1 << 20  # pairs compared in full at once: 64 MiB of words
_RANGES_PER_BATCH = 1 << 19  # ranges of an index looked up at once: 8 MiB
_CROWD = 64  # hashes with one value in a band, above which they are look-alikes more than chance
_CROWDED_BANDS = 8  # in how many bands a hash is in a crowd if it belongs to a family of look-alikes

Words = npt.NDArray[np.uint64]  # (hashes, 4)
Indices = npt.NDArray[np.int64]
Pairs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.uint8]]  # older, newer, bits between them


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


def near_duplicates(hashes: Words, distance: int, *, elders: int = 0) -> Iterator[NearDuplicate]:
    """Every hash within ``distance`` bits of an older representative, in order of the input.

    The oldest representative near enough is chosen; a hash with none near becomes one itself. So a chain of small
    steps does not collapse into its first link, and the result does not depend on the batches that are compared at
    once.
    ``distance`` is at most ``MAX_DISTANCE``. The first ``elders`` hashes are representatives, near each other or not.

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
    distinct_elders = int(np.searchsorted(oldest, elders))
    representatives, distances = _assign_representatives(distinct[order], distance, distinct_elders)
    rank_of_input = rank[inverse.ravel()]
    for index in range(elders, len(hashes)):
        own_rank = int(rank_of_input[index])
        if representatives[own_rank] >= 0:
            yield NearDuplicate(index, int(oldest[representatives[own_rank]]), int(distances[own_rank]))
        elif oldest[own_rank] != index:
            yield NearDuplicate(index, int(oldest[own_rank]), 0)


def near_pairs(hashes: Words, distance: int, *, since: int, most: int) -> Pairs | None:
    """All pairs of distinct hashes within a distance, one of them at ``since`` or after it: indices and distances.

    None where there are more than ``most``.
    """
    none = np.zeros(0, np.int32)
    found = [(none, none, none.astype(np.uint8))]
    count = 0
    for newer, older in _BandIndex.of(hashes, distance).candidates(np.arange(since, len(hashes))):
        wanted = np.flatnonzero(older < newer)
        older, newer = older[wanted], newer[wanted]
        between = _distances(hashes[older], hashes[newer])
        close = np.flatnonzero(between <= distance)
        pairs, first = np.unique(newer[close] * len(hashes) + older[close], return_index=True)
        count += pairs.size
        if count > most:
            return None
        newer, older = np.divmod(pairs, len(hashes))
        found.append((older.astype(np.int32), newer.astype(np.int32), between[close][first].astype(np.uint8)))
    olders, newers, distances = zip(*found, strict=True)
    return np.concatenate(olders), np.concatenate(newers), np.concatenate(distances)


@dataclass(frozen=True, slots=True)
class OlderNeighbours:
    """For each of distinct hashes the older ones within a distance, found when they are asked for.

    Many look-alikes form families, each around its oldest member, which all others are near. Of a hash's own family
    only that oldest member is given. So time and memory of a family are linear in its size.
    """

    hashes: Words
    distance: int
    index: "_BandIndex"

    @classmethod
    def of(cls, hashes: Words, distance: int) -> "OlderNeighbours":
        """From distinct hashes, oldest first."""
        index = _BandIndex.of(hashes, distance)
        crowd = index.crowded()
        families = np.arange(len(hashes))
        if crowd.size:
            oldest, _ = _assign_representatives(hashes[crowd], distance)
            families[crowd] = np.where(oldest >= 0, crowd[oldest], crowd)
            index = _BandIndex.of(hashes, distance, families)
        return cls(hashes, distance, index)

    @property
    def families(self) -> Indices:
        """Of each hash the index of its family's oldest member; its own, if it is in none or that member."""
        return self.index.families

    def walk(self, useless: Callable[[Indices, Indices], npt.NDArray[np.bool_]]) -> Iterator[Indices]:
        """For each hash in order the indices of its older neighbours in other families, in order.

        Args:
            useless: of indices of older and newer hashes, which of the pairs are not asked for. It is called for some
                hashes ahead of time, so what it says of a pair must not change later from true to false.
        """
        count, none = len(self.hashes), np.zeros(0, np.int64)
        yielded = 0
        if self.distance:
            for newer, older in self.index.candidates(np.arange(count), other_families=True):
                stop = int(newer[-1]) + 1 if newer.size else yielded
                wanted = np.flatnonzero(older < newer)
                older, newer = older[wanted], newer[wanted]
                if self.index.keys.size:
                    wanted = (self.families[older] != self.families[newer]) & ~useless(older, newer)
                    older, newer = older[wanted], newer[wanted]
                close = np.flatnonzero(_distances(self.hashes[older], self.hashes[newer]) <= self.distance)
                pairs = np.unique(newer[close] * count + older[close])
                newer, older = pairs // count, pairs % count
                bounds = np.searchsorted(newer, np.arange(yielded, stop + 1))
                for start, end in pairwise(bounds.tolist()):
                    yield older[start:end] if start < end else none
                yielded = stop
        yield from repeat(none, count - yielded)

    def near(self, index: int, among: Indices) -> Indices:
        """Those of the given hashes that are within the distance of one."""
        return among[_distances(self.hashes[among], self.hashes[index]) <= self.distance]


def _assign_representatives(hashes: Words, distance: int, elders: int = 0) -> tuple[Indices, Indices]:
    """For each of distinct hashes the index of its representative and the distance to it; -1 for representatives.

    The first ``elders`` are some.
    """
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
        block_representatives = _assign_in_block(hashes, block, representatives, distances, distance, elders)
        for older, newer in band_index.candidates(block_representatives):
            unassigned = (newer > block[-1]) & (newer >= elders) & (representatives[newer] < 0)
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
    hashes: Words, block: Indices, representatives: Indices, distances: Indices, distance: int, elders: int
) -> Indices:
    """The indices of a block's representatives; the block's other hashes are assigned to them, oldest first."""
    words = hashes[block]
    pair_distances = np.zeros((len(words), len(words)), np.uint16)
    for word in range(words.shape[1]):
        pair_distances += np.bitwise_count(words[:, None, word] ^ words[None, :, word])
    assigned = np.zeros(len(words), bool)
    near = np.triu(pair_distances <= distance, 1) & (block >= elders)
    for older in np.flatnonzero(near.any(axis=1)).tolist():
        if not assigned[older]:
            newer = np.flatnonzero(near[older] & ~assigned)
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
    """For each band and value the indices of the hashes that have it, by family, then in order."""

    bands: npt.NDArray[np.uint16]  # (hashes, bands)
    indices: Indices  # (bands * hashes): of each band all hashes, sorted by value, family and index
    starts: Indices  # (bands, values + 1): where in ``indices`` a value's hashes begin
    flips: npt.NDArray[np.uint16]  # what may differ in one band at least
    families: Indices  # of each hash: the index of its oldest member, or of its own
    keys: Indices  # of each of ``indices``: its band, value and family as one number; empty without families

    @classmethod
    def of(cls, hashes: Words, distance: int, families: Indices | None = None) -> "_BandIndex":
        count = len(hashes)
        bands = hashes.astype("<u8").view("<u2").astype(np.uint16)
        order = np.arange(count) if families is None else np.argsort(families, kind="stable")
        by_band = [order[np.argsort(bands[order, band], kind="stable")] for band in range(_BANDS)]
        values = np.arange((1 << _BAND_BITS) + 1)
        starts = [np.searchsorted(bands[by_band[band], band], values) + band * count for band in range(_BANDS)]
        flips = np.arange(1 << _BAND_BITS, dtype=np.uint16)
        flips = flips[np.bitwise_count(flips) <= distance // _BANDS]
        indices, keys = np.concatenate(by_band), np.zeros(0, np.int64)
        if families is not None:
            in_order = [bands[by_band[band], band].astype(np.int64) + (band << _BAND_BITS) for band in range(_BANDS)]
            keys = np.concatenate(in_order) * count + families[indices]
        return cls(bands, indices, np.stack(starts), flips, order if families is None else families, keys)

    def crowded(self) -> Indices:
        """The indices of the hashes that have the same value as many others in many bands."""
        crowds = np.zeros(len(self.bands), np.int64)
        for band in range(_BANDS):
            is_crowd = np.diff(self.starts[band]) > _CROWD
            if is_crowd.any():
                crowds += is_crowd[self.bands[:, band]]
        return np.flatnonzero(crowds >= _CROWDED_BANDS)

    def candidates(self, queries: Indices, *, other_families: bool = False) -> Iterator[tuple[Indices, Indices]]:
        """Pairs of a query and a hash that are near in one band, in batches of bounded size.

        A pair may come several times. A batch never holds an older query than the batches before it.

        Args:
            other_families: leaves out most pairs of one family. Those are not even looked at, so that a family of
                many look-alikes takes time linear in its size.
        """
        ranges = _BANDS * self.flips.size
        step = max(1, _RANGES_PER_BATCH // ranges)
        for start in range(0, queries.size, step):
            part = queries[start : start + step]
            starts, stops = self._ranges(part)
            if other_families and self.keys.size:
                starts, stops = self._without_own_family(part, starts, stops)
            totals = np.cumsum((stops - starts).sum(axis=1))
            first = 0
            while first < part.size:
                done = int(totals[first - 1]) if first else 0
                last = max(first + 1, int(np.searchsorted(totals, done + _CANDIDATES_PER_BATCH, "right")))
                yield self._expand(part[first:last], starts[first:last], stops[first:last])
                first = last

    def _ranges(self, queries: Indices) -> tuple[Indices, Indices]:
        """(queries, ranges): where in ``indices`` the hashes begin and end that are near a query in a band."""
        starts = np.empty((queries.size, _BANDS, self.flips.size), np.int64)
        stops = np.empty_like(starts)
        for band in range(_BANDS):  # one after the other, because the starts of one band fit a processor's cache
            values = (self.bands[queries, band][:, None] ^ self.flips).astype(np.int64)
            starts[:, band], stops[:, band] = self.starts[band][values], self.starts[band][values + 1]
        return starts.reshape(queries.size, -1), stops.reshape(queries.size, -1)

    def _without_own_family(self, queries: Indices, starts: Indices, stops: Indices) -> tuple[Indices, Indices]:
        """Large ranges without the query's family: what is before it, and what is after it."""
        large = np.nonzero(stops - starts > _CROWD)
        if not large[0].size:
            return starts, stops
        first = starts[large]
        # All hashes of a range have the first one's band and value; so its key, but for the family, is theirs.
        own = self.keys[first] - self.families[self.indices[first]] + self.families[queries[large[0]]]
        after_starts, after_stops = np.zeros_like(starts), np.zeros_like(stops)
        after_starts[large], after_stops[large] = np.searchsorted(self.keys, own, "right"), stops[large]
        stops = stops.copy()
        stops[large] = np.searchsorted(self.keys, own, "left")
        return np.concatenate([starts, after_starts], axis=1), np.concatenate([stops, after_stops], axis=1)

    def _expand(self, queries: Indices, starts: Indices, stops: Indices) -> tuple[Indices, Indices]:
        sizes = stops - starts
        filled = np.flatnonzero(sizes)
        filled_sizes = sizes.ravel()[filled]
        places = np.repeat(starts.ravel()[filled] - np.cumsum(filled_sizes) + filled_sizes, filled_sizes)
        places += np.arange(places.size)
        return np.repeat(queries, sizes.sum(axis=1)), self.indices[places]
