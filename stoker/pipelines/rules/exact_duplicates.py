"""Keep one of each set of samples with the same content."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from stoker.pipelines.rule import Decision, Rule, differ, labels_of


@dataclass(frozen=True)
class ExactDuplicates(Rule):
    """Keep the oldest of the samples whose content (the bytes after all steps, or an image's pixels) is the same.

    If some of them have a label, the oldest that has one is kept.

    Images of the same pixels but other compression or metadata count as the same where ``near_duplicate_images`` cannot
    tell: up to 65,536 pixels, and up to 16 megapixels where the perceptual hash has a quality below 50. Samples that an
    older version of Stoker ingested have no hash of their pixels, and are compared by their bytes alone.

    Args:
        conflicts: "drop" or "keep", default "drop": what happens to samples with the same content but different
            labels. "drop" drops all of them (``label_conflict``), because no label can be trusted; "keep" keeps the
            oldest.

    Example::

        [[rules]]
        name = "exact_duplicates"
        conflicts = "drop"
    """

    version: ClassVar[int] = 2  # 2: a sample without a label contradicts no label

    conflicts: Literal["drop", "keep"] = "drop"

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """See Rule."""
        keys = records["key"].to_pylist()
        labels = labels_of(records)
        for same in _same(records):
            oldest = next((row for row in same if labels[row] is not None), same[0])
            copies = [row for row in same if row != oldest]
            conflicting = next((row for row in copies if differ(labels[row], labels[oldest])), None)
            if conflicting is not None and self.conflicts == "drop":
                yield Decision(keys[oldest], "drop", "label_conflict", witness=keys[conflicting], similarity=1.0)
                for row in copies:
                    yield Decision(keys[row], "drop", "label_conflict", witness=keys[oldest], similarity=1.0)
            else:
                for row in copies:
                    yield Decision(keys[row], "drop", "exact_duplicate", witness=keys[oldest], similarity=1.0)


def _same(records: pa.Table) -> list[list[int]]:
    """The rows in sets of the same content, each set and its rows in order."""
    count = records.num_rows
    pixels = records["pixels_sha256"].to_pylist() if "pixels_sha256" in records.column_names else [None] * count
    oldest = list(range(count))  # the first row known to be the same

    def first(row: int) -> int:
        while oldest[row] != row:
            oldest[row] = oldest[oldest[row]]
            row = oldest[row]
        return row

    for hashes in (records["content_sha256"].to_pylist(), pixels):
        seen: dict[str, int] = {}
        for row, value in enumerate(hashes):
            if value is not None:
                here, there = first(row), first(seen.setdefault(value, row))
                oldest[max(here, there)] = min(here, there)
    sets: dict[int, list[int]] = {}
    for row in range(count):
        sets.setdefault(first(row), []).append(row)
    return list(sets.values())
