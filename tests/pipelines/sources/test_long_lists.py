"""Planning a long list takes little memory, and the same partitions as ever come out of it."""

import json
import tracemalloc
from pathlib import Path

import pytest

from stoker.pipelines.partition import Partition, Partitions, cut
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.stages.ingest import plan
from stoker.pipelines.web.client import Web

LINES = 20_000


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch")


@pytest.mark.parametrize("line", ["", "no url, number {}", "https://img{}.example/a.jpg"])
def test_a_plan_of_a_long_list_takes_little_memory_and_has_each_line(context: Context, line: str) -> None:
    (context.root / "long.txt").write_text("".join(f"{line.format(number)}\n" for number in range(LINES)))
    source = {"name": "image_urls", "lists": "long.txt", "partition_urls": 100}
    recipe = parse({"corpus": "long", "source": source}, root=context.root)
    plan(recipe, context)  # imports and caches
    tracemalloc.start()
    try:
        partitions = plan(recipe, context)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 250 * LINES  # bytes; as Python's objects it is 600 to 900 a line
    entries = [entry for partition in partitions for entry in partition.payload["urls"]]
    assert len(entries) == LINES
    if "refused" in entries[0]:
        assert [entry["line"] for entry in entries] == [f"long.txt:{number}" for number in range(1, LINES + 1)]


def test_rejects_come_after_the_urls_around_them_in_whole_partitions(context: Context) -> None:
    lines = ["" if number % 3 else f"https://one.example/{number}.jpg" for number in range(400)]
    (context.root / "mixed.txt").write_text("\n".join(lines))
    source = ImageUrls(lists="mixed.txt", partition_urls=20)
    partitions = list(source.partitions(context))
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
