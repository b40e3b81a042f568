"""What becomes of a candidate between its source and its part."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.flows.report.report import report
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Candidate
from stoker.pipelines.stages.ingest import apply_steps
from stoker.pipelines.stages.publish import ingest
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from tests.fakes import context, recipe
from tests.pipelines.pictures import packed, picture


def test_white_space_before_an_image_is_not_stored() -> None:
    payload = packed(picture(60, 40))
    candidate = Candidate(Sample("a", {"jpg": b"\r\n" + payload, "txt": b"\n a caption"}, {"url": "test:a"}))
    sample, rejected, _ = apply_steps(recipe(("a",)), candidate)
    assert rejected is None
    assert sample.fields == {"jpg": payload, "txt": b"\n a caption"}


def test_0_and_false_are_values_of_a_record_and_none_and_empty_text_are_none() -> None:
    made = recipe(("a",))
    made = replace(made, provenance=replace(made.provenance, author="us", extra={"rank": "9", "mark": "9", "note": ""}))
    values = {"group": 0, "licence": False, "author": "", "rank": None, "mark": 0.0}
    sample, rejected, _ = apply_steps(made, Candidate(Sample("a", {"txt": b"a text"}, values)))
    assert rejected is None
    expected = {"group": 0, "licence": False, "author": "us", "rank": "9", "mark": 0.0}
    assert {name: sample.record[name] for name in values} == expected
    assert "note" not in sample.record
    for nothing in ({}, {"group": None}, {"group": ""}):
        assert apply_steps(made, Candidate(Sample("a", {"txt": b"a"}, nothing)))[0].record["group"] == "a"


@pytest.mark.parametrize(
    "step",
    [
        {"name": "image", "mode": "pad", "size": 8},
        {"name": "image_size", "min_short_side": 4},
        {"name": "aspect_ratio"},
        {"name": "strip_metadata"},
        {"name": "text_length"},
        {"name": "text_normalise"},
        {"name": "language"},
    ],
)
def test_a_step_passes_samples_of_other_kinds_and_the_report_says_so(tmp_path: Path, step: dict[str, object]) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(packed(picture(60, 40, number)))
        (tmp_path / f"{number}_text.md").write_bytes(b"A text %d of its own." % number)
    document = {
        "corpus": "mixed",
        "source": {"name": "local_files", "files": "."},
        "steps": [step],
        "splits": {"all": 100},
    }
    store = MemoryStore()
    made = ingest(parse(document, root=tmp_path), store, context(tmp_path)).manifest
    assert (made.read, made.kept) == (6, 6)
    shown = report(made)
    assert dict(shown.passed) == {step["name"]: 3}
    assert not shown.omitted
    assert json.dumps(shown.to_json())
