"""Keep at most some samples of each class, host, author or value of another column."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from pydantic import Field

from stoker.pipelines.rejected import OutcomeClass, Reason
from stoker.pipelines.rule import READ_BY_KEEP, Decision, Rule, RuleTools, decisions, in_order_of
from stoker.storage.versions.memory.outcomes import hashes_of


@dataclass(frozen=True)
class Caps(Rule):
    """Drop what is more than ``most`` samples of one value of a column (``over_cap``).

    Samples of the version before count first. So what it holds stays, also where that is more than ``most``, until the
    rule changes; then the oldest stay. Samples without a value are kept.

    Args:
        by: the column: "label", "author", any other of the records, or "host" for the host of ``url``.
        most: of one value.
        keep: "any", "oldest", "largest" (pixels), "longest" (characters) or "best_licence", default "any": which new
            samples stay. "any" is a choice by a hash of their keys, whatever their order in the source; equal ones of
            the others go by it, too.

    Example::

        [[rules]]
        name = "caps"
        by = "words"
        most = 3
    """

    reasons: ClassVar[Mapping[str, Reason]] = {
        "over_cap": Reason("there are enough of its kind: a class, host or author", OutcomeClass.RECIPE)
    }

    by: Annotated[str, Field(min_length=1)]
    most: Annotated[int, Field(ge=1, le=10**9)]
    keep: Literal["any", "oldest", "largest", "longest", "best_licence"] = "any"

    def needed_columns(self) -> tuple[str, ...]:
        """See Rule."""
        return (self._column, *READ_BY_KEEP.get(self.keep, ()))

    @property
    def _column(self) -> str:
        return "url" if self.by == "host" else self.by

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        rows = _in_any_order(rows) if self.keep == "any" else in_order_of(self.keep, rows)
        return decisions(self._decide(rows))

    def _decide(self, rows: pa.Table) -> Iterator[Decision]:
        counts = Counter[object]()
        values = rows[self._column].to_pylist()
        if self.by == "host":
            values = [url and urlsplit(url).hostname for url in values]
        for key, value in zip(rows["key"].to_pylist(), values, strict=True):
            if value is None or value == "":
                continue
            value = str(value) if isinstance(value, list | dict) else value
            counts[value] += 1
            if counts[value] > self.most:
                detail = f"more than {self.most} of {self.by} {value}"
                yield Decision(key, "drop", "over_cap", detail=detail)


def _in_any_order(rows: pa.Table) -> pa.Table:
    """Elders as they come, then newcomers by a hash of their keys."""
    newcomer = ~rows["is_elder"].to_numpy()
    hashes = np.where(newcomer, hashes_of("", rows["key"].to_pylist()), 0)
    return rows.take(pa.array(np.lexsort((np.arange(rows.num_rows), hashes, newcomer))))
