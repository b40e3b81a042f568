"""Orphans: every object that no version refers to is found, no other is removed, and a kill loses nothing."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stoker.pipelines.recipe import Recipe
from stoker.pipelines.stages.ingest import IngestStopped
from stoker.pipelines.stages.publish import ingest
from stoker.storage.errors import CorruptShard, StorageRefused, StorageUnavailable
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout, orphans, work
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.memory.references import MemoryKeys
from stoker.storage.versions.orphans import Orphan, ReferencedKeys
from stoker.storage.versions.sealed import seal
from stoker.storage.versions.work import CorpusBusy, gc_lease, ingest_lease
from tests.fakes import READS, Failing, context, recipe
from tests.storage.external_tars import indexed
from tests.storage.published import CORPUS, make_version, old_json

WORDS = (*(f"word-{number}" for number in range(30)), "!gone", "!robots")
MORE = (*WORDS, *(f"more-{number}" for number in range(20)))
A, B = "a" * 32, "b" * 32


def found(store: Store, corpus: str = CORPUS, kinds: tuple[str, ...] = tuple(orphans.KINDS)) -> list[Orphan]:
    referenced = ReferencedKeys(store)
    referenced.refresh()
    return [one for one in orphans.find(store, corpus, referenced.keys) if one.kind in kinds]


def clear(store: Store, corpus: str = CORPUS, kinds: tuple[str, ...] = tuple(orphans.KINDS)) -> list[str]:
    """Remove them, however young; the keys that went."""
    with gc_lease(store, corpus, older_than_s=0) as lease:
        those = [one for one in found(store, corpus, kinds) if one.keys != [lease.key]]
        return [key for one in orphans.remove(lease, ReferencedKeys(store), those) for key in one.keys]


def reachable(store: Store, *manifests: Manifest) -> set[str]:
    """What the versions and the ledger name, the manifests, and the markers of parts and groups where there are any."""
    keys = {one.key for one in store.list()}
    named: set[str] = set()
    for corpus in {manifest.corpus for manifest in manifests}:
        MemoryKeys().add(store, corpus, named)
        raw = {layout.folder_of(key) for key in named if "/raw/" in key}
        named |= {key for key in keys if "/raw/" in key and layout.folder_of(key) in raw}
    named &= keys  # a plan also names parts that are not there yet
    for manifest in manifests:
        named |= {layout.version(manifest.corpus, manifest.version), manifest.decisions.key}
        loaded = load_manifest(store, manifest.corpus, manifest.version)
        named |= {file.key for file in (*loaded.lists, *loaded.lookups)}
        for part in manifest.parts:
            named |= {part.tar, part.records} | {layout.raw_part(manifest.corpus, part.digest)} & keys
        for shard in manifest.shards:
            named |= {shard.key, shard.index} | {layout.group(manifest.corpus, shard.group)} & keys
    return named


def shas(manifest: Manifest) -> list[tuple[str, str]]:
    return [(shard.key, shard.sha256) for shard in manifest.shards]


def run(made: Recipe, store: Store, folder: Path) -> Manifest:
    return ingest(made, store, context(folder)).manifest


class Aged(MemoryStore):
    """Every object but leases appears to be a year old."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for one in super().list(prefix):
            yield one if "/work/" in one.key else StoredObject(one.key, one.size, modified=time.time() - 3e7)


def litter(store: Store) -> dict[str, list[str]]:
    """One orphan of each kind that any store can hold, by kind."""
    raw, done, group, ended = (f"{CORPUS}/{kind}/{name}/" for kind in ("raw", "shards") for name in (A, B))
    tar, table = f"{done}part-{'1' * 16}.tar", f"{done}records-{'2' * 16}.parquet"
    shard, index = f"{ended}train-00000.tar", f"{ended}train-00000.parquet"
    shards = {"shards": [{"key": shard, "index": index}]}
    payloads = {
        f"{raw}part-{'1' * 16}.tar": b"half",
        f"{done}part.json": json.dumps({"tar": tar, "records": table}).encode(),
        tar: b"whole",
        table: b"rows",
        f"{group}train-00000.tar": b"half",
        f"{ended}group.json": json.dumps(shards).encode(),
        shard: b"shard",
        index: b"index",
        f"{CORPUS}/decisions/{'3' * 16}.parquet": b"decided",
        f"{CORPUS}/masks/{A}-{'4' * 16}.mask": b"masked",
        f"{CORPUS}/lists/shards-{'4' * 16}.parquet": b"listed",
        f"{CORPUS}/work/ingest-{A}.json": b"{}",
    }
    for key, payload in payloads.items():
        store.write(key, payload)
    return {
        orphans.INCOMPLETE_PART: [f"{raw}part-{'1' * 16}.tar"],
        orphans.PART: [f"{done}part.json", tar, table],
        orphans.INCOMPLETE_GROUP: [f"{group}train-00000.tar"],
        orphans.GROUP: [f"{ended}group.json", index, shard],
        orphans.DECISIONS: [f"{CORPUS}/decisions/{'3' * 16}.parquet"],
        orphans.MASK: [f"{CORPUS}/masks/{A}-{'4' * 16}.mask"],
        orphans.LIST: [f"{CORPUS}/lists/shards-{'4' * 16}.parquet"],
        orphans.LEASE: [f"{CORPUS}/work/ingest-{A}.json"],
    }


def test_every_kind_is_found_and_removed_and_all_else_stays(store: Store) -> None:
    manifest = make_version(store)
    others = {f"{CORPUS}/notes.txt", f"{CORPUS}/raw/readme", f"{CORPUS}/runs/1/step.safetensors", f"else/raw/{A}/x"}
    for key in others:
        store.write(key, b"not ours")
    assert found(store) == []
    expected = litter(store)
    assert {one.kind: one.keys for one in found(store)} == expected
    assert sorted(clear(store)) == sorted(key for keys in expected.values() for key in keys)
    assert {one.key for one in store.list()} == reachable(store, manifest) | others
    assert verify(store, manifest).problems == ()
    assert found(store) == [] == clear(store)


def test_an_orphan_is_as_young_as_its_youngest_object(store: Store) -> None:
    before = time.time()
    litter(store)
    assert all(before - 1.01 <= one.modified <= time.time() + 1 for one in found(store))
    unknown = Orphan(orphans.PART, (StoredObject("a", 1, modified=5.0), StoredObject("b", 1)))
    assert unknown.modified == float("inf")
    assert Orphan(orphans.PART, (StoredObject("a", 1, modified=5.0), StoredObject("b", 1, modified=7.0))).modified == 7


def begin(store: S3Store, key: str) -> None:
    place = store._bucket_and_key(key)
    store._connection.call("", lambda client: client.create_multipart_upload(**place))


def test_an_upload_that_a_killed_process_left_is_found_and_removed(s3_store: S3Store) -> None:
    keys = [f"{CORPUS}/raw/{A}/part-{'1' * 16}.tar", f"{CORPUS}/my-own-upload", "elsewhere"]
    for key in keys:
        begin(s3_store, key)
    (one,) = found(s3_store)
    assert (one.kind, one.keys) == (orphans.INCOMPLETE_UPLOAD, keys[:1])
    assert clear(s3_store) == keys[:1]
    left = list(s3_store.pending_uploads())
    assert sorted(one.key for one in left) == sorted(keys[1:])  # somebody else's: they stay
    for other in left:
        s3_store.abort(other)


def test_half_written_files_of_a_folder_are_found_for_the_whole_store(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    make_version(store)
    (tmp_path / ".stoker" / A).write_bytes(b"half")
    store.write("_probe/abc", b"first")
    those = list(orphans.find_outside_corpora(store))
    assert [(one.keys, one.size) for one in those] == [([A], 4), (["_probe/abc"], 5)]
    for one in those:
        orphans.remove_outside_corpora(store, one)
    assert list(orphans.find_outside_corpora(store)) == []


STEPS = [pytest.param(1, marks=[pytest.mark.slow, pytest.mark.nightly]), 7]  # every write or removal, or each seventh


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it, the answer lost"])
def test_after_a_death_at_any_write_only_what_versions_need_is_left_and_the_bytes_come_out_the_same(
    tmp_path: Path, after: bool, step: int
) -> None:
    calm = Failing()
    expected = [run(recipe(words), calm, tmp_path) for words in (WORDS, MORE)]
    writes = 10**9 - calm.left
    deaths = 0
    for place in range(writes, 2, -step):
        store = Failing()
        first = run(recipe(WORDS), store, tmp_path)
        store.after, store.left = after, store.left - 10**9 + place
        if store.left < 1:
            continue  # it would die in the first ingest, which the tests of the engine show
        with suppress(StorageUnavailable):  # a lost answer that would have been AlreadyExists does not matter
            run(recipe(MORE), store, tmp_path)
            assert after
        deaths += store.left == 0
        store.left = 10**9
        manifests = [load_manifest(store, "words", number) for number in catalog.versions(store, "words")]
        clear(store, "words")
        assert {one.key for one in store.list()} - {layout.proofs("words")} == reachable(store, *manifests)
        assert verify(store, first).problems == ()
        second = run(recipe(MORE), store, tmp_path)
        assert shas(first) == shas(expected[0])
        assert shas(second) == shas(expected[1])
        assert verify(store, second).problems == ()
    assert deaths > 25 // step


def test_parts_that_are_done_are_not_fetched_again_unless_they_were_asked_for(tmp_path: Path) -> None:
    store = Failing(left=12)
    with pytest.raises(StorageUnavailable):
        run(recipe(WORDS), store, tmp_path)
    store.left = 10**9
    done = [one.key for one in store.list("words/raw") if one.key.endswith("/part.json")]
    assert len(done) >= 2
    clear(store, "words")
    READS.clear()
    parts = len(run(recipe(WORDS), store, tmp_path).parts)
    assert len(READS) == parts - len(done)


@pytest.mark.parametrize("step", STEPS)
def test_a_death_at_any_removal_leaves_a_store_that_the_next_ingest_can_trust(tmp_path: Path, step: int) -> None:
    class Dying(Failing):
        deletes = 10**9

        def delete(self, key: str) -> None:
            if "/work/" not in key:
                self.deletes -= 1
                if self.deletes < 0:
                    raise StorageUnavailable(f"{key}: down")
            super().delete(key)

    calm = Failing()
    expected = run(recipe(MORE), calm, tmp_path)
    last = 10**9 - calm.left - 2  # all is written but the manifest
    place = 0
    while True:
        store = Dying(left=last)
        with pytest.raises(StorageUnavailable):
            run(recipe(MORE), store, tmp_path)
        store.left, store.deletes = 10**9, place
        try:
            clear(store, "words")
        except StorageUnavailable:
            place += step
            store.deletes = 10**9
            again = run(recipe(MORE), store, tmp_path)
            assert shas(again) == shas(expected)
            assert verify(store, again).problems == ()
            continue
        break
    assert place > 20


def test_what_a_version_published_meanwhile_needs_stays(tmp_path: Path) -> None:
    store = Failing()
    run(recipe(WORDS), store, tmp_path)
    store.left = 10**9
    manifest = json.loads(store.read(layout.version("words", 1)))
    store.delete(layout.version("words", 1))
    with gc_lease(store, "words", older_than_s=0) as lease:
        referenced = ReferencedKeys(store)
        referenced.refresh()
        those = list(orphans.find(store, "words", referenced.keys, own_lease=lease.key))
        assert len(those) > 5
        store.write(layout.version("words", 1), json.dumps(manifest).encode())
        assert list(orphans.remove(lease, referenced, those)) == []
    assert verify(store, load_manifest(store, "words")).problems == ()


def test_a_version_of_another_corpus_protects_the_tars_that_it_indexed() -> None:
    store = MemoryStore()
    manifest = make_version(store)
    tars = {shard.key for shard in manifest.shards}
    decisions = replace(manifest.decisions, key=layout.decisions("other", manifest.decisions.sha256))
    for url in (None, f"{store.url}/{CORPUS}"):
        store.delete(layout.version(CORPUS, 1))
        shards = [
            replace(
                shard,
                key=shard.key if url is None else shard.key.removeprefix(f"{CORPUS}/"),
                index=layout.index("other", shard.group, shard.split, number),
            )
            for number, shard in enumerate(manifest.shards)
        ]
        other = replace(manifest, corpus="other", parts=(), shards=tuple(shards), decisions=decisions, tars=url)
        store.write(layout.version("other", 1), json.dumps(old_json(other)).encode())
        clear(store)
        assert tars <= {one.key for one in store.list()}


@pytest.mark.parametrize("way", ["its own path", "a link to the store", "a folder above it", "links to the tars"])
def test_tars_of_a_version_stay_by_whatever_path_it_names_them(tmp_path: Path, way: str) -> None:
    store = DirectoryStore(tmp_path / "above" / "store")
    manifest = make_version(store)
    (tmp_path / "link").symlink_to(store.root)
    (tmp_path / "links").mkdir()
    for shard in manifest.shards:
        (tmp_path / "links" / f"{shard.group}-{Path(shard.key).name}").symlink_to(store.root / shard.key)
    urls = {"its own path": f"{store.url}/{CORPUS}", "a link to the store": f"{tmp_path}/link/{CORPUS}/shards"}
    urls |= {"a folder above it": f"file://{tmp_path}/above", "links to the tars": f"{tmp_path}/links"}
    again = indexed(urls[way], store, "again").manifest
    assert again.samples > 10
    store.delete(layout.version(CORPUS, 1))
    assert orphans.INCOMPLETE_GROUP in {one.kind for one in found(store)}, "what only the first version needed may go"
    clear(store)
    assert verify(store, again).problems == ()


def test_tars_in_the_same_bucket_stay_by_whatever_prefix_a_version_names_them(s3_store: S3Store) -> None:
    store = replace(s3_store, prefix=f"{s3_store.prefix}/deep")
    make_version(store)
    again = indexed(s3_store.url, store, "again").manifest
    store.delete(layout.version(CORPUS, 1))
    clear(store)
    assert verify(store, again).problems == ()


@pytest.mark.parametrize(("change", "error"), [({"schema": 99}, StorageRefused), ({"lists": None}, CorruptShard)])
def test_a_manifest_that_cannot_be_read_stops_all(change: dict[str, object], error: type[Exception]) -> None:
    store = MemoryStore()
    make_version(store)
    content = json.loads(store.read(layout.version(CORPUS, 1)))
    del content["checksum"]
    store.write(layout.version("other", 1), seal(content | {"corpus": "other"} | change))
    with pytest.raises(error, match=r"other/versions/00000001\.json"):
        clear(store)


@pytest.mark.parametrize("moved", ["digits", "digits/versions", "digits/versions/00000001.json"])
@pytest.mark.parametrize("lost", [False, True], ids=["a link out of the store", "a link to nothing"])
def test_a_version_behind_a_link_that_is_not_followed_stops_all(tmp_path: Path, moved: str, lost: bool) -> None:
    store = DirectoryStore(tmp_path / "store")
    make_version(store)
    (store.root / moved).rename(tmp_path / "away")
    (store.root / moved).symlink_to(tmp_path / ("gone" if lost else "away"))
    for call in (lambda: clear(store), lambda: clear(store, "other"), lambda: catalog.newest_versions(store)):
        with pytest.raises(StorageRefused, match=f"store/{moved}.*: a link .* or remove it"):
            call()


@pytest.mark.parametrize("payload", [b"{", b"[]", b"{}", b'{"tar": 1, "records": 2}', b'{"shards": [1]}'])
def test_an_invalid_marker_protects_nothing(payload: bytes) -> None:
    store = MemoryStore()
    manifest = make_version(store)
    for folder in (f"{CORPUS}/raw/{A}/part", f"{CORPUS}/shards/{A}/group"):
        store.write(f"{folder}.json", payload)
    store.write(f"{CORPUS}/shards/{'d' * 32}/group.json", payload)  # the version's own group: its marker stays
    kinds = {one.kind for one in found(store)}
    assert kinds == {orphans.INCOMPLETE_PART, orphans.INCOMPLETE_GROUP}
    clear(store)
    assert {one.key for one in store.list()} == reachable(store, manifest)


def test_a_later_part_under_a_versions_digest_is_told_from_the_versions_own() -> None:
    store = MemoryStore()
    manifest = make_version(store)
    part = manifest.parts[0]
    folder = layout.folder_of(part.tar)
    later = f"{folder}records-{'9' * 16}.parquet"
    store.write(later, b"fetched again, at another time")
    store.write(f"{folder}part.json", json.dumps({"tar": part.tar, "records": later}).encode())
    assert [(one.kind, one.keys) for one in found(store)] == [(orphans.PART, [f"{folder}part.json", later])]
    store.write(f"{folder}part.json", json.dumps({"schema": 1} | part.to_json()).encode())
    assert [(one.kind, one.keys) for one in found(store)] == [(orphans.INCOMPLETE_PART, [later])]
    clear(store)
    assert verify(store, manifest).problems == ()
    assert store.size(f"{folder}part.json")


def test_while_an_ingest_is_under_way_nothing_is_removed(store: Store) -> None:
    litter(store)
    keys = {one.key for one in store.list()}
    with (
        ingest_lease(store, CORPUS),
        pytest.raises(CorpusBusy, match=r"digits: an ingest is under way .*; run again when it has ended"),
        gc_lease(store, CORPUS, older_than_s=3600),
    ):
        raise AssertionError("never reached")
    assert {one.key for one in store.list()} == keys  # no lease is left


def test_an_ingest_that_begins_stops_the_removal_before_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "_BATCH", 1)
    store = MemoryStore()
    litter(store)
    store.delete(f"{CORPUS}/work/ingest-{A}.json")
    with gc_lease(store, CORPUS, older_than_s=3600) as lease:
        removed = orphans.remove(lease, ReferencedKeys(store), found(store))
        assert next(removed)
        store.write(f"{CORPUS}/work/ingest-{B}.json", b"{}")
        with pytest.raises(CorpusBusy):
            next(removed)


def test_ingests_and_gcs_at_the_same_time_never_break_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, over, gone, rounds = Aged(), threading.Event(), list[str](), list[bool]()
    monkeypatch.setattr(orphans, "_BATCH", 3)
    monkeypatch.setattr(work, "_POLL_S", 0.01)
    delete = MemoryStore.delete
    monkeypatch.setattr(MemoryStore, "delete", lambda self, key: (time.sleep(0.002), delete(self, key))[1])  # type: ignore[func-returns-value]  # it is None

    def collect() -> None:
        while not over.wait(0.01):
            with suppress(CorpusBusy), gc_lease(store, "words", older_than_s=3600) as lease:
                referenced = ReferencedKeys(store)
                referenced.refresh()
                those = (one for one in orphans.find(store, "words", referenced.keys) if one.kind != orphans.LEASE)
                gone.extend(one.kind for one in orphans.remove(lease, referenced, those))
                rounds.append(True)

    with ThreadPoolExecutor(1) as pool:
        collector = pool.submit(collect)
        try:
            for number in range(8):
                made = recipe(tuple(f"round-{number}-{word}" for word in range(30)))
                store.write(layout.decisions("words", f"{number:064x}"), b"of a run that ended before it published")
                asked = iter(range(20 + 2 * number))
                with suppress(IngestStopped):
                    ingest(made, store, context(tmp_path), stop=partial(ended, asked))
                seen, deadline = len(rounds), time.monotonic() + 60
                while number % 2 and len(rounds) < seen + 2 and time.monotonic() < deadline:
                    time.sleep(0.002)
                manifest = run(made, store, tmp_path)
                assert verify(store, manifest).problems == ()
        finally:
            over.set()
        collector.result(30)
    assert gone
    for number in range(1, 9):
        assert verify(store, load_manifest(store, "words", number)).problems == ()


def ended(left: Iterator[int]) -> bool:
    return next(left, None) is None
