"""Trials of rules."""

from pathlib import Path

import pytest

from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.where import Where
from stoker.pipelines.stages.curate import Judging
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.views.curate_again import decide
from stoker.pipelines.stages.views.trial import trial
from stoker.storage.stores.memory import MemoryStore
from tests.fakes import context, recipe

WORDS = ("one", "two", "three", "four", "five")
SHORT = Where("size > 3")


@pytest.mark.parametrize(("rules", "decided"), [((SHORT,), 1), ((ExactDuplicates(), SHORT), 3)])
def test_a_rule_is_asked_alone_only_where_there_are_others(
    rules: tuple[Rule, ...], decided: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = MemoryStore(), list[int]()
    before = ingest(recipe(WORDS), store, context(tmp_path)).manifest.read_lists()

    def counted(made, *arguments):  # type: ignore[no-untyped-def]  # passed on as they are
        asked.append(len(made.rules))
        return decide(made, *arguments)

    monkeypatch.setattr(f"{trial.__module__}.decide", counted)
    found = trial(recipe(WORDS, rules=rules), before, store, tmp_path, Judging(elders=True))
    assert len(asked) == decided
    assert (found.samples, found.after) == (5, 3)
    assert (found.rules[-1].rule, found.rules[-1].alone, found.rules[-1].of_version) == ("where", 2, 2)
    assert found.together == ((("where",), 2),)
