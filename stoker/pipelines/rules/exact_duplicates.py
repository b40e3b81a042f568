"""Keep one of each set of samples with the same content."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from stoker.pipelines.rule import (
    READ_BY_KEEP,
    Decision,
    Rule,
    RuleTools,
    decisions,
    differ,
    in_order_of,
    labels_of,
    numbered,
)


@dataclass(frozen=True)
class ExactDuplicates(Rule):
    """Keep the oldest of the samples whose content (the bytes after all steps, or an image's pixels) is the same.

    If some of them have a label, the oldest that has one is kept. One that the version before holds is kept before all
    others.

    Images of the same pixels but other compression or metadata count as the same where ``near_duplicate_images`` cannot
    tell: up to 65,536 pixels, and up to 16 megapixels where the perceptual hash has a quality below 50. Samples that an
    older version of Stoker ingested have no hash of their pixels, and are compared by their bytes alone.

    Args:
        conflicts: "drop" or "keep", default "drop": what happens to samples with the same content but different
            labels. "drop" drops all of them (``label_conflict``), because no label can be trusted; "keep" keeps the
            oldest.
        keep: "oldest" or "best_licence", default "oldest": which of several new samples is kept.
            A sample that the version before holds stays whatever this says; equal ones go by a hash of their keys.

    Example::

        [[rules]]
        name = "exact_duplicates"
        conflicts = "drop"
    """

    version: ClassVar[int] = 2  # 2: a sample without a label contradicts no label
    columns: ClassVar[tuple[str, ...]] = ("content_sha256",)
    added: ClassVar[frozenset[str]] = frozenset({"keep"})
    optional_columns: ClassVar[tuple[str, ...]] = ("pixels_sha256", "label")

    conflicts: Literal["drop", "keep"] = "drop"

    keep: Literal["oldest", "best_licence"] = "oldest"

    def needed_columns(self) -> tuple[str, ...]:
        """See Rule."""
        return (*self.columns, *READ_BY_KEEP[self.keep])

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        return decisions(self._decide(in_order_of(self.keep, rows), tools.elders_stay))

    def _decide(self, rows: pa.Table, elders_stay: bool) -> Iterator[Decision]:
        keys = rows["key"].to_pylist()
        labels = labels_of(rows)
        elders = rows["is_elder"].to_numpy()
        for same in _same(rows):
            if elders_stay and elders[same[0]]:  # elders come first
                yield from self._beside_elders(same, elders, keys, labels)
                continue
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

    def _beside_elders(
        self, same: list[int], elders: "np.typing.NDArray[np.bool_]", keys: list[str], labels: list[object]
    ) -> Iterator[Decision]:
        """The decisions on newcomers that are the same as elders."""
        for row in same:
            if elders[row]:
                continue
            witness, reason = same[0], "exact_duplicate"
            if self.conflicts == "drop":
                others = (elder for elder in same if elders[elder] and differ(labels[row], labels[elder]))
                witness = next(others, same[0])
                reason = "label_conflict" if differ(labels[row], labels[witness]) else reason
            yield Decision(keys[row], "drop", reason, witness=keys[witness], similarity=1.0)


def _same(rows: pa.Table) -> list[list[int]]:
    """The rows in sets of the same content, each set and its rows in order; those that are alone are left out."""
    oldest = np.arange(rows.num_rows)  # of each row the first one known to be the same
    columns = [numbered(rows[name]) for name in ("content_sha256", "pixels_sha256")]
    changed = True
    while changed:  # twice or so: the same bytes have the same pixels, unless an older version did not hash those
        before = oldest
        for numbers, count in columns:
            known = numbers >= 0
            least = np.full(count, rows.num_rows)
            np.minimum.at(least, numbers[known], oldest[known])
            oldest = oldest.copy()
            oldest[known] = least[numbers[known]]
        oldest = oldest[oldest]
        changed = bool((oldest != before).any())
    copied = np.flatnonzero(np.bincount(oldest)[oldest] > 1)
    copied = copied[np.argsort(oldest[copied], kind="stable")]
    ends = np.flatnonzero(np.diff(oldest[copied])) + 1
    return [same.tolist() for same in np.split(copied, ends) if same.size]
