"""What curation asks of a rule: decisions about samples that are there, the same for the same records.

Decisions are published with a version and explain it (``stoker why``), so each names its sample once, a reason that is
known, and as witness another sample; whoever reads the records in other pieces must come to the same ones.
"""

from typing import ClassVar

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import Decision, Rule
from stoker.pipelines.stages.splits import split_of
from stoker.testing.contracts.component import SPLITS, ComponentContract, known_reasons


class RuleContract(ComponentContract):
    """Tests of a rule. Override the fixtures ``rule`` and ``records``, about which it must decide something.

    ``records`` have unique keys and what the rule reads. The columns ``group`` (the key), ``split``, ``part`` and
    ``content_sha256``, which records always have, are added where they are missing.

    >>> from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
    >>> class TestExactDuplicates(RuleContract):
    ...     @pytest.fixture
    ...     def rule(self) -> Rule:
    ...         return ExactDuplicates()
    ...     @pytest.fixture
    ...     def records(self) -> pa.Table:
    ...         return pa.table({"key": ["a", "b"], "content_sha256": ["00", "00"]})
    """

    witness_is_kept: ClassVar[bool] = True  # False: of what drops each other, all go

    @pytest.fixture
    def rule(self) -> Rule:
        """The rule."""
        raise NotImplementedError("override the fixture `rule`")

    @pytest.fixture
    def records(self) -> pa.Table:
        """Records that it decides something about."""
        raise NotImplementedError("override the fixture `records`")

    @pytest.fixture
    def component(self, rule: Rule) -> Rule:
        """See ComponentContract."""
        return rule

    def test_a_sample_is_dropped_once_for_a_known_reason_or_moved_once_to_a_split_of_the_recipe(
        self, rule: Rule, records: pa.Table
    ) -> None:
        decisions = decide(rule, records)
        assert decisions, "give the contract records that the rule decides something about"
        assert {decision.key for decision in decisions} <= set(records["key"].to_pylist())
        about = [(decision.key, decision.action) for decision in decisions]
        assert len(about) == len(set(about))
        for decision in decisions:
            if decision.action == "drop":
                assert decision.value in known_reasons(rule), f"declare {decision.value!r} in the rule's `reasons`"
            else:
                assert decision.action == "split"
                assert decision.value in SPLITS

    def test_a_witness_is_another_sample(self, rule: Rule, records: pa.Table) -> None:
        decisions = decide(rule, records)
        dropped = {decision.key for decision in decisions if decision.action == "drop"}
        for decision in decisions:
            assert decision.similarity is None or 0 <= decision.similarity <= 1
            if decision.witness:
                assert decision.witness != decision.key
                assert decision.witness in records["key"].to_pylist()
                assert not self.witness_is_kept or decision.witness not in dropped

    def test_the_same_records_are_decided_the_same_however_they_are_stored(self, rule: Rule, records: pa.Table) -> None:
        decisions = decide(rule, records)
        assert decide(rule, records) == decisions
        pieces = pa.concat_tables([records.slice(row, 1) for row in range(records.num_rows)])
        assert decide(rule, pieces) == decisions
        columns = records.select(records.column_names[::-1])
        assert decide(rule, columns.append_column("another", pa.nulls(records.num_rows))) == decisions

    def test_of_no_records_nothing_is_decided(self, rule: Rule, records: pa.Table) -> None:
        assert decide(rule, records.slice(0, 0)) == []

    def test_records_without_its_columns_are_refused_or_decided(self, rule: Rule) -> None:
        refusal = ""
        try:
            decide(rule, pa.table({"key": ["a", "b"]}))
        except RecipeError as error:
            refusal = str(error)
        assert not refusal or "column" in refusal, "the message names the column that is missing"


def decide(rule: Rule, records: pa.Table) -> list[Decision]:
    """The rule's decisions about records, completed by the columns that all records have."""
    keys = [str(key) for key in records["key"].to_pylist()]
    if "group" not in records.column_names:
        records = records.append_column("group", pa.array(keys, pa.string()))
    groups = [str(group) for group in records["group"].to_pylist()]
    always = {
        "split": [split_of(group, SPLITS) for group in groups],
        "part": ["0" * 32] * len(keys),
        "content_sha256": [f"content of {key}" for key in keys],
    }
    for name, values in always.items():
        if name not in records.column_names:
            records = records.append_column(name, pa.array(values, pa.string()))
    return list(rule.decide(records, lambda group: split_of(group, SPLITS)))
