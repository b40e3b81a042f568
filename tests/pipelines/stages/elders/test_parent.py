"""Publishing is a compare-and-swap on the parent, whoever publishes at the same time."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.where import Where
from stoker.pipelines.source import Candidate, Context
from stoker.pipelines.stages.curate import Judging, curate
from stoker.pipelines.stages.elders.history import remembered
from stoker.pipelines.stages.elders.parent import parent_of
from stoker.pipelines.stages.ingest import ingest_partition, plan
from stoker.pipelines.stages.pack import pack
from stoker.pipelines.stages.publish import ParentMoved, Published, ingest, publish
from stoker.pipelines.stages.views.curate_again import curate_again
from stoker.storage.errors import StorageUnavailable
from stoker.storage.shards.kinds import DECISIONS, PACKED_INDEX
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Payload, Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.deleted import delete_version
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.verified import verified_table
from tests.conftest import HANGS_S
from tests.fakes import READS, Words, context, recipe

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


class Copies(Words):
    """Words of which the last part is the content: ``a-1`` and ``b-1`` are copies."""

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for word in partition.payload["words"]:
            yield Candidate(Sample(word, {"txt": word.rpartition("-")[2].encode()}))


def held(store: Store, manifest: Manifest) -> dict[str, str]:
    """The split of each sample of a version by its key; each is there once."""
    masks, found = Masks(store), list[tuple[str, str]]()
    for shard in manifest.shards:
        index = verified_table(store, shard.index, PACKED_INDEX, sha256=shard.index_sha256, columns=["key"])
        found += [(key, shard.split) for key in masks.live(shard, index)["key"].to_pylist()]
    assert len(dict(found)) == len(found)
    return dict(found)


def dropped_by(store: Store, manifest: Manifest) -> list[str]:
    """The keys of the candidates that rules left out of a version."""
    decided = verified_table(store, manifest.decisions.key, DECISIONS, sha256=manifest.decisions.sha256)
    return [one["key"] for one in decided.to_pylist() if one["action"] == "drop"]


@pytest.mark.parametrize("kind", ["directory", "memory"])
@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_each_version_of_four_writers_and_a_curate_is_decided_against_the_parent_that_it_names(
    tmp_path: Path, kind: str, rounds: int
) -> None:
    store: Store = DirectoryStore(tmp_path / "store") if kind == "directory" else MemoryStore()
    once = (ExactDuplicates(),)
    fewer = (*once, Where("NOT contains(key, '-0-')"))
    words = {writer: [f"{writer}-{number % 3}-{number}" for number in range(6 * rounds)] for writer in "abcd"}

    def made(words: Sequence[str], rules: tuple[Rule, ...] = once) -> Recipe:
        return replace(recipe(tuple(words), rules=rules), source=Copies(tuple(words)))

    ingest(made(["z-1-first"]), store, context(tmp_path))
    start = threading.Barrier(5, timeout=HANGS_S)

    def write(writer: str) -> None:
        for number in range(rounds):
            start.wait()
            ingest(made(words[writer][: 6 * (number + 1)]), store, context(tmp_path / writer))

    def judge() -> None:
        for number in range(rounds):
            start.wait()
            rules = made([], (once, fewer)[number % 2 == 0])
            curate_again(rules, store, tmp_path / "rules", judging=Judging(elders=True))

    with ThreadPoolExecutor(5) as pool:
        work = [*(pool.submit(write, writer) for writer in words), pool.submit(judge)]
        for done in as_completed(work):
            if (error := done.exception()) is not None:
                start.abort()  # the others wait for it
                raise error
    ingest(made(["z-1-first"]), store, context(tmp_path))
    versions = catalog.versions(store, "words")
    assert versions == list(range(1, len(versions) + 1))
    before, splits, known, by_curate = None, dict[str, str](), set[str](), 0
    for number in versions:
        manifest = load_manifest(store, "words", number).read_lists()
        now, rules = held(store, manifest), manifest.recipe["rules"]
        contents, dropped = [key.rpartition("-")[2] for key in now], dropped_by(store, manifest)
        assert len(set(contents)) == len(contents)
        by_curate += len(rules) == 2
        assert len(rules) == 1 or not any("-0-" in key for key in now)
        if before is not None:
            parent, elders = before
            assert (manifest.parent, manifest.parent_checksum) == (parent.version, parent.checksum)
            assert known <= {*now, *dropped}
            if rules == parent.recipe["rules"]:
                assert elders.keys() <= now.keys()
            assert {key for key in elders.keys() - now.keys() if "-0-" not in key} <= {
                key for key in elders if key.rpartition("-")[2] in contents
            }
        assert {key: splits.setdefault(key, split) for key, split in now.items()} == now
        before, known = (manifest, now), {*now, *dropped}
    assert before is not None
    assert by_curate or rounds == 2  # a curate may come before there is anything that it drops
    manifest, now = before
    offered = {"z-1-first", *(word for some in words.values() for word in some)}
    assert {key.rpartition("-")[2] for key in now} == {word.rpartition("-")[2] for word in offered}
    dropped = dropped_by(store, manifest)
    assert sorted([*now, *dropped]) == sorted(offered)
    assert verify(store, manifest).problems == ()
