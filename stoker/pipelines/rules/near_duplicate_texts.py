"""Keep one of each set of near-duplicate texts."""

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

_MAX_MISSED = 0.005  # share of the pairs of exactly the given similarity that may not be compared


@dataclass(frozen=True)
class NearDuplicateTexts(Rule):
    """Drop a text that is nearly the same as an older text that is kept.

    Similarity is the Jaccard index of the texts' runs of three words, ignoring case and punctuation, estimated from
    MinHash signatures with a standard error of about 0.035. A text is only compared with texts that are kept, so a
    chain of small changes does not drop texts that differ. Texts without words are never dropped.

    Args:
        similarity: 0.3 to 1, default 0.8: the least similarity of near-duplicates.

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
        column = records["minhash"].to_pylist()
        rows = [row for row, signature in enumerate(column) if signature]
        try:
            joined = b"".join(column[row] for row in rows)
        except TypeError:
            joined = b""
        if len(joined) != len(rows) * SLOTS * 4:
            raise RecipeError(
                f"rule 'near_duplicate_texts': column 'minhash' is not Stoker's: expected {SLOTS * 4} bytes a text"
            )
        signatures = np.frombuffer(joined, "<u4").reshape(-1, SLOTS)
        keys = records["key"].to_pylist()
        for duplicate, representative, similarity in near_duplicates(signatures, self.similarity):
            key, witness = keys[rows[duplicate]], keys[rows[representative]]
            yield Decision(key, "drop", "near_duplicate", witness=witness, similarity=similarity)


def near_duplicates(signatures: npt.NDArray[np.uint32], similarity: float) -> Iterator[tuple[int, int, float]]:
    """The rows that are similar to an earlier row that is kept: (row, representative, their similarity).

    Two signatures are compared only if they agree in one of several bands (locality-sensitive hashing), and only with
    rows that are kept, so that a million copies of one text cost a million comparisons.
    """
    buckets = _buckets(signatures, similarity)
    kept_rows: dict[int, list[int]] = {}  # by bucket
    least = similarity * SLOTS - 1e-9
    for row in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
        own_buckets = [bucket for bucket in buckets[row].tolist() if bucket >= 0]
        candidates = sorted({kept for bucket in own_buckets for kept in kept_rows.get(bucket, ())})
        if candidates:
            equal_slots = (signatures[candidates] == signatures[row]).sum(axis=1)
            best = int(equal_slots.argmax())  # the oldest, if several are equally similar
            if equal_slots[best] >= least:
                yield row, candidates[best], float(equal_slots[best]) / SLOTS
                continue
        for bucket in own_buckets:
            kept_rows.setdefault(bucket, []).append(row)


def near_pairs(signatures: npt.NDArray[np.uint32], similarity: float) -> Iterator[tuple[int, int]]:
    """All pairs (older, newer) of rows that are at least that similar, each once."""
    buckets = _buckets(signatures, similarity)
    older_rows: dict[int, list[int]] = {}  # by bucket
    for row in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
        own_buckets = [bucket for bucket in buckets[row].tolist() if bucket >= 0]
        candidates = sorted({older for bucket in own_buckets for older in older_rows.get(bucket, ())})
        if candidates:
            equal_slots = (signatures[candidates] == signatures[row]).sum(axis=1)
            for index in np.flatnonzero(equal_slots >= similarity * SLOTS - 1e-9).tolist():
                yield candidates[index], row
        for bucket in own_buckets:
            older_rows.setdefault(bucket, []).append(row)


def band_width(similarity: float) -> int:
    """How many slots make a band: the most with which hardly any pair of the given similarity is missed."""
    fits = [width for width in range(1, 17) if (1 - similarity**width) ** (SLOTS // width) <= _MAX_MISSED]
    return max(fits)


def _buckets(signatures: npt.NDArray[np.uint32], similarity: float) -> npt.NDArray[np.int64]:
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
