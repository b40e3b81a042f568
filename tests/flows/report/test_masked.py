"""Views in reports: counts, samples and differences are of what a version holds, and what is masked is told."""

import io

import pytest
from rich.console import Console

from stoker.flows.cli import show
from stoker.flows.page.gallery import memberships
from stoker.flows.report.difference import difference
from stoker.flows.report.report import report
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import NotFound
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.masks.view import with_masks
from tests.storage.published import CORPUS, make_version


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def base(store: MemoryStore) -> Manifest:
    return make_version(store)


@pytest.fixture
def view(store: MemoryStore, base: Manifest) -> Manifest:
    return with_masks(store, base, ["s-000", "s-007", "s-011"])


def printed(store: MemoryStore, manifest: Manifest) -> str:
    console = Console(file=io.StringIO(), width=200)
    show.print_version(manifest, console)
    show.print_corpora(store, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_masked_share_is_told_and_packing_from_a_fifth_on(store: MemoryStore, base: Manifest) -> None:
    assert "masked" not in printed(store, base)
    assert report(base).view == ""
    little = with_masks(store, base, ["s-000"])
    assert report(little).view == "9.1 % masked: 1 of the 11 samples in its tars are left out"
    much = with_masks(store, little, ["s-007", "s-011"])
    text = report(much).view
    assert text.startswith("27 % masked: 3 of the 11 samples in its tars are left out; `stoker pack digits` would")
    assert text.endswith("spare readers about 10.1 kB")
    shown = printed(store, much)
    assert text in shown
    assert "27 % masked" in shown.splitlines()[-1]
    assert show.corpora_json(store)["corpora"][0]["newest"]["masked"] == 3
    assert report(much).to_json()["masked"] == 3


def test_pages_of_samples_and_searches_are_without_masked_ones(store: MemoryStore, view: Manifest) -> None:
    reader = SampleReader(store)
    keys = [entry.key for number in (1, 2, 3) for entry in reader.page(view, number=number, size=3).entries]
    assert keys == ["s-001", "s-002", "s-003", "s-005", "s-006", "s-008", "s-009", "s-010"]
    assert reader.page(view, number=1, size=3).total == view.samples == 8
    assert [entry.key for entry in reader.page(view, where={"label": "a"}, size=9).entries] == [
        "s-003",
        "s-006",
        "s-009",
    ]
    assert reader.find(view, "s-001").record["label"] == "b"
    with pytest.raises(NotFound):
        reader.find(view, "s-000")


def test_a_difference_names_the_masked_samples(store: MemoryStore, base: Manifest, view: Manifest) -> None:
    found = difference(base, view, store)
    assert (found.removed, found.added, found.same) == (3, 0, 8)
    assert found.shards_shared == len(base.shards) == len(view.shards)
    assert not found.same_shards
    assert [change.key for change in found.examples["removed"]] == ["s-000", "s-007", "s-011"]
    back = difference(view, base, store, read=SampleReader(store).index)
    assert (back.added, back.removed) == (3, 0)


def test_a_sample_is_in_the_versions_that_do_not_mask_it(store: MemoryStore, base: Manifest, view: Manifest) -> None:
    reader = SampleReader(store)
    there = memberships(reader, base, reader.find(base, "s-000"))
    assert [(one.version, one.holds) for one in there] == [(1, True), (2, False)]


def test_why_tells_that_a_masked_sample_was_dropped(store: MemoryStore, view: Manifest) -> None:
    (gone,) = find_lineages(store, view, "s-000")
    (there,) = find_lineages(store, view, "s-001")
    assert (gone.state, gone.reason, gone.shard) == ("dropped", "masked", "")
    assert (there.state, there.shard) == ("kept", view.shards[0].key)
    assert CORPUS in there.shard
