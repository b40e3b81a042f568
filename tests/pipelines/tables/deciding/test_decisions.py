"""What a rule gets, and what is said of decisions that cannot be carried out: one line that names the rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import ALWAYS, DECISIONS, Decision, Rule, RuleTools, decisions
from stoker.pipelines.tables.deciding.decisions import rows_of
from stoker.storage.shards.sample import Sample
from stoker.testing import decide

RECORDS = pa.table({"key": ["a", "b", "c"], "year": [1, 2, 3], "secret": ["x", "y", "z"], "age_rank": [7, 8, 9]})


@dataclass(frozen=True)
class Returning(Rule):
    """Returns what a test wants it to."""

    columns: ClassVar[tuple[str, ...]] = ("year",)
    optional_columns: ClassVar[tuple[str, ...]] = ("caption",)

    made: Callable[[pa.Table, RuleTools], Any] = lambda rows, tools: decisions([])

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        return self.made(rows, tools)


def table(**columns: Any) -> Callable[[pa.Table, RuleTools], pa.Table]:
    whole = {"key": ["a"], "action": ["drop"], "value": ["empty"]} | columns
    return lambda rows, tools: pa.table({name: values for name, values in whole.items() if values is not None})


def refusal(made: Callable[[pa.Table, RuleTools], Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        decide(Returning(made), RECORDS)
    assert str(caught.value).startswith("rule 'test_decisions'")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_rule_gets_the_columns_that_it_names_and_those_of_all() -> None:
    seen: list[pa.Table] = []

    def made(rows: pa.Table, tools: RuleTools) -> pa.Table:
        seen.append(rows)
        return decisions([])

    assert decide(Returning(made), RECORDS) == []
    assert set(seen[0].column_names) == {*ALWAYS, "year", "caption"}
    assert seen[0]["caption"].null_count == 3


def test_an_option_may_name_a_column() -> None:
    @dataclass(frozen=True)
    class Chosen(Rule):
        column: str = "year"

        def needed_columns(self) -> tuple[str, ...]:
            return (self.column,)

        def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
            query = f"SELECT key, 'drop' AS action, 'empty' AS value FROM rows WHERE {self.column} = $x ORDER BY key"
            return tools.sql(query, x={"year": 2, "secret": "z"}[self.column])

    assert [decision.key for decision in decide(Chosen(), RECORDS)] == ["b"]
    assert [decision.key for decision in decide(Chosen("secret"), RECORDS)] == ["c"]
    with pytest.raises(RecipeError, match="the records have no column 'colour', which it reads; name it where"):
        decide(Chosen("colour"), RECORDS)


def test_what_a_rule_leaves_out_is_filled_in_and_types_are_those_of_the_table() -> None:
    assert decide(Returning(table()), RECORDS) == [Decision("a", "drop", "empty")]
    made = table(similarity=[1], verified=[True], witness=pa.array(["b"], pa.large_string()))
    assert decide(Returning(made), RECORDS) == [Decision("a", "drop", "empty", "b", 1.0, verified=True)]
    assert decisions([Decision("a", "split", "x")]).schema == DECISIONS


def test_decisions_that_cannot_be_carried_out_are_refused() -> None:
    assert "returned list, expected a pyarrow.Table, which" in refusal(lambda rows, tools: [])
    assert "have no column 'value'; expected key, action, value, witness" in refusal(table(value=None))
    assert "have a column 'reason'; expected" in refusal(table(reason=["x"]))
    assert "column 'similarity' of its decisions is string, expected double" in refusal(table(similarity=["much"]))
    assert "a decision has no value; expected one in each" in refusal(table(value=pa.nulls(1, pa.string())))
    assert "wants to 'keep' 'a', expected drop or split" in refusal(table(action=["keep"]))
    assert "decided about 'z', which is not among" in refusal(table(key=["z"]))
    assert "wants a split 'exam'; the recipe has: train, validation" in refusal(table(action=["split"], value=["exam"]))
    assert "gives 'a' a similarity of 1.5, expected 0 to 1" in refusal(table(similarity=[1.5]))
    assert "gives 'a' a similarity of nan" in refusal(table(similarity=[float("nan")]))
    assert "names 'a' as its own witness; expected another" in refusal(table(witness=["a"]))
    twice = table(key=["a", "b", "a"], action=["drop"] * 3, value=["empty"] * 3)
    assert "decided 1 samples twice, such as 'a'; expected one drop each" in refusal(twice)
    both = table(key=["a", "a"], action=["drop", "split"], value=["empty", "train"])
    assert len(decide(Returning(both), RECORDS)) == 2


def test_what_a_rule_asks_for_wrongly_is_refused() -> None:
    assert 'reads a column that it does not name in `columns`: Field "secret"' in refusal(
        lambda rows, _: rows["secret"]
    )
    assert "its SQL cannot be used: Binder Error" in refusal(
        lambda rows, tools: tools.sql("SELECT secret FROM rows ORDER BY key")
    )
    assert "asks for the content of 'z', which" in refusal(lambda rows, tools: list(tools.contents(["z"], "txt")))
    with pytest.raises(KeyError, match="other"):  # a bug of the rule's own
        decide(Returning(lambda rows, tools: dict[str, int]()["other"]), RECORDS)


def test_contents_are_read_in_the_order_of_the_keys() -> None:
    samples = [Sample("a", {"txt": b"one"}), Sample("b", {"txt": b"two"}), Sample("c", {"jpg": b""})]
    seen: list[object] = []

    def made(rows: pa.Table, tools: RuleTools) -> pa.Table:
        seen.extend(tools.contents(["c", "b", "a"], "txt"))
        return decisions([])

    decide(Returning(made), RECORDS, samples=samples)
    assert seen == [None, b"two", b"one"]


def test_of_no_rows_a_rule_is_not_asked() -> None:
    assert decide(Returning(lambda rows, tools: 1 / 0), RECORDS.slice(0, 0)) == []


def test_a_reason_that_nobody_declares_is_refused_in_one_line() -> None:
    with pytest.raises(RecipeError, match="drops 'a' for a reason that is not known; declare 'too_sad' in its `reas"):
        decide(Returning(lambda rows, tools: decisions([Decision("a", "drop", "too_sad")])), RECORDS)


@pytest.mark.parametrize("many", [True, False])
def test_rows_of_keys_are_those_where_they_are_found(many: bool) -> None:
    among = pa.chunked_array([[f"k{number}" for number in range(60)], [f"k{number}" for number in range(60, 100)]])
    wanted = [*range(99, -1, -2)] if many else [77, 3, 60]
    keys = pa.chunked_array([["none", *(f"k{number}" for number in wanted)]])
    assert rows_of(keys, among).tolist() == [-1, *wanted]
    assert rows_of(keys.slice(0, 1), among).tolist() == [-1]
    assert rows_of(keys.slice(0, 0), among).tolist() == []
