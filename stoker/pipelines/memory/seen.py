"""Texts that were seen before, in 8 bytes each: a set of Python's objects takes a hundred."""

import hashlib

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
_Hashes = npt.NDArray[np.uint64]
_BITS = 4  # of a hash, that tell its bucket
_BUCKETS = np.arange(1 << _BITS, dtype=np.uint64) << np.uint64(64 - _BITS)  # the least hash of each


class Seen:
    """The hashes of texts, in sorted arrays, each at most half as long as the one before it.

    Those of hashes that begin alike are a bucket of their own, so that no merge holds two copies of all hashes.

    Two texts are taken for one if their 64-bit hashes are equal: among 10 million once in 400,000 lists.

    >>> seen = Seen()
    >>> seen.add(["a", "b", "a"]).tolist(), seen.add(["c", "b"]).tolist()
    ([False, False, True], [False, True])
    """

    def __init__(self) -> None:
        self._buckets: list[list[_Hashes]] = [[] for _ in _BUCKETS]

    def add(self, texts: list[str]) -> Flags:
        """Add texts; whether each was there, or is among those before it."""
        if not texts:
            return np.zeros(0, np.bool_)
        digests = b"".join(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
        )
        hashes: _Hashes = np.frombuffer(digests, np.uint64)
        new, first = np.unique(hashes, return_index=True)
        repeats = np.ones(len(hashes), np.bool_)
        repeats[first] = False
        in_buckets = np.split(new, np.searchsorted(new, _BUCKETS[1:]))
        repeats[first] = np.concatenate(
            [_add(levels, some) for levels, some in zip(self._buckets, in_buckets, strict=True)]
        )
        return repeats


def _add(levels: list[_Hashes], new: _Hashes) -> Flags:
    """Add different hashes in ascending order to a bucket; whether each was there."""
    found = np.zeros(len(new), np.bool_)
    if not len(new):
        return found
    for level in levels:
        found |= level[np.minimum(np.searchsorted(level, new), len(level) - 1)] == new
    levels.append(new[~found])
    if not len(levels[-1]):
        levels.pop()
    while len(levels) > 1 and 2 * len(levels[-1]) > len(levels[-2]):
        merged = np.concatenate([levels.pop(), levels.pop()])
        merged.sort(kind="stable")  # two ascending runs: it merges them
        levels.append(merged)
    return found
