"""A candidate's lineage in sentences."""

from dataclasses import replace
from pathlib import Path

from stoker.flows.report.lineage import events_of
from stoker.pipelines.sources.local_files import LocalFiles
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.stores.memory import MemoryStore
from tests.fakes import context, recipe


def test_where_it_was_found_is_its_own_place_and_not_that_of_its_partition(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.txt").write_text(f"the {name} text")
    store = MemoryStore()
    made = ingest(replace(recipe(()), source=LocalFiles("*.txt")), store, context(tmp_path)).manifest
    (lineage,) = find_lineages(store, made, "file:second.txt")
    assert events_of(lineage, {})[0].text == (
        "By local_files, at file:second.txt. Read in the partition with the name first.txt."
    )
