"""Verify names every damaged object of a corpus' memory; the version itself stays readable."""

from dataclasses import replace

import pytest

import stoker
from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.deleted import delete_version
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory import outcomes, sealed_writer
from stoker.storage.versions.memory.ledger import Ledger, create_head, encode, load_head
from stoker.storage.versions.memory.outcomes import SCHEMA
from stoker.storage.versions.memory.withdrawn import record_withdrawn
from stoker.training.stream.stream import ShardStream
from tests.storage.published import CORPUS, make_version
from tests.storage.remembered import GONE, KEPT, REPLACED, TIME, remember
from tests.storage.versions.memory.damage import damaged

MEMORY = {"memory", "outcomes", "plans", "tombstones", "withdrawn"}


def made() -> MemoryStore:
    """Versions 1 and 3, a deleted one between them, and a memory."""
    store = MemoryStore()
    for version in (1, 2, 3):
        make_version(store, version)
    delete_version(store, CORPUS, 2, at=TIME)
    remember(store)
    return store


def lists_of_parts(store: MemoryStore) -> set[str]:
    return {load_head(store, CORPUS, number).parts_list[0].key for number in (2, 4)}


def problems(store: MemoryStore) -> tuple[str, ...]:
    return verify(store, load_manifest(store, CORPUS)).problems


KEYS = [one.key for one in made().list() if one.key.split("/")[1] in MEMORY or one.key.endswith(".deleted")]
KEYS += lists_of_parts(made())


def test_an_intact_memory_has_no_problem_and_is_read() -> None:
    store = made()
    assert problems(store) == ()
    without = MemoryStore()
    manifest = make_version(without, 3)
    sizes = sum(store.size(key) for key in KEYS if key.endswith(".parquet") and "tombstones" not in key)
    assert verify(store, load_manifest(store, CORPUS)).size > verify(without, manifest).size + sizes - 1
    assert len(KEYS) > 15


@pytest.mark.parametrize("key", KEYS)
def test_any_damage_is_named_and_the_version_is_read_all_the_same(key: str) -> None:
    store = made()
    sound = store.read(key)
    for payload in list(damaged(sound, step=len(sound) // 2))[5::9]:  # a flipped bit or a cut at each of two places
        store.write(key, payload)
        found = problems(store)
        assert [problem.partition(": ")[0] for problem in found][:1] == [key]
        assert store.url not in found[0]
    manifest = load_manifest(store, CORPUS)
    if "/tombstones/" in key:  # what was taken out is not known then, and nothing is read
        with pytest.raises(CorruptShard, match=r"what it takes out is not known|tombstones beside it was lost"):
            stoker.version(store, CORPUS)["s-000"]
        return
    assert len(stoker.version(store, CORPUS)["s-000"].fields) == 2
    assert sum(len(batch.keys) for batch in ShardStream(store, manifest, split="train", batch_size=4)) == 8


@pytest.mark.parametrize("key", [key for key in KEYS if "/outcomes/" in key or "part" in key or ".parquet" in key])
def test_a_table_that_is_named_and_missing_is_a_problem(key: str) -> None:
    store = made()
    store.delete(key)
    assert problems(store) == (f"{key}: is missing",)


def test_one_damage_is_one_problem() -> None:
    store = made()
    key = layout.tombstones(CORPUS, 1)
    store.write(key, store.read(key) + b"x")
    assert problems(store) == (f"{key}: has {store.size(key)} bytes, expected {store.size(key) - 1}",)


def test_a_head_that_does_not_follow_the_one_before_it_is_a_problem() -> None:
    store = made()
    head = load_head(store, CORPUS, 2)
    store.write(layout.ledger(CORPUS, 2), encode(replace(head, stoker="0.1.1")))
    assert problems(store) == (f"{layout.ledger(CORPUS, 3)}: does not follow head 2 as that is now",)


def test_a_table_that_is_not_sorted_or_counts_otherwise_is_a_problem() -> None:
    store = MemoryStore()
    make_version(store)
    table = outcomes.to_table([KEPT, GONE])
    payload, written = sealed_writer.encode(table.take([1, 0]), statistics=["hash"])
    stored = written.stored_as(layout.outcomes(CORPUS, written.sha256))
    store.write(stored.key, payload)
    create_head(store, Ledger(CORPUS, 1, TIME, "0.1.0", outcomes=(stored,)))
    assert problems(store) == (f"{stored.key}: is not sorted by hash",)
    payload, written = outcomes.encode(table)
    stored = replace(written.stored_as(layout.outcomes(CORPUS, written.sha256)), rows=3)
    store.write(stored.key, payload)
    store.write(layout.ledger(CORPUS, 1), encode(Ledger(CORPUS, 1, TIME, "0.1.0", outcomes=(stored,))))
    assert problems(store) == (f"{stored.key}: has 2 rows, expected 3",)
    assert SCHEMA.names[0] == "hash"


def test_an_object_of_a_newer_stoker_is_told() -> None:
    store = made()
    key = layout.ledger(CORPUS, 6)
    content = load_head(store, CORPUS, 6).to_json()
    store.write(key, stoker.storage.versions.sealed.seal(content | {"schema": 2}))
    assert problems(store)[0].startswith(f"{key}: written with schema 2, and this Stoker knows up to 1; upgrade")


def test_what_a_purge_wrote_has_the_name_of_its_content() -> None:
    store = made()
    old, new = layout.shard(CORPUS, "d" * 32, "train", 0), layout.shard(CORPUS, "d" * 32, "train", 1)
    record_withdrawn(store, CORPUS, [replace(REPLACED, old=old, new=new)], at=TIME)
    expected = layout.purged(old, REPLACED.sha256)
    assert f"{layout.withdrawn(CORPUS, 2)}: names {new!r} in the place of {old}, expected {expected}" in problems(store)
