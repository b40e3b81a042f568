"""Splits: what was asked for, what was reached, and that a large difference is told."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.flows.report.report import report
from stoker.pipelines.partition import Partition
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.splits import codes_of, missed_shares, split_of
from stoker.pipelines.web.client import Web
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from tests.flows.inspected_corpus import recipe

ASKED = {"train": 80.0, "validation": 10.0, "test": 10.0}


@dataclass(frozen=True)
class Groups(Source):
    """Samples in so many groups of one size."""

    groups: int = 1
    size: int = 1

    def partitions(self, context: Context) -> Iterator[Partition]:
        yield Partition("all")

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for number in range(self.groups * self.size):
            text = f"text number {number} of the corpus".encode()
            yield Candidate(Sample(f"k{number}", {"txt": text}, {"group": f"group {number // self.size}"}))


def test_a_split_that_misses_its_percentage_is_told_at_ingest_and_in_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch")
    for groups, size, misses in ((1, 30, True), (600, 1, False)):
        made = replace(recipe(Groups(groups, size), f"groups{groups}"), splits=ASKED)
        made = replace(made, document={**made.document, "splits": ASKED})
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            shown = report(ingest(made, MemoryStore(), context).manifest)
        assert bool(shown.missed) == misses
        assert [sentence for sentence in shown.missed if sentence not in caplog.text] == []
        assert {split.name: split.asked for split in shown.splits} == {
            "train": 0.8,
            "validation": 0.1,
            "test": 0.1,
        }
        assert sum(split.share for split in shown.splits) == pytest.approx(1)
        if misses:
            assert sum("is empty" in sentence for sentence in shown.missed) == 2


def test_samples_that_keep_their_split_are_told_where_the_shares_were_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context, store = Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch"), MemoryStore()
    for splits in ({"train": 98.0, "test": 2.0}, {"train": 50.0, "test": 50.0}):
        made = replace(recipe(Groups(600, 1), "kept"), splits=splits)
        made = replace(made, document={**made.document, "splits": splits})
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            shown = report(ingest(made, store, context).manifest)
    assert len(shown.missed) == 2
    for sentence in shown.missed:
        assert "`stoker curate RECIPE --resplit`" in sentence
        assert "groups" not in sentence
        assert sentence in caplog.text


@pytest.mark.parametrize(
    ("samples", "splits"),
    [
        ({"train": 800, "validation": 100, "test": 100}, []),
        ({"train": 790, "validation": 115, "test": 95}, []),
        ({"train": 850, "validation": 150}, ["validation", "test"]),
        ({"train": 400, "validation": 500, "test": 100}, ["train", "validation"]),
        ({}, []),
    ],
)
def test_small_differences_are_not_told(samples: dict[str, int], splits: list[str]) -> None:
    assert [sentence.split()[1] for sentence in missed_shares(ASKED, samples)] == splits


def test_a_split_of_no_percent_may_be_empty() -> None:
    assert missed_shares({"train": 100.0, "test": 0.0}, {"train": 5}) == []


@given(
    st.lists(st.text(max_size=4), max_size=50),
    st.sampled_from(
        [{"a": 100}, {"a": 90, "b": 10}, {"a": 33.3, "b": 33.3, "c": 33.4}, {"a": 0, "b": 50, "c": 50, "d": 0}]
    ),
)
def test_the_splits_of_many_groups_are_those_of_each(groups: list[str], splits: dict[str, float]) -> None:
    assert [list(splits)[code] for code in codes_of(pa.chunked_array([groups], pa.string()), splits)] == [
        split_of(group, splits) for group in groups
    ]
