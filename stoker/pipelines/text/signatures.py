"""Search for near-duplicates among many texts, by MinHash signatures and locality-sensitive hashing.

Two signatures are compared only if they agree in one of several bands (Broder, "On the Resemblance and Containment of
Documents", 1997). Price: a number of eight bytes for each band of each text, and about 1 in 200 pairs of exactly the
asked for similarity is missed.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stoker.pipelines.text.measures import SLOTS, mix

MAX_IN_BUCKET = 128  # kept texts of a bucket that others are compared with
_MAX_MISSED = 0.005  # share of the pairs of exactly the given similarity that may not be compared
Signatures = npt.NDArray[np.uint32]  # (texts, SLOTS)


def parse_signatures(column: Sequence[object]) -> Signatures:
    """The signatures of texts, as records hold them. Raises ValueError for what is none."""
    if any(not isinstance(value, bytes) or len(value) != SLOTS * 4 for value in column):
        raise ValueError(f"expected {SLOTS * 4} bytes a text")
    return np.frombuffer(b"".join(column), "<u4").reshape(-1, SLOTS)  # type: ignore[arg-type]  # bytes, as was checked


def near_duplicates(signatures: Signatures, similarity: float, *, elders: int = 0) -> Iterator[tuple[int, int, float]]:
    """The rows that are similar to an earlier row that is kept: (row, representative, their similarity).

    Two signatures are compared only if they agree in one of several bands (locality-sensitive hashing), and only with
    rows that are kept, so that a million copies of one text cost a million comparisons. The first ``elders`` rows are
    kept.
    """
    kept = KeptTexts(signatures, similarity)
    for row in kept.comparable().tolist():
        if row < elders:
            kept.add(row)
            continue
        # The oldest, if several are equally similar.
        best = max(kept.similar_to(row), key=lambda similar: (similar.equal_slots, -similar.row), default=None)
        if best is None:
            kept.add(row)
        else:
            yield row, best.row, best.equal_slots / SLOTS


class SimilarText(NamedTuple):
    """A kept text that is similar to another."""

    row: int
    equal_slots: int  # of SLOTS


class KeptTexts:
    """The kept ones among texts, and which of them are similar to another: candidates by locality-sensitive hashing.

    A bucket that holds more than ``MAX_IN_BUCKET`` kept texts belongs to a template, which says little: of those only
    the oldest are compared through it. Copies have other buckets in common, too. So a template costs time linear in
    the number of its pages.
    """

    def __init__(self, signatures: Signatures, similarity: float, *, least: float | None = None) -> None:
        """``least``: the estimate of those that count as similar, if it is another than ``similarity``."""
        self._signatures = signatures
        self._least = (similarity if least is None else least) * SLOTS - 1e-9
        self._buckets = _buckets(signatures, similarity)
        self._kept: dict[int, list[int]] = {}  # rows by bucket

    def comparable(self) -> npt.NDArray[np.int64]:
        """The rows that have a bucket in common with another row, in order."""
        return np.flatnonzero((self._buckets >= 0).any(axis=1))

    def similar_to(self, row: int) -> list[SimilarText]:
        """The kept texts that are similar to a row, the oldest first."""
        kept = (self._kept.get(bucket) for bucket in self._buckets[row].tolist() if bucket >= 0)
        candidates = sorted(set().union(*filter(None, kept)))
        if not candidates:
            return []
        equal_slots = (self._signatures[candidates] == self._signatures[row]).sum(axis=1)
        similar = np.flatnonzero(equal_slots >= self._least)
        return [SimilarText(candidates[index], int(equal_slots[index])) for index in similar.tolist()]

    def add(self, row: int) -> None:
        """Keep a row."""
        for bucket in self._buckets[row].tolist():
            if bucket >= 0:
                rows = self._kept.setdefault(bucket, [])
                if len(rows) < MAX_IN_BUCKET:
                    rows.append(row)


def band_width(similarity: float) -> int:
    """How many slots make a band: the most with which hardly any pair of the given similarity is missed."""
    fits = [width for width in range(1, 17) if (1 - similarity**width) ** (SLOTS // width) <= _MAX_MISSED]
    return max(fits)


def _buckets(signatures: Signatures, similarity: float) -> npt.NDArray[np.int64]:
    """For each row and band the number of its bucket: rows with the same slots share it; -1 if no other row does."""
    width = band_width(similarity)
    bands = SLOTS // width
    buckets = np.full((len(signatures), bands), -1, np.int64)
    first = 0
    for band in range(bands):
        hashes = np.full(len(signatures), band, np.uint64)
        for slot in range(band * width, (band + 1) * width):
            hashes = mix(hashes + signatures[:, slot])
        _, same, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        shared = counts[same] > 1
        buckets[shared, band] = same[shared] + first
        first += counts.size
    return buckets
