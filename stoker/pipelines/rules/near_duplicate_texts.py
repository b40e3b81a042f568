"""One text of each wording."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import Decision, Rule
from stoker.pipelines.text.measures import SLOTS, mix

_MISSED = 0.005  # of the pairs that are exactly as similar as asked for, at most so many are not looked at


@dataclass(frozen=True)
class NearDuplicateTexts(Rule):
    """Drop a text that shares most of its wording with an older one that is kept.

    ``similarity`` is the share of runs of three words, without regard to case and punctuation, that two texts have in
    common (Jaccard), as estimated from their signatures to about 0.035. Only direct likeness to a kept text counts, so
    that no chain of small changes, and no template that many pages share, takes away texts that differ. Texts without
    words are left alone.

    Example::

        [[rules]]
        name = "near_duplicate_texts"
        similarity = 0.8
    """

    similarity: Annotated[float, Field(ge=0.3, le=1)] = 0.8

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """See Rule."""
        if not records.num_rows:
            return
        if "minhash" not in records.column_names:
            raise RecipeError(
                "rule 'near_duplicate_texts': the records have no column 'minhash', which is measured of every text; "
                "this corpus has none: leave the rule out"
            )
        found = records["minhash"].to_pylist()
        places = [place for place, signature in enumerate(found) if signature]
        try:
            joined = b"".join(found[place] for place in places)
        except TypeError:
            joined = b""
        if len(joined) != len(places) * SLOTS * 4:
            raise RecipeError(
                f"rule 'near_duplicate_texts': column 'minhash' is not Stoker's: expected {SLOTS * 4} bytes a text"
            )
        signatures = np.frombuffer(joined, "<u4").reshape(-1, SLOTS)
        keys = records["key"].to_pylist()
        for follower, leader, similarity in followers(signatures, self.similarity):
            key, witness = keys[places[follower]], keys[places[leader]]
            yield Decision(key, "drop", "near_duplicate", witness=witness, similarity=similarity)


def followers(signatures: npt.NDArray[np.uint32], similarity: float) -> Iterator[tuple[int, int, float]]:
    """The rows that are like an earlier row that is none of them: (its place, that row's place, their similarity).

    Signatures are compared whole only where they agree in one of several bands (locality-sensitive hashing), and
    only with rows that stay, so that a family of a million copies costs a million comparisons.
    """
    buckets = _buckets(signatures, similarity)
    leaders: dict[int, list[int]] = {}
    least = similarity * SLOTS - 1e-9
    for place in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
        own = [bucket for bucket in buckets[place].tolist() if bucket >= 0]
        near = sorted({leader for bucket in own for leader in leaders.get(bucket, ())})
        if near:
            equal = (signatures[near] == signatures[place]).sum(axis=1)
            best = int(equal.argmax())  # of equals the oldest
            if equal[best] >= least:
                yield place, near[best], float(equal[best]) / SLOTS
                continue
        for bucket in own:
            leaders.setdefault(bucket, []).append(place)


def pairs(signatures: npt.NDArray[np.uint32], similarity: float) -> Iterator[tuple[int, int]]:
    """All (older, newer) rows that are at least so similar, each once."""
    buckets = _buckets(signatures, similarity)
    members: dict[int, list[int]] = {}
    for place in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
        own = [bucket for bucket in buckets[place].tolist() if bucket >= 0]
        near = sorted({older for bucket in own for older in members.get(bucket, ())})
        if near:
            equal = (signatures[near] == signatures[place]).sum(axis=1)
            for at in np.flatnonzero(equal >= similarity * SLOTS - 1e-9).tolist():
                yield near[at], place
        for bucket in own:
            members.setdefault(bucket, []).append(place)


def width_of(similarity: float) -> int:
    """How many slots make a band: the most with which hardly a pair that is similar enough goes unseen."""
    fits = [width for width in range(1, 17) if (1 - similarity**width) ** (SLOTS // width) <= _MISSED]
    return max(fits)


def _buckets(signatures: npt.NDArray[np.uint32], similarity: float) -> npt.NDArray[np.int64]:
    """For each row and band a number that only rows with the same slots there share; -1 where no other does."""
    width = width_of(similarity)
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
