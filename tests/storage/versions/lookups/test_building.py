"""`why` asks the lookups of a version, which every stage keeps right, and reads the few files that they name."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.repair import repair
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.where import Where
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.curate import Judging
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.remembering.former import find_former
from stoker.pipelines.stages.views.curate_again import curate_again
from stoker.pipelines.stages.views.pack_again import pack_again
from stoker.pipelines.stages.why import find_lineages
from stoker.pipelines.web.client import Web
from stoker.storage.shards.sample import Sample
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout, orphans
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.lookups.building import files_of, put_lookup
from stoker.storage.versions.lookups.table import BITS, Lookup
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.memory.outcomes import hash_of
from tests.fakes import Counting
from tests.flows.inspected_corpus import recipe

PARTITIONS, EACH = 12, 10


@dataclass(frozen=True)
class Numbers(Source):
    """Numbered texts in partitions; every tenth has the text of the one before, every fifth is refused."""

    partitions_of: int = PARTITIONS

    def partitions(self, context: Context) -> Iterator[Partition]:
        yield from (
            Partition(f"p{number:03d}", payload={"start": number * EACH}) for number in range(self.partitions_of)
        )

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for number in range(partition.payload["start"], partition.payload["start"] + EACH):
            text = f"text {number - (number % 10 == 7)}"
            sample = Sample(f"n{number}", {"txt": text.encode()}, {"url": url(number), "size": number})
            yield Candidate(sample, Rejected("empty") if number % 5 == 3 else None)


def url(number: int) -> str:
    return f"https://example.org/{number}"


class World:
    """A corpus of numbers, in a store that counts what is read of it."""

    def __init__(self, folder: Path) -> None:
        self.store, self.folder = Counting(), folder

    def run(self, partitions: int = PARTITIONS) -> Manifest:
        made = recipe(Numbers(partitions), "numbers", (ExactDuplicates(),))
        context = Context(root=self.folder, web=Web(), scratch=self.folder / "scratch")
        return ingest(made, self.store, context).manifest

    def told(self, manifest: Manifest, *, most: int = PARTITIONS * EACH) -> list[tuple[str, str, str]]:
        found = [find_lineages(self.store, manifest, url(number)) for number in range(most)]
        return [(one.key, one.state, one.shard) for lineages in found for one in lineages]

    def reads_of(self, manifest: Manifest, text: str) -> tuple[int, int]:
        """How many records and indexes, and objects in all, are read to tell of a candidate."""
        self.store.reads.clear()
        assert find_lineages(self.store, manifest, text)
        files = files_of(manifest)
        return sum(key in files for key in self.store.reads), len(self.store.reads)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def without(manifest: Manifest) -> Manifest:
    """As an earlier release made it."""
    return replace(manifest, lookups=())


def about(world: World, manifest: Manifest) -> set[str]:
    return {key for file in manifest.lookups for key in Lookup.of_object(world.store, file).files}


def test_the_few_files_that_have_a_candidate_are_read_and_tell_what_all_files_tell(world: World) -> None:
    manifest = load_manifest(world.store, world.run().corpus)
    assert about(world, manifest) == set(files_of(manifest))
    assert len(manifest.lookups) == 1
    told = world.told(manifest)
    assert len(told) == PARTITIONS * EACH
    assert {state for _, state, _ in told} == {"kept", "dropped", "rejected"}
    assert told == world.told(without(manifest))
    assert [world.reads_of(manifest, url(number))[0] for number in (0, 3, 7)] == [2, 1, 1]  # kept, rejected, dropped
    assert world.reads_of(without(manifest), url(3))[0] == PARTITIONS
    assert find_lineages(world.store, manifest, url(10_000)) == []
    assert world.reads_of(manifest, url(0))[1] <= 16


def test_a_version_that_grew_writes_a_lookup_of_what_came(world: World) -> None:
    first = world.run()
    second = world.run(PARTITIONS + 1)
    assert about(world, second) == set(files_of(second))
    assert [find_lineages(world.store, second, url(number))[0].key for number in (0, 125)] == ["n0", "n125"]
    assert not find_lineages(world.store, first, url(125))
    former = find_former(world.store, first, url(125))
    assert former is not None
    assert former.versions == (2,)


def test_curating_and_packing_keep_it_right(world: World) -> None:
    first = world.run()
    smaller = recipe(Numbers(), "numbers", (ExactDuplicates(), Where("size < 60")))
    view = curate_again(smaller, world.store, world.folder / "scratch", judging=Judging()).published.manifest
    assert view.lookups == first.lookups
    packed = pack_again(world.store, "numbers", world.folder / "scratch").manifest
    assert about(world, packed) >= set(files_of(packed))
    for manifest in (view, packed):
        assert world.told(manifest) == world.told(without(manifest))
        assert verify(world.store, manifest).problems == ()


def test_after_a_purge_nothing_of_the_values_is_in_any_lookup(world: World) -> None:
    first = world.run()
    before = {file.key for file in first.lookups}
    forget(world.store, "numbers", [("url", url(number)) for number in (0, 3)])
    taken = load_manifest(world.store, "numbers")
    assert find_lineages(world.store, taken, url(0))[0].withdrawn
    assert holds(world, taken.lookups, url(0))
    purge(world.store, "numbers", scratch=world.folder / "scratch")
    for version in (1, 2):
        manifest = load_manifest(world.store, "numbers", version)
        assert about(world, manifest) == set(files_of(manifest))
        for text in (url(0), url(3), "n0", "n3"):
            assert not holds(world, manifest.lookups, text)
            assert find_lineages(world.store, manifest, text) == []
        assert holds(world, manifest.lookups, url(1))
        assert world.reads_of(manifest, url(1))[0] == 2
        assert verify(world.store, manifest).problems == ()
    assert before.isdisjoint(stored.key for stored in world.store.list())


def holds(world: World, files: tuple[ListFile, ...], text: str) -> bool:
    hashed = hash_of("", text) >> (64 - BITS)
    return any(hashed in Lookup.of_object(world.store, file).entries().hashes.tolist() for file in files)


def test_gc_keeps_lookups_of_versions_alone(world: World) -> None:
    manifest = world.run()
    other = layout.version_list("numbers", "lookup", "0" * 64)
    world.store.write(other, b"x")
    referenced = orphans.ReferencedKeys(world.store)
    referenced.refresh()
    found = {key for orphan in orphans.find(world.store, "numbers", referenced.of("numbers")) for key in orphan.keys}
    assert other in found
    assert found.isdisjoint(file.key for file in manifest.lookups)


@pytest.mark.parametrize("damage", ["gone", "flipped", "cut"])
def test_a_damaged_lookup_is_told_and_done_without_and_repaired(world: World, damage: str) -> None:
    manifest = world.run()
    told = world.told(manifest, most=20)
    (file,) = manifest.lookups
    payload = world.store.read(file.key)
    middle = len(payload) // 3
    flipped = payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :]
    world.store.delete(file.key)
    if damage != "gone":
        world.store.write(file.key, flipped if damage == "flipped" else payload[:-9])
    assert world.told(manifest, most=20) == told
    found = verify(world.store, manifest)
    assert found.damaged == {file.key}
    made = recipe(Numbers(), "numbers", (ExactDuplicates(),))
    assert repair(made, manifest, found.damaged, world.store, world.folder / "scratch") == []
    assert world.store.read(file.key) == payload


def test_a_lookup_that_says_other_things_than_the_records_is_told(world: World) -> None:
    manifest = world.run()
    entries = Lookup.of_object(world.store, manifest.lookups[0]).entries()
    wrong = replace(entries, hashes=entries.hashes + 1)
    damaged = replace(manifest, lookups=(put_lookup(world.store, "numbers", wrong),))
    (problem,) = verify(world.store, damaged).problems
    assert "says other values of numbers/" in problem
