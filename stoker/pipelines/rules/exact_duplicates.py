"""Keep one of each set of samples with the same content."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from stoker.pipelines.rule import Decision, Rule


@dataclass(frozen=True)
class ExactDuplicates(Rule):
    """Keep the oldest of the samples whose content (the bytes after all steps) is the same.

    Args:
        conflicts: "drop" or "keep", default "drop": what happens to samples with the same content but different
            labels. "drop" drops all of them (``label_conflict``), because no label can be trusted; "keep" keeps the
            oldest.

    Example::

        [[rules]]
        name = "exact_duplicates"
        conflicts = "drop"
    """

    conflicts: Literal["drop", "keep"] = "drop"

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """See Rule."""
        keys = records["key"].to_pylist()
        labels = records["label"].to_pylist() if "label" in records.column_names else [None] * len(keys)
        rows_by_content: dict[str, list[int]] = {}
        for row, content in enumerate(records["content_sha256"].to_pylist()):
            rows_by_content.setdefault(content, []).append(row)
        for oldest, *copies in rows_by_content.values():
            conflicting = next((row for row in copies if labels[row] != labels[oldest]), None)
            if conflicting is not None and self.conflicts == "drop":
                yield Decision(keys[oldest], "drop", "label_conflict", witness=keys[conflicting], similarity=1.0)
                for row in copies:
                    yield Decision(keys[row], "drop", "label_conflict", witness=keys[oldest], similarity=1.0)
            else:
                for row in copies:
                    yield Decision(keys[row], "drop", "exact_duplicate", witness=keys[oldest], similarity=1.0)
