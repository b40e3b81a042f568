"""One sample of each content."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from stoker.pipelines.rule import Decision, Rule


@dataclass(frozen=True)
class ExactDuplicates(Rule):
    """Keep the oldest of samples with the same content: the bytes after all steps.

    Where the same content stands under different labels no label can be trusted: with ``conflicts = "drop"`` all
    of them go (``label_conflict``), with ``"keep"`` the oldest stays.

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
        families: dict[str, list[int]] = {}
        for place, content in enumerate(records["content_sha256"].to_pylist()):
            families.setdefault(content, []).append(place)
        for places in families.values():
            oldest, *others = places
            other = next((place for place in others if labels[place] != labels[oldest]), None)
            if other is not None and self.conflicts == "drop":
                yield Decision(keys[oldest], "drop", "label_conflict", witness=keys[other], similarity=1.0)
                for place in others:
                    yield Decision(keys[place], "drop", "label_conflict", witness=keys[oldest], similarity=1.0)
            else:
                for place in others:
                    yield Decision(keys[place], "drop", "exact_duplicate", witness=keys[oldest], similarity=1.0)
