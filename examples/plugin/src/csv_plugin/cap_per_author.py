"""So many samples of one author at most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import Field

from stoker.pipelines.rule import Rule, RuleTools

# DuckDB's SQL. The last line says in which order the rows come: without it they could come in another one.
QUERY = """
    SELECT key, 'drop' AS action, 'author_cap' AS value, oldest AS witness
    FROM (
        SELECT key, age_rank,
            row_number() OVER (PARTITION BY author ORDER BY age_rank) AS place,
            first_value(key) OVER (PARTITION BY author ORDER BY age_rank) AS oldest
        FROM rows
        WHERE author <> ''
    )
    WHERE place > $samples
    ORDER BY age_rank
"""


@dataclass(frozen=True)
class CapPerAuthor(Rule):
    """Keep the oldest ``samples`` of each author, so that no voice is louder than others; those of nobody all stay.

    Example::

        [[rules]]
        name = "cap_per_author"
        samples = 100
    """

    reasons: ClassVar[Mapping[str, str]] = {"author_cap": "the corpus has enough samples of its author"}
    columns: ClassVar[tuple[str, ...]] = ("author",)

    samples: Annotated[int, Field(ge=1)] = 100

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        return tools.sql(QUERY, samples=self.samples)
