"""What becomes of a candidate between its source and its part."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.flows.report.report import report
from stoker.pipelines.partition import Partition, Partitions, cut
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Candidate
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.stages.ingest import apply_steps, plan
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


LINES = 20_000


@pytest.mark.parametrize("line", ["", "no url, number {}", "https://img{}.example/a.jpg"])
def test_a_plan_of_a_long_list_takes_little_memory_and_has_each_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "long.txt").write_text("".join(f"{line.format(number)}\n" for number in range(LINES)))
    source = {"name": "image_urls", "lists": "long.txt", "partition_urls": 100}
    made = parse({"corpus": "long", "source": source}, root=tmp_path)
    plan(made, context(tmp_path))  # imports and caches
    tracemalloc.start()
    try:
        partitions = plan(made, context(tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 320 * LINES  # bytes, lines that are looked up too; as Python's objects it is 600 to 900 a line
    entries = [entry for partition in partitions for entry in partition.payload["urls"]]
    assert len(entries) == LINES
    if "refused" in entries[0]:
        assert [entry["line"] for entry in entries] == [f"long.txt:{number}" for number in range(1, LINES + 1)]


def test_rejects_come_after_the_urls_around_them_in_whole_partitions(tmp_path: Path) -> None:
    lines = ["" if number % 3 else f"https://one.example/{number}.jpg" for number in range(400)]
    (tmp_path / "mixed.txt").write_text("\n".join(lines))
    source = ImageUrls(lists="mixed.txt", partition_urls=20)
    partitions = list(source.partitions(context(tmp_path)))
    urls = [[entry["url"] for entry in part.payload["urls"]] for part in partitions if part.name[:3] == "one"]
    assert urls == list(cut((line for line in lines if line), str, target=20))
    refused = [len(part.payload["urls"]) for part in partitions if part.name.startswith("rejected")]
    kinds = "".join(partition.name[0] for partition in partitions)  # of one.example, and rejected
    assert kinds == "orrorrorororroroororororor"
    assert refused[:-1] == [20] * (len(refused) - 1)


def test_packed_partitions_are_what_they_were() -> None:
    given = [Partition("a", {"urls": [{"url": "h\ud800é", "n": 1.5}]}, "f"), Partition("b")]
    packed = Partitions(given)
    assert list(packed) == given
    assert packed[:1] == given[:1]
    assert packed[-1] == given[-1]
    assert json.dumps(packed[0].as_json(), sort_keys=True) == json.dumps(given[0].as_json(), sort_keys=True)
