"""Publishing is a compare-and-swap on the parent, whoever publishes at the same time."""

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from stoker.pipelines.recipe import Recipe
from stoker.pipelines.stages.curate import curate
from stoker.pipelines.stages.elders.history import remembered
from stoker.pipelines.stages.elders.parent import parent_of
from stoker.pipelines.stages.ingest import ingest_partition, plan
from stoker.pipelines.stages.pack import pack
from stoker.pipelines.stages.publish import ParentMoved, Published, ingest, publish
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Payload, Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.deleted import delete_version
from stoker.storage.versions.manifest import load_manifest
from tests.fakes import READS, context, recipe

WORDS = tuple(f"word-{number}" for number in range(40))


def test_what_was_decided_against_an_older_version_is_not_published(tmp_path: Path) -> None:
    store, made = MemoryStore(), recipe(WORDS)
    parts = [ingest_partition(made, one, store, context(tmp_path)).part for one in plan(made, context(tmp_path))]
    curation = curate(made, parts, store, tmp_path)
    pairs = zip(curation.groups, curation.by_group, strict=True)
    packed = [pack(made, group, decisions, store, tmp_path) for group, decisions in pairs]
    ingest(recipe(WORDS[:20]), store, context(tmp_path))
    with pytest.raises(ParentMoved, match="the newest version is words@1 now"):
        publish(made, parts, curation, packed, store)
    assert catalog.versions(store, "words") == [1]
    again = curate(made, parts, store, tmp_path)
    assert again.parent == parent_of(store, "words")
    first = load_manifest(store, "words", 1)
    assert publish(made, parts, again, packed, store).manifest.parent_checksum == first.checksum


@dataclass
class Overtaken(MemoryStore):
    """A store in which other versions are published right before this one's manifest."""

    others: tuple[Recipe, ...]
    folder: Path
    inner: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def create(self, key: str, payload: Payload) -> None:
        if key.startswith(layout.versions("words")) and self.others and not self.inner:
            self.inner = True
            other, *rest = self.others
            self.others = tuple(rest)
            ingest(other, self, context(self.folder))
            READS.clear()
            self.inner = False
        super().create(key, payload)


def test_who_is_not_first_decides_again_and_fetches_nothing(tmp_path: Path) -> None:
    store = Overtaken(tuple(recipe(WORDS[: 10 + number]) for number in range(3)), tmp_path)
    manifest = ingest(recipe(WORDS), store, context(tmp_path)).manifest
    assert (manifest.version, manifest.parent, READS) == (4, 3, [])
    assert manifest.parent_checksum == load_manifest(store, "words", 3).checksum


def test_who_is_not_first_publishes_nothing_where_the_first_has_the_same(tmp_path: Path) -> None:
    store = Overtaken((recipe(WORDS),), tmp_path)
    ended = ingest(recipe(WORDS), store, context(tmp_path))
    assert (ended.new, catalog.versions(store, "words")) == (False, [1])


def test_who_is_never_first_gives_up_in_the_end(tmp_path: Path) -> None:
    store = Overtaken(tuple(recipe(WORDS[: 10 + number]) for number in range(25)), tmp_path)
    with pytest.raises(StorageUnavailable, match=r"21 other versions were published while .* try again"):
        ingest(recipe(WORDS), store, context(tmp_path))


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_versions_of_four_writers_follow_each_other(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    store: Store = DirectoryStore(tmp_path / "store") if kind == "directory" else request.getfixturevalue("s3_store")
    ended: list[Published] = []
    start = threading.Barrier(4)

    def write(number: int) -> None:
        start.wait()
        ended.append(ingest(recipe(WORDS[: 20 + number]), store, context(tmp_path / str(number))))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.manifest.version for one in ended) == catalog.versions(store, "words") == [1, 2, 3, 4]
    before = None
    for number in range(1, 5):
        manifest = load_manifest(store, "words", number)
        assert (manifest.parent, manifest.parent_checksum) == (
            (before.version, before.checksum) if before else (None,) * 2
        )
        assert verify(store, manifest).problems == ()
        before = manifest


def test_a_version_whose_parent_is_deleted_is_decided_and_verified(tmp_path: Path) -> None:
    store = MemoryStore()
    _, second, third = (ingest(recipe(WORDS[:count]), store, context(tmp_path)).manifest for count in (20, 30, 40))
    delete_version(store, "words", 2, at="2026-03-02T01:00:00+00:00")
    assert verify(store, third).problems == ()
    assert remembered(store, second).num_rows == second.samples
