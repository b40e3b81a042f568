"""What curation asks of a rule: decisions about samples that are there, the same for the same records.

Decisions are published with a version and explain it (``stoker why``), so each names its sample once, a reason that is
known, and as witness another sample; whoever reads the records in other pieces must come to the same ones.
"""

from typing import ClassVar

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import ALWAYS, Rule
from stoker.storage.stores.store import Store
from stoker.testing.contracts.component import ComponentContract, known_reasons
from stoker.testing.deciding import decide


class RuleContract(ComponentContract):
    """Tests of a rule. Override the fixtures ``rule`` and ``records``, about which it must decide something.

    ``records`` have unique keys and what the rule reads; what all records have is added, see ``stoker.testing.decide``.
    A rule that reads contents calls ``decide`` with ``samples`` in tests of its own.

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
    def store(self) -> Store | None:
        """A store with the versions that the rule compares with; None: it compares with none."""
        return None

    @pytest.fixture
    def component(self, rule: Rule) -> Rule:
        """See ComponentContract."""
        return rule

    def test_a_sample_is_dropped_once_for_a_known_reason_or_moved_once_to_a_split_of_the_recipe(
        self, rule: Rule, records: pa.Table, store: Store | None
    ) -> None:
        decisions = decide(
            rule, records, store=store
        )  # raises for an unknown key or split, and for two decisions about a sample
        assert decisions, "give the contract records that the rule decides something about"
        for decision in decisions:
            if decision.action == "drop":
                assert decision.value in known_reasons(rule), f"declare {decision.value!r} in the rule's `reasons`"

    def test_a_witness_is_another_sample(self, rule: Rule, records: pa.Table, store: Store | None) -> None:
        decisions = decide(rule, records, store=store)
        dropped = {decision.key for decision in decisions if decision.action == "drop"}
        for decision in decisions:
            assert decision.similarity is not None or not decision.verified
            if decision.witness:
                assert decision.witness != decision.key
                assert decision.witness in records["key"].to_pylist()
                assert not self.witness_is_kept or decision.witness not in dropped

    def test_the_same_records_are_decided_the_same_however_they_are_stored(
        self, rule: Rule, records: pa.Table, store: Store | None
    ) -> None:
        decisions = decide(rule, records, store=store)
        assert decide(rule, records, store=store) == decisions
        pieces = pa.concat_tables([records.slice(row, 1) for row in range(records.num_rows)])
        assert decide(rule, pieces, store=store) == decisions
        columns = records.select(records.column_names[::-1])
        assert decide(rule, columns.append_column("another", pa.nulls(records.num_rows)), store=store) == decisions

    def test_records_without_a_column_that_it_needs_are_refused(
        self, rule: Rule, records: pa.Table, store: Store | None
    ) -> None:
        for name in {*rule.needed_columns()} - {*ALWAYS, "content_sha256"}:
            with pytest.raises(RecipeError, match=f"no column '{name}'"):
                decide(rule, records.drop_columns([name]), store=store)
