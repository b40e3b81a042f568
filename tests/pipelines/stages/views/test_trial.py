"""Trials of rules."""

from dataclasses import replace
from pathlib import Path

import pytest

from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts
from stoker.pipelines.rules.where import Where
from stoker.pipelines.sources.local_files import LocalFiles
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


def test_what_comes_back_says_why_it_was_out_and_what_moves_from_where(tmp_path: Path) -> None:
    store = MemoryStore()
    before = ingest(recipe(WORDS, rules=(SHORT,)), store, context(tmp_path)).manifest.read_lists()
    found = trial(recipe(WORDS), before, store, tmp_path, Judging(elders=True))
    told = [(one.key, one.before, one.reason, one.rule, one.excerpt) for one in found.come]
    assert told == [(word, "", "not_wanted", "where", word) for word in ("one", "two")]
    assert all(one.after for one in found.come)
    held_out = replace(recipe(WORDS, rules=(SHORT,)), splits={"test": 100.0})
    found = trial(held_out, before, store, tmp_path, Judging(elders=True, resplit=True))
    assert {(one.after, one.reason) for one in found.move} == {("test", "")}
    assert {one.before for one in found.move} <= {"train", "validation"}
    assert (len(found.move), found.moving, found.returning, found.come) == (3, 3, 0, ())


def test_what_stays_is_told_where_the_counterpart_goes_too(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    words = [f"w{number}" for number in range(60)]
    texts = {"a": [*words[:59], "x"], "b": words, "c": [*words[:59], "x"]}  # the other one is the oldest, by its hash
    for name, text in texts.items():
        (tmp_path / "texts" / f"{name}.txt").write_text(" ".join(text))
    store, asked = MemoryStore(), replace(recipe(()), source=LocalFiles("texts"))
    before = ingest(asked, store, context(tmp_path)).manifest.read_lists()
    rules = ExactDuplicates(), NearDuplicateTexts(similarity=0.8)
    found = trial(replace(asked, rules=rules), before, store, tmp_path, Judging(elders=True)).rules
    examples = {one.reason: one for rule in found for one in rule.worst}
    near, copy = examples["near_duplicate"], examples["exact_duplicate"]
    assert (copy.witness, copy.stays, near.stays) == (near.key, near.witness, near.witness)
    assert copy.parts.keys() == {copy.key, copy.witness, copy.stays}
    assert (copy.after, near.after) == ("", "")


def test_what_comes_tells_whether_what_it_is_like_is_in_the_version(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    words = [f"w{number}" for number in range(60)]
    for name, text in {"a": [*words[:59], "x"], "b": words}.items():
        (tmp_path / "texts" / f"{name}.txt").write_text(" ".join(text))
    store, asked = MemoryStore(), replace(recipe(()), source=LocalFiles("texts"))
    near = replace(asked, rules=(NearDuplicateTexts(similarity=0.8),))
    before = ingest(near, store, context(tmp_path)).manifest.read_lists()
    (came,) = trial(asked, before, store, tmp_path, Judging(elders=True)).come
    assert (came.reason, came.stays) == ("near_duplicate", came.witness)
    assert came.witness
    assert came.parts.keys() == {came.key, came.witness}
    longer = replace(asked, rules=(Where(f"size > {len(' '.join(words)) - 1}"),))
    (instead,) = trial(longer, before, store, tmp_path, Judging(elders=True)).come
    assert (instead.key, instead.witness, instead.stays) == (came.key, came.witness, "")


def test_namesakes_of_samples_that_are_held_are_not_taken_from_the_version(tmp_path: Path) -> None:
    store, asked = MemoryStore(), recipe(("one", "two", "one"), target=1)
    before = ingest(asked, store, context(tmp_path)).manifest.read_lists()
    found = trial(asked, before, store, tmp_path, Judging(elders=True))
    (rule,) = found.rules
    assert (rule.rule, rule.dropped, rule.of_version, rule.worst) == ("unique_keys", {"duplicate_key": 1}, 0, ())
    assert (found.leaving, found.returning, found.moving, found.come, found.move) == (0, 0, 0, (), ())
