"""Kept pairs of near-duplicates: what they decide is what a search decides, and a search is made for what is new."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.pipelines.images import near_pairs
from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import Memory, Recipe
from stoker.pipelines.repair import repair
from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.near_duplicate_images import NearDuplicateImages
from stoker.pipelines.rules.where import Where
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.curate import Judging
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.views.curate_again import curate_again
from stoker.pipelines.stages.views.trial import trial
from stoker.pipelines.tables.deciding import kept_pairs
from stoker.pipelines.tables.deciding.kept_pairs import HASH, QUALITY, KeptPairs
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.manifest import Manifest, Part, load_manifest
from stoker.storage.versions.measured.pairs import CODED, Kept, encode, put_pairs, read_pairs
from stoker.storage.versions.measured.pairs import name_of as pairs_of
from stoker.storage.versions.memory.withdrawn import load_redirects
from stoker.storage.versions.version import Version
from tests.fakes import context
from tests.flows.inspected_corpus import documented, recipe
from tests.pipelines.rules.test_near_duplicate_images import family, flipped
from tests.pipelines.stages.forgetting.world import texts_in
from tests.storage.versions.test_orphans import clear

Rules = tuple[Rule, ...]
SAMPLES = pa.schema([("part", pa.string()), (HASH, pa.string()), (QUALITY, pa.int64())])


@dataclass(frozen=True)
class Hashes(Source):
    """Texts that say what is measured of pictures: partitions of 12, many of them near those of others."""

    tells_all: ClassVar[bool] = True
    count: ClassVar[int] = 3  # no option: with other options all would be read again
    absent: ClassVar[int] = -1  # what vanished: of partitions with this number modulo 3, every other sample

    def partitions(self, context: Context) -> Iterator[Partition]:
        for number in range(self.count):
            yield Partition(f"part-{number}", {"number": number, "step": 2 if number % 3 == self.absent else 1})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        number = partition.payload["number"]
        generator = random.Random(number)
        for place in range(0, 12, partition.payload["step"]):
            value = flipped(random.Random(generator.randrange(6)).getrandbits(256), generator.randrange(28), generator)
            record = {"image_hash": f"{value:064x}", "image_hash_quality": generator.choice([30, 60, 90])}
            record |= {"width": generator.randrange(1, 9), "height": 1, "group": f"film {generator.randrange(9)}"}
            text = f"words of {number} and {place}"
            yield Candidate(Sample(f"sample-{number}-{place}", {"txt": text.encode()}, record))


def by(rules: Rules, partitions: int = 3, absent: int = -1) -> Recipe:
    Hashes.count, Hashes.absent = partitions, absent
    memory = Memory(vanished="drop", vanished_percent=100)
    made = replace(recipe(Hashes(), "alike", rules), splits={"train": 60.0, "test": 40.0}, memory=memory)
    return documented(made)


def near(distance: int, min_quality: int = 50) -> Rules:
    return (NearDuplicateImages(distance=distance, min_quality=min_quality),)


def again(rules: Rules, store: Store, folder: Path, partitions: int = 3) -> Manifest:
    made = curate_again(by(rules, partitions), store, folder, judging=Judging(elders=True))
    return made.published.manifest


@contextmanager
def searched() -> Iterator[list[int]]:
    """Of each search that is made meanwhile, the images whose pairs are looked for."""
    counts: list[int] = []

    def counted(known: pa.Array, new: pa.ChunkedArray, distance: int) -> pa.Table | None:
        counts.append(len(new))
        return near_pairs.find_pairs(known, new, distance)

    with patch.object(kept_pairs, "find_pairs", counted):
        yield counts


def as_searched(self: KeptPairs, distance: int, min_quality: int) -> None:
    """No pairs: as earlier releases decided."""


def told(manifest: Manifest) -> tuple[object, ...]:
    return manifest.version, manifest.decisions, manifest.content, manifest.splits, dict(manifest.statistics)


CURATIONS = st.sampled_from(
    [
        near(0),
        near(20),
        near(31),
        near(45),
        near(31, min_quality=10),
        (NearDuplicateImages(distance=31, keep="largest"),),
        (
            Where(where="image_hash_quality > 40 AND image_hash > '5'"),
            *near(28),
        ),
    ]
)


def check_steps(steps: Sequence[tuple[Rules, int, int]], folder: Path) -> None:
    """After each step, a curation or an ingest of other partitions and samples, a version is as a search makes it."""
    kept, plain, partitions, now = MemoryStore(), MemoryStore(), 2, -1

    def step(rules: Rules, store: Store, *, reads: bool) -> Manifest:
        if reads:
            return ingest(by(rules, partitions, now), store, context(folder)).manifest
        return again(rules, store, folder, partitions)

    for rules, more, absent in [(near(31), 1, -1), *steps]:
        reads = more > 0 or absent != now
        partitions, now = partitions + more, absent
        one = step(rules, kept, reads=reads)
        with patch.object(KeptPairs, "within", as_searched):
            other = step(rules, plain, reads=reads)
        assert told(one) == told(other)
        assert not other.pairs
    assert not verify(kept, load_manifest(kept, "alike")).problems


def test_versions_are_those_that_searches_make(tmp_path: Path) -> None:
    check_steps([(near(20), 0, -1), (near(45), 0, -1), (near(31), 1, 1), (near(24), 0, -1)], tmp_path)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(CURATIONS, st.sampled_from([0, 0, 1, 2]), st.sampled_from([-1, -1, 0, 1])), min_size=2, max_size=5
    )
)
def test_whatever_is_done_versions_are_those_that_searches_make(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Rules, int, int]]
) -> None:
    check_steps(steps, tmp_path_factory.mktemp("pairs"))


def pairs_among(samples: pa.Table, pairs: pa.Table) -> set[tuple[str, str]]:
    there = set(samples[HASH].to_pylist())
    ends = zip(pairs["a"].to_pylist(), pairs["b"].to_pylist(), strict=True)
    return {(min(pair), max(pair)) for pair in ends if there.issuperset(pair)}


def part_of(name: str, left_out: tuple[int, ...]) -> Part:
    superseded = {"vanished": left_out} if left_out else {}
    return Part(name, name, "tar", "", 0, f"alike/raw/{name}", "", 9, 9, {}, superseded=superseded)


@settings(max_examples=8, deadline=None)
@example(7, [[1, 1, 0, 0], [1, 2, 1, 0], [1, 1, 1, 0]])
@given(st.integers(0, 99), st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=2, max_size=5))
def test_whatever_leaves_and_returns_all_pairs_are_there(seed: int, days: list[list[int]]) -> None:
    """Each day a part is not there, whole, or without every other sample; the first has most pairs."""
    store = MemoryStore()
    before: tuple[ListFile, ...] = ()
    everything = family(seed, 60, roots=12, spread=12)
    own = [everything[:36], *(everything[start : start + 8] for start in (36, 44, 52))]
    for steps in days:
        hashes = {f"part-{number}": own[number][::step] for number, step in enumerate(steps) if step}
        parts = [part_of(f"part-{number}", (1, 3)[: step - 1]) for number, step in enumerate(steps) if step]
        rows = [{"part": name, HASH: one, QUALITY: 90} for name, those in hashes.items() for one in those]
        samples = pa.Table.from_pylist(rows, SAMPLES)
        kept = KeptPairs(store, "alike", before, parts, samples)
        found, expected = kept.within(31, 50), KeptPairs(store, "alike", (), parts, samples).within(31, 50)
        assert found is not None
        assert expected is not None
        differ = pairs_among(samples, found) ^ pairs_among(samples, expected)
        assert not {(a, b) for a, b in differ if a != b or (a, b) not in pairs_among(samples, found)}
        put_pairs(store, kept.made)
        before = kept.files
        names = [name for file in before for name in read_pairs(store, file).files]
        assert sorted(names) == sorted(pairs_of(part) for part in parts)


def test_a_threshold_up_to_the_kept_distance_is_decided_without_a_search_and_writes_no_pairs(tmp_path: Path) -> None:
    store = MemoryStore()
    first = ingest(by(near(24)), store, context(tmp_path)).manifest
    assert [file.rows > 0 for file in first.pairs] == [True]
    with searched() as counts:
        second = again(near(10), store, tmp_path)
        third = again(near(31), store, tmp_path)
        assert second.samples != third.samples
        assert (second.version, third.version, counts) == (2, 3, [])
        assert first.pairs == second.pairs == third.pairs
        beyond = again(near(50), store, tmp_path)
    assert len(counts) == 1
    assert beyond.pairs != first.pairs


def test_of_a_version_that_grows_only_the_pairs_of_new_images_are_looked_for(tmp_path: Path) -> None:
    store = MemoryStore()
    ingest(by(near(31), 4), store, context(tmp_path))
    with searched() as counts:
        grown = ingest(by(near(31), 5), store, context(tmp_path)).manifest
        again(near(20), store, tmp_path)
    assert len(counts) == 1
    assert 0 < counts[0] <= 12
    files = {name for file in grown.pairs for name in read_pairs(store, file).files}
    assert files == {part.records for part in grown.parts}


@pytest.mark.parametrize(("distance", "harm"), [(31, "damaged"), (40, "gone"), (31, "of records that are lost too")])
def test_a_repair_makes_lost_pairs_again(tmp_path: Path, distance: int, harm: str) -> None:
    store = MemoryStore()
    manifest = ingest(by(near(distance)), store, context(tmp_path)).manifest
    (file,) = manifest.pairs
    whole = store.read(file.key)
    store.delete(file.key)
    if harm != "gone":
        store.write(file.key, whole[:40] + b"x" + whole[41:])
    if harm == "of records that are lost too":
        store.delete(manifest.parts[0].records)
    found = verify(store, manifest)
    assert [file.key in problem for problem in found.problems].count(True) == 1
    advice = repair(by(near(distance)), manifest, found.damaged, store, tmp_path)
    if harm == "of records that are lost too":
        assert [file.key in text for text in advice].count(True) == 1
    else:
        assert not advice
        assert store.read(file.key) == whole
        assert not verify(store, manifest).problems


@pytest.mark.parametrize("harm", ["damaged", "gone", "never there"])
def test_without_kept_pairs_a_search_is_made_and_gives_them_again(tmp_path: Path, harm: str) -> None:
    store, whole = MemoryStore(), MemoryStore()
    for one in (store, whole):
        ingest(by(near(31)), one, context(tmp_path))
    (file,) = load_manifest(store, "alike").pairs
    if harm == "damaged":
        payload = store.read(file.key)
        store.write(file.key, payload[:40] + b"x" + payload[41:])
    elif harm == "gone":
        store.delete(file.key)
    else:  # as earlier releases published it
        store = MemoryStore()
        with patch.object(KeptPairs, "within", as_searched):
            assert not ingest(by(near(31)), store, context(tmp_path)).manifest.pairs
    with searched() as counts:
        made, expected = again(near(12), store, tmp_path), again(near(12), whole, tmp_path)
    assert len(counts) == 1
    assert told(made) == told(expected)
    assert made.pairs == expected.pairs == (file,)
    assert not verify(store, made).problems


def test_that_there_are_too_many_is_found_once_whatever_comes(tmp_path: Path) -> None:
    store, plain = MemoryStore(), MemoryStore()
    with patch.object(near_pairs, "MOST", 3), searched() as counts:
        made = [ingest(by(near(20), count), store, context(tmp_path)).manifest for count in (3, 4)]
        made += [again(near(distance), store, tmp_path, 4) for distance in (10, 45)]
        assert len(counts) == 1
        assert {one.pairs for one in made} == {made[0].pairs}
        assert [(file.rows, read_pairs(store, file).too_many) for file in made[0].pairs] == [(0, True)]
        fewer = ingest(by(near(20), 4, 1), store, context(tmp_path)).manifest
        assert len(counts) == 2  # without some samples there may be fewer
        assert fewer.pairs != made[0].pairs
    forget(store, "alike", [("key", Version(store, fewer).records(["key"]).read_all()["key"][0].as_py())])
    purge(store, "alike", scratch=tmp_path)
    assert [read_pairs(store, file).too_many for file in load_manifest(store, "alike").pairs] == [True]
    assert not verify(store, load_manifest(store, "alike")).problems
    with patch.object(KeptPairs, "within", as_searched):
        expected = [ingest(by(near(20), count), plain, context(tmp_path)).manifest for count in (3, 4)]
        expected += [again(near(distance), plain, tmp_path, 4) for distance in (10, 45)]
    assert [told(one) for one in made] == [told(one) for one in expected]


def test_the_limit_is_of_all_pairs_whenever_they_came(tmp_path: Path) -> None:
    store, whole = MemoryStore(), MemoryStore()
    total = sum(file.rows for file in ingest(by(near(31), 4), whole, context(tmp_path)).manifest.pairs)
    with patch.object(near_pairs, "MOST", total - 1), searched() as counts:
        versions = [ingest(by(near(31), count), store, context(tmp_path)).manifest for count in (3, 4, 5)]
    assert len(counts) == 2
    assert [[read_pairs(store, file).too_many for file in one.pairs] for one in versions] == [[False], [True], [True]]


def test_pairs_up_to_a_distance_stay_where_farther_ones_are_too_many(tmp_path: Path) -> None:
    store = MemoryStore()
    first = ingest(by(near(20)), store, context(tmp_path)).manifest
    with searched() as counts, patch.object(near_pairs, "MOST", first.pairs[0].rows):
        beyond = again(near(45), store, tmp_path)
        assert beyond.pairs[:-1] == first.pairs
        nearer = again(near(30), store, tmp_path)
        again(near(50), store, tmp_path)
    assert len(counts) == 1
    assert {*nearer.pairs} == {*beyond.pairs}


def test_a_trial_writes_no_pairs(tmp_path: Path) -> None:
    store = MemoryStore()
    before = ingest(by(()), store, context(tmp_path)).manifest
    keys = {stored.key for stored in store.list()}
    trial(by(near(20)), before, store, tmp_path, Judging(elders=True))
    assert {stored.key for stored in store.list()} == keys


def all_pairs(store: Store, manifest: Manifest) -> list[dict[str, object]]:
    kept = [read_pairs(store, file) for file in manifest.pairs]
    joined = reduce(Kept.joined, kept)
    rows: list[dict[str, object]] = joined.table.to_pylist()
    return rows


def test_a_version_that_grew_has_the_pairs_of_one_that_was_made_at_once(tmp_path: Path) -> None:
    store, whole = MemoryStore(), MemoryStore()
    ingest(by(near(31), 5), store, context(tmp_path))
    grown = [ingest(by(near(31), count), store, context(tmp_path)).manifest for count in (6, 9)][-1]
    at_once = ingest(by(near(31), 9), whole, context(tmp_path)).manifest
    assert len(at_once.pairs) == 1
    assert all_pairs(store, grown) == all_pairs(whole, at_once) != []


def test_a_purge_leaves_no_hash_of_what_was_taken_out_and_the_other_pairs(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = ingest(by(near(0)), store, context(tmp_path)).manifest
    rows = Version(store, manifest).records(["key", "image_hash"]).read_all().to_pylist()
    (file,) = manifest.pairs
    members = {one for name in ("a", "b") for one in read_pairs(store, file).table[name].to_pylist()}
    key, gone = next((row["key"], row["image_hash"]) for row in rows if row["image_hash"] in members)
    forget(store, "alike", [("key", key)])
    purge(store, "alike", scratch=tmp_path)
    for stored in store.list():
        assert not any(gone.encode() in text for text in texts_in(stored.key, store.read(stored.key))), stored.key
    after = load_manifest(store, "alike")
    assert all_pairs(store, after) != []
    assert not verify(store, after).problems
    with searched() as counts:
        decided = again(near(31), store, tmp_path).decisions.sha256
    assert counts == []
    plain = again(near(0), store, tmp_path)
    with patch.object(KeptPairs, "within", as_searched):
        assert again(near(31), store, tmp_path).decisions.sha256 == decided != plain.decisions.sha256


def test_a_purge_removes_damaged_pairs_and_the_next_search_gives_them_again_for_good(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = ingest(by(near(31)), store, context(tmp_path)).manifest
    (file,) = manifest.pairs
    store.write(file.key, b"x" + store.read(file.key)[1:])
    forget(store, "alike", [("key", "no-such-sample")])
    purge(store, "alike", scratch=tmp_path)
    assert file.key not in {stored.key for stored in store.list()}
    assert file.key not in load_redirects(store, "alike")
    assert again(near(12), store, tmp_path).pairs == (file,)
    with searched() as counts:
        again(near(20), store, tmp_path)
    assert counts == []


def test_pairs_that_a_version_names_stay_and_others_are_removed(tmp_path: Path) -> None:
    store = MemoryStore()
    ingest(by(near(31)), store, context(tmp_path))
    again(near(50), store, tmp_path)
    kept = {file.key for number in (1, 2) for file in load_manifest(store, "alike", number).pairs}
    assert len(kept) == 2
    put_pairs(store, [encode("alike", Kept.of(["alike/raw/x"], 31, CODED.empty_table()))])
    clear(store, "alike")
    assert {stored.key for stored in store.list("alike/lists/pairs")} == kept
