"""`stoker verify --repair`: a version has its old bytes again, or what is left is named with what heals it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from stoker.pipelines.repair import repair
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.masks.view import with_masks
from stoker.storage.versions.version import Version
from tests.storage.external_tars import numbered, tar
from tests.system.damage import KINDS, flip, keys
from tests.system.test_damaged_store import WORDS, FailingWrites, made, objects, run

CUT: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda payload: payload[:-7],
    "halve": lambda payload: payload[: len(payload) // 2 + 5],
    "a piece": lambda payload: payload[: len(payload) // 9],
    "a byte": lambda payload: payload[:1],
    "empty": lambda payload: b"",
    "zeros": lambda payload: bytes(1774),
    "longer": lambda payload: payload + b"A" * 140_288,
    "junk": lambda payload: b'{"a":1}' * 250,
    "another's": lambda payload: tar(numbered(0, 9)),
}
DERIVED = ("decisions", "part", "shard", "index", "part marker", "group marker")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def first(store: MemoryStore, tmp_path: Path) -> Manifest:
    return run(store, tmp_path).manifest


def harm(store: MemoryStore, manifest: Manifest, kind: str, how: str) -> None:
    for key in keys(manifest, kind)[1:] or keys(manifest, kind):
        payload = store.read(key)
        if how == "flip":
            flip(store, key, 8 * (len(payload) // 2))
        elif how == "lose":
            store.delete(key)
        else:
            store.write(key, CUT[how](payload))


@pytest.mark.parametrize("how", ["flip", "lose", *CUT])
@pytest.mark.parametrize("kind", DERIVED)
def test_what_can_be_derived_has_its_old_bytes_again(
    store: MemoryStore, first: Manifest, tmp_path: Path, kind: str, how: str
) -> None:
    before = objects(store)
    harm(store, first, kind, how)
    damaged = verify(store, first).damaged
    # A lost marker is no damage: the next ingest does its work again.
    assert damaged or (how == "lose" and "marker" in kind)
    assert repair(made(), first, damaged, store, tmp_path) == []
    assert verify(store, first).problems == ()
    if damaged:
        assert objects(store) == before


def test_everything_but_parts_and_records_at_once_is_made_again(
    store: MemoryStore, first: Manifest, tmp_path: Path
) -> None:
    before = objects(store)
    for kind in ("decisions", "shard", "index", "part marker", "group marker"):
        harm(store, first, kind, "flip")
    assert repair(made(), first, verify(store, first).damaged, store, tmp_path) == []
    assert objects(store) == before


def test_a_view_heals_its_masks_and_names_the_version_that_heals_its_tars(
    store: MemoryStore, first: Manifest, tmp_path: Path
) -> None:
    gone = [sample.key for sample in islice(Version(store, first), 3)]
    view = with_masks(store, first, gone)
    assert verify(store, view).problems == ()
    before = objects(store)
    flip(store, view.masks[0].key, 40)
    assert repair(made(), view, verify(store, view).damaged, store, tmp_path) == []
    assert objects(store) == before
    harm(store, view, "shard", "flip")
    (advice,) = repair(made(), view, verify(store, view).damaged, store, tmp_path)
    assert f"`stoker verify --repair {first.reference}`, which has no masks, heals them" in advice
    assert repair(made(), first, verify(store, first).damaged, store, tmp_path) == []
    assert verify(store, view).problems == ()
    assert objects(store) == before
    flip(store, view.decisions.key, 40)
    (advice,) = repair(made(), view, verify(store, view).damaged, store, tmp_path)
    assert f"{view.decisions.key}: nothing else says" in advice
    assert f"put back the object whose SHA-256 is {view.decisions.sha256}" in advice


@pytest.mark.parametrize("kind", ["records", "part"])
def test_what_cannot_be_derived_is_named_and_an_ingest_heals_it(
    store: MemoryStore, first: Manifest, tmp_path: Path, kind: str
) -> None:
    harm(store, first, kind, "flip")
    harm(store, first, "shard", "flip")  # raw tars are made of them
    advice = repair(made(), first, verify(store, first).damaged, store, tmp_path)
    assert any("partition 'words-" in line and "`stoker ingest` of the recipe" in line for line in advice)
    assert verify(store, first).damaged >= set(keys(first, "shard")[1:])
    again = run(store, tmp_path)
    assert (again.new, again.manifest) == (False, first)
    assert verify(store, first).problems == ()


def test_a_repair_that_is_killed_at_any_write_is_done_by_the_next(tmp_path: Path) -> None:
    for place in range(0, 40, 7):
        store = FailingWrites()
        first = run(store, tmp_path).manifest
        before = objects(store)
        for kind in ("decisions", "index", "part marker"):
            harm(store, first, kind, "flip")
        store.writes = place
        try:
            repair(made(), first, verify(store, first).damaged, store, tmp_path)
        except StorageUnavailable:
            store.writes = 10**9
            assert repair(made(), first, verify(store, first).damaged, store, tmp_path) == []
        assert objects(store) == before


def test_an_older_version_is_repaired_without_harm_to_the_newer(
    store: MemoryStore, first: Manifest, tmp_path: Path
) -> None:
    second = run(store, tmp_path, made((*WORDS[:15], "one-more", *WORDS[15:]), digest="two")).manifest
    only_first = {key for kind in KINDS for key in keys(first, kind)} - {
        key for kind in KINDS for key in keys(second, kind)
    }
    lost = sorted(key for key in only_first if "/shards/" in key and not key.endswith(".json"))
    assert lost
    for key in lost:
        store.delete(key)
    assert repair(made(), first, verify(store, first).damaged, store, tmp_path) == []
    assert verify(store, first).problems == verify(store, second).problems == ()


def test_what_would_be_packed_otherwise_now_is_told_and_no_byte_changes(
    store: MemoryStore, first: Manifest, tmp_path: Path
) -> None:
    before = objects(store)
    harm(store, first, "shard", "flip")
    other = replace(made(), rules=(), splits={"train": 50, "validation": 50})
    (line,) = repair(other, first, verify(store, first).damaged, store, tmp_path)
    assert "packs otherwise; `stoker ingest` of the recipe" in line
    now = objects(store)
    assert now.keys() == before.keys()
    assert {key for key in now if now[key] != before[key]} == set(keys(first, "shard")[1:])
