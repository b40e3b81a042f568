"""Keep the samples for which an SQL expression is true."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import AfterValidator

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import ChosenReason, Rule, RuleTools
from stoker.pipelines.tables.deciding.sql import columns_in


def _checked(expression: str) -> str:
    columns_in(expression)
    return expression


@dataclass(frozen=True)
class Where(Rule):
    """Drop the samples for which an SQL expression over the columns of their records is not true.

    Any column counts: of the source, of a table's own, of steps, and what is measured of every sample (``width``,
    ``characters``, ``size``). So ``width >= 256 and licence like 'CC%'`` keeps large images of free licences. Null
    counts as not true: a sample without a licence is dropped by it; ``licence is null or licence like 'CC%'`` keeps it.

    The SQL is DuckDB's. An expression is about one sample: it has no subqueries, aggregates or windows, and calls
    nothing whose value is another one each time, such as ``now()``. Times are in UTC. A column that no record has is an
    error.

    Args:
        where: the expression.
        reason: the reject reason of what is dropped, default "not_wanted": a lower_snake word.

    Example::

        [[rules]]
        name = "where"
        where = "width >= 256 or words >= 500"
        reason = "too_little"
    """

    reason_options: ClassVar = {"reason": "the condition of a rule `where` does not hold"}

    where: Annotated[str, AfterValidator(_checked)]
    reason: ChosenReason = "not_wanted"

    def needed_columns(self) -> tuple[str, ...]:
        """See Rule."""
        try:
            return columns_in(self.where)
        except ValueError as error:  # of one that is made in Python
            raise RecipeError(f"rule 'where': {error}") from error

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        fulfilled = f"(\n{self.where}\n)"  # checked to be one expression; a comment may end it
        kind = tools.sql(f"SELECT {fulfilled} AS fulfilled FROM rows ORDER BY fulfilled LIMIT 0")["fulfilled"].type  # noqa: S608
        if not pa.types.is_boolean(kind):
            raise RecipeError(
                f"rule 'where': {self.where!r:.200} is {kind}, expected true or false, as in: width >= 256"
            )
        return tools.sql(
            "SELECT key, 'drop' AS action, $reason::VARCHAR AS value FROM rows "  # noqa: S608
            f"WHERE {fulfilled} IS NOT TRUE ORDER BY age_rank",
            reason=self.reason,
        )
