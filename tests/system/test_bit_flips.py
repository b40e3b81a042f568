"""A random flipped bit in any kind of object reaches no version, no sample and no report, and is healed or named.

By day some of each kind, at night 1,000.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from stoker.flows.report.samples import SampleReader
from stoker.pipelines.repair import repair
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.repair_indexed import repair_indexed
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.tar_store import store_of_tars
from stoker.storage.versions.version import Version
from stoker.training.stream.stream import ShardStream
from tests.storage.external_tars import indexed, numbered, put, tar
from tests.system.damage import KINDS, flips
from tests.system.test_damaged_store import made, objects, run
from tests.training.reading.test_cache import Slow

FLIPS = [pytest.param(3, id="some"), pytest.param(1000, id="1,000", marks=[pytest.mark.slow, pytest.mark.nightly])]
WORDS = (*(f"word-{number}" for number in range(14)), "!gone")


def copy(store: MemoryStore) -> MemoryStore:
    same = MemoryStore()
    same._objects, same._modified = dict(store._objects), dict(store._modified)
    return same


def report(store: MemoryStore, reference: str = "words") -> object:
    """What readers say of a version: every sample, what became of three candidates, every row of every table."""
    manifest = load_manifest(store, reference)
    reader = SampleReader(store)
    version = Version(store, manifest)
    return (
        [(sample.key, dict(sample.fields), dict(sample.record)) for sample in version],
        [find_lineages(store, manifest, text) for text in ("word-1", "word:word-7", "gone")],
        [reader.index(shard).to_pylist() for shard in manifest.shards],
        manifest,
    )


@pytest.mark.parametrize("count", FLIPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_healed_or_named_and_reaches_nothing(tmp_path: Path, kind: str, count: int) -> None:
    pristine = MemoryStore()
    one, two = made(WORDS), made((*WORDS, "more"), digest="two")
    first = run(pristine, tmp_path, one).manifest
    told = report(pristine)
    calm = copy(pristine)
    second = run(calm, tmp_path, two).manifest
    ends = Counter[str]()
    damaged = copy(pristine)
    for key in flips(damaged, first, kind, count):
        ends[read_and_report(copy(damaged), key, told)] += 1
        ends[repaired(copy(damaged), first, key, tmp_path)] += 1
        again = copy(damaged)
        published = run(again, tmp_path, two).manifest
        assert again_equals(published, second)
        assert verify(again, published).problems == ()
    assert ends.total() == 2 * count


@pytest.mark.parametrize("count", FLIPS)
def test_a_flipped_bit_of_a_tar_reaches_no_batch_that_is_read_before_the_tar_is_whole(
    tmp_path: Path, count: int
) -> None:
    store = Slow()
    first = run(store, tmp_path, made(WORDS)).manifest
    pristine = {sample.key: sample.fields for sample in Version(store, first)}
    ends = Counter[str]()
    for key in flips(store, first, "shard", count):
        for shard in first.shards:
            store.allowed.clear()  # a half of the tar is all that comes
            stream = ShardStream(
                store, first, split=shard.split, batch_size=1, shuffle=False, cache=tmp_path / f"cache-{ends.total()}"
            )
            stream._cache._wait_if_soon = lambda needed, samples: None  # type: ignore[method-assign]  # never
            try:
                for place in range(shard.samples - 1):  # with the last one a stream waits for the whole tar
                    (sample,) = stream.batch(0, place)
                    assert sample.fields == pristine[sample.key]
                ends["whole"] += 1
            except CorruptShard as error:
                message = str(error)
                ends["named" if re.search(rf"{key}: sample '.*': CRC-32C .*--repair", message) else message] += 1
            finally:
                store.allowed.set()
                stream.close()
    assert ends.keys() == {"named", "whole"}


def read_and_report(store: MemoryStore, key: str, told: object) -> str:
    """Readers tell what they told before, or name the object."""
    try:
        found = report(store)
    except (CorruptShard, StorageRefused) as error:
        message = str(error)
    else:
        assert found == told
        return "not read"
    assert key in message
    assert re.search("--repair|ingest again|upgrade Stoker", message)
    return "named"


def repaired(store: MemoryStore, first: Manifest, key: str, folder: Path) -> str:
    """Verify finds the object, and repair or the ingest that it names heals it; or nothing that is said is changed."""
    try:
        found = load_manifest(store, "words")
    except (CorruptShard, StorageRefused):  # the readers' errors name it
        return "a manifest that is named"
    assert found == first
    result = verify(store, first)
    before = objects(store)
    advice = repair(made(WORDS), first, result.damaged, store, folder)
    if not result.problems:
        # White space or another way to write the same JSON.
        assert key.endswith(".json")
        assert objects(store).keys() == before.keys()
        return "of no effect"
    assert key in result.damaged
    if advice:
        assert "`stoker ingest` of the recipe" in " ".join(advice)
        assert run(store, folder, made(WORDS)).manifest == first
    assert verify(store, first).problems == ()
    return "healed"


INDEXED = ("index", "decisions", "group marker", "manifest")


@pytest.mark.parametrize("count", FLIPS)
@pytest.mark.parametrize("prefixed", [False, True], ids=["keys", "names before keys"])
@pytest.mark.parametrize("kind", INDEXED)
def test_a_flipped_bit_in_what_indexed_tars_have_is_healed_or_named(
    tmp_path: Path, kind: str, prefixed: bool, count: int
) -> None:
    folder, pristine = tmp_path / "tars", MemoryStore()
    for number in range(3):
        put(folder / f"train-{number}.tar", tar(numbered(0 if prefixed else 5 * number, 5)))
    first = indexed(folder, pristine).manifest
    told = [(sample.key, dict(sample.fields)) for sample in Version(pristine, first)]
    calm = copy(pristine)
    more = tmp_path / "more" / "train-3.tar"
    put(more, tar(numbered(100, 2)))
    ends = Counter[str]()
    damaged = copy(pristine)
    for key in flips(damaged, first, kind, count):
        ends[repaired_index(copy(damaged), first, key, told)] += 1
        same = copy(damaged)
        indexed(folder, same)
        newest = load_manifest(same, "theirs")
        assert (newest.shards, newest.statistics, newest.licences) == (first.shards, first.statistics, first.licences)
        assert verify(same, newest).problems == ()
    more.rename(folder / "train-3.tar")
    second = indexed(folder, calm).manifest
    for _ in flips(damaged, first, kind, count, seed=2):
        grown = copy(damaged)
        published = indexed(folder, grown).manifest
        assert again_equals(published, second)
        assert verify(grown, published).problems == ()
    assert ends.total() == count


def repaired_index(store: MemoryStore, first: Manifest, key: str, told: object) -> str:
    """Readers say what they said or name the object; verify finds it and repair heals it, or nothing is changed."""
    try:
        found: object = [(sample.key, dict(sample.fields)) for sample in Version(store, load_manifest(store, "theirs"))]
    except (CorruptShard, StorageRefused) as error:
        found = str(error)
    assert found == told or (isinstance(found, str) and key in found)
    if isinstance(found, str) and "/versions/" in key:
        return "a manifest that is named"
    result = verify(store, first)
    if not result.problems:
        assert key.endswith(".json")
        return "of no effect"
    assert result.damaged == {key}
    assert repair_indexed(store, store_of_tars(store, first), first, result.damaged) == []
    assert verify(store, first).problems == ()
    return "healed"


def again_equals(published: Manifest, expected: Manifest) -> bool:
    """The same version, but for its number and its time."""
    return (published.shards, published.parts, published.decisions, published.statistics, published.licences) == (
        expected.shards,
        expected.parts,
        expected.decisions,
        expected.statistics,
        expected.licences,
    )


def test_an_object_that_is_gone_meanwhile_is_named(tmp_path: Path) -> None:
    store = MemoryStore()
    first = run(store, tmp_path, made(WORDS)).manifest
    store.delete(first.parts[0].records)
    with pytest.raises(NotFound, match=first.parts[0].records):
        find_lineages(store, first, "word-1")
