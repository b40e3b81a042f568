"""Objects that are damaged or lost at rest: the next ingest heals them, and no version names them."""

import logging
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from stoker.pipelines.recipe import Recipe
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.stages.publish import Published, ingest
from stoker.storage.errors import CorruptShard, StorageUnavailable
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Manifest, load_manifest
from tests.fakes import READS, Failing, context, recipe
from tests.system.damage import KINDS, flip, keys

WORDS = (*(f"word-{number}" for number in range(40)), "same one", "!gone", "!robots")
# Of a part that the ledger has no ingest reads the marker; it only looks whether it is there.
OBJECTS = [kind for kind in KINDS if kind not in ("manifest", "part marker")]
HARMS = [*product(OBJECTS, ("flip", "cut", "lose")), ("part marker", "lose")]
MEMORY = {"memory", "plans", "outcomes", "lists"}


def made(words: tuple[str, ...] = WORDS, *, digest: str = "one") -> Recipe:
    return replace(recipe(words, rules=(ExactDuplicates(),)), document={"corpus": "words", "made": digest})


def run(store: Store, folder: Path, one: Recipe | None = None) -> Published:
    READS.clear()
    return ingest(one or made(), store, context(folder))


def objects(store: Store) -> dict[str, bytes]:
    not_compared = {"versions", "work"} | MEMORY
    return {one.key: store.read(one.key) for one in store.list() if not not_compared & set(one.key.split("/"))}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def first(store: MemoryStore, tmp_path: Path) -> Manifest:
    return run(store, tmp_path).manifest


@pytest.mark.parametrize(("kind", "harm"), HARMS)
def test_the_same_ingest_again_heals_what_is_damaged_and_says_so(
    store: MemoryStore, first: Manifest, tmp_path: Path, kind: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = objects(store)
    for key in keys(first, kind)[1:3] or keys(first, kind):
        payload = store.read(key)
        if harm == "flip":
            flip(store, key, 8 * (len(payload) // 2))
        elif harm == "cut":
            store.write(key, payload[: len(payload) // 3])
        else:
            store.delete(key)
    with caplog.at_level(logging.WARNING):
        again = run(store, tmp_path)
    assert (again.new, again.manifest) == (False, first)
    assert objects(store) == before
    assert verify(store, first).problems == ()
    # A lost marker is work that was not done; decisions are made from records each time.
    assert caplog.records or kind == "decisions" or (harm == "lose" and "marker" in kind)
    assert not READS or kind in ("records", "part") or (kind, harm) == ("part marker", "lose")
    assert len(READS) <= 2


@pytest.mark.parametrize("kind", OBJECTS)
def test_no_new_version_names_what_is_damaged(store: MemoryStore, first: Manifest, tmp_path: Path, kind: str) -> None:
    for key in keys(first, kind):
        flip(store, key, 8 * (len(store.read(key)) - 9))
    second = run(store, tmp_path, made((*WORDS, "one-more"), digest="two")).manifest
    assert verify(store, second).problems == ()
    assert second.samples == first.samples + 1


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_death_at_any_write_of_healing_is_healed_by_the_next_ingest(tmp_path: Path, kind: str) -> None:
    place, deaths = 0, 0
    while True:
        store = FailingWrites()
        first = run(store, tmp_path).manifest
        for key in keys(first, kind):
            flip(store, key, 8 * (len(store.read(key)) // 2))
        store.writes = place
        try:
            run(store, tmp_path)
        except StorageUnavailable:
            deaths += 1
            place += 5
            store.writes = 10**9
            assert run(store, tmp_path).manifest == first
            assert verify(store, first).problems == ()
            continue
        break
    assert deaths or kind == "decisions"


class FailingWrites(Failing):
    """A store whose n-th change of any kind fails."""

    writes = 10**9

    def _count(self, key: str) -> None:
        self.writes -= "/work/" not in key
        if self.writes < 0:
            raise StorageUnavailable(f"{key}: down")

    def create(self, key, payload):  # type: ignore[no-untyped-def]
        self._count(key)
        super().create(key, payload)

    def write(self, key, payload):  # type: ignore[no-untyped-def]
        self._count(key)
        super().write(key, payload)

    def delete(self, key: str) -> None:
        self._count(key)
        super().delete(key)


def test_a_damaged_manifest_is_named_and_the_next_ingest_publishes_the_next_version(
    store: MemoryStore, first: Manifest, tmp_path: Path
) -> None:
    key = layout.version("words", 1)
    flip(store, key, 8 * store.read(key).index(b'"licences"') + 8 * 25)
    with pytest.raises(
        CorruptShard, match=r"words/versions/00000001\.json: .*; restore it from a copy, or ingest again"
    ):
        load_manifest(store, "words", 1)
    second = run(store, tmp_path)
    assert (second.new, second.manifest.version, second.manifest.shards) == (True, 2, first.shards)
    assert READS == []
    assert verify(store, load_manifest(store, "words")).problems == ()


def test_what_a_newer_library_writes_in_other_bytes_gets_other_names(
    store: MemoryStore, first: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = first.shards[0].index
    store.delete(lost)
    before = objects(store)

    def encode(table):  # type: ignore[no-untyped-def]
        import io

        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(table, sink, compression="gzip", store_schema=False)
        return sink.getvalue()

    monkeypatch.setattr(records, "encode", encode)
    second = run(store, tmp_path)
    assert (second.new, second.manifest.samples) == (True, first.samples)
    assert verify(store, second.manifest).problems == ()
    after = objects(store)
    named = {key for kind in ("shard", "index", "part", "records") for key in keys(first, kind)}
    assert all(after[key] == before[key] for key in named if key != lost)
    assert lost not in after
    monkeypatch.undo()
    third = run(store, tmp_path)
    assert third.manifest.shards in (first.shards, second.manifest.shards)
    assert catalog.versions(store, "words")[-1] == third.manifest.version
    assert verify(store, third.manifest).problems == ()


def test_a_store_written_before_markers_had_checksums_is_used_as_it_is(
    store: MemoryStore, first: Manifest, tmp_path: Path
) -> None:
    import json

    before = objects(store)
    for key in keys(first, "group marker"):
        content = json.loads(store.read(key))
        del content["checksum"]
        content["licences"] = {"CC0-1.0": 1}  # damage that nothing but the indexes tells
        store.write(key, json.dumps(content, sort_keys=True).encode())
    store.delete(layout.proofs("words"))
    assert run(store, tmp_path).new is False
    assert READS == []
    assert {key: payload for key, payload in objects(store).items() if "proofs" not in key} == {
        key: payload for key, payload in before.items() if "proofs" not in key
    }
    with_more = run(store, tmp_path, made((*WORDS, "one-more"), digest="two")).manifest
    assert with_more.licences == {"CC0-1.0": with_more.samples}


def test_decisions_are_handed_to_each_group_alone(store: MemoryStore, tmp_path: Path) -> None:
    from stoker.pipelines.stages.curate import curate
    from stoker.pipelines.stages.ingest import ingest_partition, plan

    one = made((*(f"w{number}" for number in range(60)), *(f"w{number}" for number in range(30))))
    where = context(tmp_path)
    parts = [ingest_partition(one, partition, store, where).part for partition in plan(one, where)]
    curation = curate(one, parts, store, where.scratch)
    every = records.decode(store.read(curation.decisions.key)).to_pylist()
    each = [records.decode(payload).to_pylist() for payload in curation.by_group]
    assert len(each) == len(curation.groups) > 2
    for group, decided in zip(curation.groups, each, strict=True):
        digests = {part.digest for part in group}
        expected = (
            [{name: row[name] for name in decided[0]} for row in every if row["part"] in digests] if decided else []
        )
        assert decided == expected
    assert sum(map(len, each)) == len(every) > 20
