"""What samples lack is counted by name, within limits, and changes nothing else."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stoker.flows.cli.show import print_version
from stoker.flows.report.report import report
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.sources.wikipedia_dump import WikipediaDump
from stoker.pipelines.stages.ingest import find_part, ingest_partition, plan
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.reading.omitted import MAX_NAMES, OTHERS, OmittedCounts, most_omitted
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import load_manifest
from tests.fakes import context, recipe
from tests.pipelines.sources.test_wikipedia_dump import dump, page


def wiki(folder: Path, *pages: str) -> Recipe:
    (folder / "dewiki.xml").write_bytes(dump(*pages))
    return replace(recipe((), corpus="wiki"), source=WikipediaDump("dewiki.xml"))


def test_a_version_tells_which_templates_were_dropped_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = page(1, "Zinn {{Unbekannt|x}} ist {{unbekannt}} ein Metall. {{Navigation}}")
    other = page(2, "Blei {{unbekannt}} auch.")
    store = MemoryStore()
    ingest(wiki(tmp_path, first, other, page(3, "{{unbekannt|verworfen}}")), store, context(tmp_path))
    manifest = load_manifest(store, "wiki")
    assert report(manifest).omitted == {"template unbekannt": 3, "template navigation": 1}
    print_version(manifest, Console(width=100))
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert ["template", "unbekannt", "3"] in lines
    assert load_manifest(store, "wiki", 1).parts[0].omitted == {"template unbekannt": 3, "template navigation": 1}


def test_the_counts_change_no_byte_of_a_sample_and_no_content(tmp_path: Path) -> None:
    made = wiki(tmp_path, page(1, "Zinn {{unbekannt}} ist ein Metall."))
    (partition,) = plan(made, context(tmp_path))
    store = MemoryStore()
    part = ingest_partition(made, partition, store, context(tmp_path)).part
    assert part.omitted
    assert find_part(made, partition, store) == part
    (candidate,) = made.source.read(partition, context(tmp_path))
    assert "unbekannt" not in str((candidate.sample.fields, candidate.sample.record, candidate.sample.measures))


def test_a_part_that_counted_nothing_is_written_as_before(tmp_path: Path) -> None:
    store = MemoryStore()
    ingest(recipe(("one", "two")), store, context(tmp_path))
    manifest = load_manifest(store, "words")
    assert all("omitted" not in part.to_json() for part in manifest.parts)
    assert report(manifest).omitted == {}


def test_a_hostile_page_fills_neither_memory_nor_the_manifest() -> None:
    counts = OmittedCounts()
    for number in range(30_000):
        counts.add({f"template {number}": 1, "template " + "x" * 5_000 + str(number): 2})
    assert len(counts._counts) <= 10_001
    most = counts.most()
    assert len(most) == MAX_NAMES + 1
    assert sum(most.values()) == 90_000
    assert max(map(len, most)) <= 60


@given(st.lists(st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 5)), max_size=6), st.integers(0, 9))
def test_counts_do_not_depend_on_their_order_and_nothing_goes_uncounted(
    counts: list[dict[str, int]], limit: int
) -> None:
    shuffled = random.Random(1).sample(counts, len(counts))
    most = most_omitted(counts, limit)
    assert list(most.items()) == list(most_omitted(shuffled, limit).items())
    assert sum(most.values()) == sum(sum(each.values()) for each in counts)
    named = [count for name, count in most.items() if name != OTHERS]
    assert named == sorted(named, reverse=True)
