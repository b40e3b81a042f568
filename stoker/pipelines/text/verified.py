"""Near-duplicates among many texts, decided by the texts themselves where their signatures leave it open.

A signature estimates a similarity with a standard error of sqrt(J (1 - J) / 128). Among thousands of pages of one
template the most similar one looks more similar than it is: at a threshold of 0.8, 18 of 100 pages that had 0.73 in
common were dropped. So both texts are read where the estimate is near the threshold, and their runs of words compared.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from stoker.pipelines.text.measures import SLOTS, Hashes, shingles, word_hashes
from stoker.pipelines.text.signatures import KeptTexts, Signatures, SimilarText

BELOW = 3.0  # standard errors under the threshold: one in 700 pairs of exactly that similarity looks less similar
# Above it more: an estimate is the largest among those of all candidates, hundreds where pages share a template.
ABOVE = 4.5
_SURE = 0.95  # up to this threshold, equal signatures are no chance: 0.95 ** 128 is 0.001
_MARKS = 1 << 20  # of runs of words by the end of their hash
_BUDGET = 64 << 20  # hashes of texts that are held, 8 bytes each
_MAX_AHEAD = 256  # texts that are read before it is known whether they are needed

Read = Callable[[Sequence[int]], Iterator[bytes | None]]  # the texts of rows, UTF-8; None for one that is not there


class NearText(NamedTuple):
    """A text that is similar to an older one that is kept."""

    row: int
    older: int
    similarity: float
    verified: bool


def near_duplicates(
    signatures: Signatures, similarity: float, read: Read, *, elders: int = 0, among_elders: bool = False
) -> Iterator[NearText]:
    """The rows that are similar to an earlier row that is kept; the first ``elders`` rows are kept.

    With ``among_elders`` no others are, so that rows are compared with those alone.

    Estimates far above the threshold decide, and those near it where a text cannot be read.
    """
    error = (similarity * (1 - similarity) / SLOTS) ** 0.5
    kept = KeptTexts(signatures, similarity, least=similarity - BELOW * error)
    texts = _Texts(read)
    rows = kept.comparable().tolist()
    ahead = 1
    for place, row in enumerate(rows):
        found: NearText | None = None
        if row >= elders and (candidates := kept.similar_to(row)):
            best = max(candidates, key=lambda one: (one.equal_slots, -one.row))
            estimate = best.equal_slots / SLOTS
            if estimate >= similarity + ABOVE * error or (estimate == 1 and similarity <= _SURE):
                found = NearText(row, best.row, estimate, verified=False)
            else:
                texts.load(rows[place : place + ahead])  # of one template many rows in turn are compared
                ahead = min(2 * ahead, _MAX_AHEAD)
                found = _verified(row, candidates, texts, similarity)
        else:
            ahead = max(1, ahead // 2)
        if found:
            yield found
        elif row < elders or not among_elders:
            kept.add(row)


def _verified(row: int, candidates: Sequence[SimilarText], texts: "_Texts", similarity: float) -> NearText | None:
    """The most similar candidate, the oldest of several, if it is similar enough."""
    own, others = texts.of(row, [one.row for one in candidates])
    measured = texts.reaching(own, others, similarity) if own is not None else {}
    near = [NearText(row, candidates[place].row, value, verified=True) for place, value in measured.items()]
    unread = [one for one, other in zip(candidates, others, strict=True) if own is None or other is None]
    estimates = (NearText(row, one.row, one.equal_slots / SLOTS, verified=False) for one in unread)
    near += [one for one in estimates if one.similarity >= similarity - 1e-9]
    return max(near, key=lambda one: (one.similarity, -one.older), default=None)


class _Texts:
    """The runs of words of texts, as sorted hashes; those that were used last are held."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._held: OrderedDict[int, Hashes | None] = OrderedDict()
        self._size = 0
        self._marks = np.zeros(_MARKS, np.bool_)

    def load(self, rows: Sequence[int]) -> None:
        """Read those of the texts that are not held."""
        missing = [row for row in rows if row not in self._held]
        for row, content in zip(missing, self._read(missing) if missing else (), strict=True):
            runs = None if content is None else np.unique(shingles(word_hashes(content.decode("utf-8", "replace"))[0]))
            self._held[row] = runs
            self._size += 0 if runs is None else runs.size

    def of(self, row: int, others: Sequence[int]) -> tuple[Hashes | None, list[Hashes | None]]:
        """The runs of a text and of others."""
        self.load([row, *others])
        for one in (*others, row):
            self._held.move_to_end(one)
        answer = self._held[row], [self._held[one] for one in others]
        while self._size > _BUDGET and len(self._held) > 1:
            _, runs = self._held.popitem(last=False)
            self._size -= 0 if runs is None else runs.size
        return answer

    def reaching(self, own: Hashes, others: Sequence[Hashes | None], least: float) -> dict[int, float]:
        """The Jaccard similarities of at least ``least``, by the place of the other text.

        First all are counted at once by the ends of hashes, which never gives too few; then those that remain exactly.
        """
        there = [(place, other) for place, other in enumerate(others) if other is not None and other.size]
        if not there or not own.size:
            return {}
        sizes = np.array([other.size for _, other in there])
        joined = np.concatenate([other for _, other in there])
        ends = own & np.uint64(_MARKS - 1)
        self._marks[ends] = True
        common = np.add.reduceat(self._marks[joined & np.uint64(_MARKS - 1)], np.cumsum(sizes) - sizes, dtype=np.int64)
        self._marks[ends] = False
        reached: dict[int, float] = {}
        for index in np.flatnonzero(common >= (least - 1e-9) * (own.size + sizes - common)).tolist():
            place, other = there[index]
            shared = np.intersect1d(own, other, assume_unique=True).size
            value = shared / (own.size + int(sizes[index]) - shared)
            if value >= least - 1e-9:
                reached[place] = value
        return reached
