"""The oldest samples of each author stay."""

import pyarrow as pa
import pytest
from csv_plugin.cap_per_author import CapPerAuthor

from stoker.pipelines.rule import Rule
from stoker.testing import RuleContract, decide


class TestCapPerAuthor(RuleContract):
    @pytest.fixture
    def rule(self) -> Rule:
        return CapPerAuthor(samples=2)

    @pytest.fixture
    def records(self) -> pa.Table:
        return pa.table({"key": list("abcdefg"), "author": ["Ann", "Bob", "Ann", "Ann", None, None, "Ann"]})


def test_the_oldest_stay_and_those_of_nobody() -> None:
    records = pa.table({"key": list("abcde"), "author": ["Ann", "Ann", "", "", "Bob"]})
    (decision,) = decide(CapPerAuthor(samples=1), records)
    assert (decision.key, decision.value, decision.witness) == ("b", "author_cap", "a")
