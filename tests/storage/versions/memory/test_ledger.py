"""The ledger: heads follow one another, of two writers one is told, and damage is named."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StorageError, StorageRefused
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.listed.lists import LazyList, ListFile
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory.ledger import Ledger, create_head, encode, heads, load_head, newest_head
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from stoker.storage.versions.sealed import seal
from tests.fakes import Counting
from tests.storage.published import CORPUS, make_version
from tests.storage.remembered import PART, TIME, remember
from tests.storage.versions.memory.damage import damaged
from tests.storage.versions.memory.golden import golden, is_written_as

FIRST = Ledger(CORPUS, 1, TIME, "0.1.0")
HEAD = replace(
    FIRST.successor(created_at=TIME, stoker="0.1.0"),
    parent_checksum="5b36f664" * 8,
    outcomes=(StoredTable("digits/outcomes/0123456789abcdef.parquet", 9000, "0123456789abcdef" * 4, 70, 800),),
    parts=(PART, replace(PART, partition="séconde", omitted={"audio": 2})),
    tombstones=(StoredTable("digits/tombstones/00000001.parquet", 500, "ef" * 32, 2, 300),),
    plan="digits/plans/00000001.json",
)


def test_a_head_and_its_list_are_these_bytes() -> None:
    _, payload = HEAD.parts_list
    assert payload is not None
    assert is_written_as(payload, "parts.parquet")
    # The golden list stands for its own: the bytes of Parquet change with its library.
    payload = golden("parts.parquet")
    sha256 = records.sha256(payload)
    file = ListFile(layout.version_list(CORPUS, "parts", sha256), len(payload), sha256, len(HEAD.parts))
    assert is_written_as(encode(replace(HEAD, parts=LazyList(file, tuple))), "ledger.json")


def test_the_golden_head_is_read() -> None:
    store = MemoryStore()
    store.write(layout.ledger(CORPUS, 2), golden("ledger.json"))
    store.write(json.loads(golden("ledger.json"))["parts"]["key"], golden("parts.parquet"))
    assert newest_head(store, CORPUS) == load_head(store, CORPUS, 2) == HEAD


def test_a_head_holds_no_parts_and_shares_the_list_of_the_head_before() -> None:
    store = Counting()
    first = replace(FIRST, parts=(PART,) * 1000)
    create_head(store, first)
    head = load_head(store, CORPUS, 1)
    create_head(store, head.successor(created_at=TIME, stoker="0.1.0"))
    assert [one.key for one in store.list()] == [
        first.parts_list[0].key,
        *(layout.ledger(CORPUS, number) for number in (1, 2)),
    ]
    assert max(store.size(layout.ledger(CORPUS, number)) for number in (1, 2)) < 1000
    assert load_head(store, CORPUS, 2).parent_checksum == head.checksum == first.checksum
    assert first.parts_list[0].key not in store.reads  # a list is read when its parts are used
    assert head.parts == first.parts
    assert store.reads[-1] == first.parts_list[0].key


HARM: dict[str, Callable[[MemoryStore, str], None]] = {
    "cut": lambda store, key: store.write(key, store.read(key)[:-1]),
    "flipped": lambda store, key: store.write(key, b"x" + store.read(key)[1:]),
    "gone": lambda store, key: store.delete(key),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_list_of_parts_is_named_with_what_helps(harm: str) -> None:
    store = MemoryStore()
    create_head(store, HEAD)
    HARM[harm](store, HEAD.parts_list[0].key)
    head = load_head(store, CORPUS, 2)
    with pytest.raises(StorageError, match=rf"{HEAD.parts_list[0].key}: .*; restore it .* or remove ledger head 2: "):
        list(head.parts)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
counts = st.integers(0, 2**62)
tables = st.lists(st.builds(StoredTable, texts, counts, texts, counts, counts), max_size=2).map(tuple)
parts = st.builds(replace, st.just(PART), partition=texts, read=counts, rejected=st.dictionaries(texts, counts))


@given(
    st.builds(
        Ledger, corpus=st.just(CORPUS), number=st.just(7), created_at=texts, stoker=texts, parent=st.just(6),
        parent_checksum=texts, outcomes=tables, parts=st.lists(parts, max_size=2).map(tuple),
        tombstones=tables, plan=st.none() | texts,
    )
)  # fmt: skip
def test_what_is_created_is_loaded(head: Ledger) -> None:
    store = MemoryStore()
    create_head(store, head)
    assert load_head(store, CORPUS, 7) == head
    assert encode(load_head(store, CORPUS, 7)) == store.read(layout.ledger(CORPUS, 7))


def test_any_damage_is_found_and_no_version_minds() -> None:
    store = MemoryStore()
    make_version(store)
    create_head(store, FIRST)
    key = layout.ledger(CORPUS, 1)
    for payload in damaged(store.read(key)):
        store.write(key, payload)
        with pytest.raises(
            CorruptShard, match=rf"{key}: (not JSON|it differs|a list|.*object).*; restore it from a copy"
        ):
            newest_head(store, CORPUS)
    assert load_manifest(store, CORPUS).version == 1


@pytest.mark.parametrize("name", [name for name in HEAD.to_json() if name not in ("schema", "lookups")])
def test_a_head_without_a_field_or_with_a_wrong_one_is_refused_by_its_name(name: str) -> None:
    for content in ({k: v for k, v in HEAD.to_json().items() if k != name}, HEAD.to_json() | {name: 1.5}):
        store = MemoryStore()
        store.write(layout.ledger(CORPUS, 2), seal(content))
        with pytest.raises(CorruptShard, match=rf"00000002\.json: '{name}' "):
            load_head(store, CORPUS, 2)


def test_a_head_of_a_newer_stoker_is_refused_and_one_under_another_name_too() -> None:
    store = MemoryStore()
    store.write(layout.ledger(CORPUS, 2), seal(HEAD.to_json() | {"schema": 2}))
    with pytest.raises(StorageRefused, match="written with schema 2, and this Stoker knows up to 1; upgrade"):
        newest_head(store, CORPUS)
    store.write(layout.ledger(CORPUS, 3), encode(HEAD))
    with pytest.raises(CorruptShard, match="it is head 2 of digits; was it copied"):
        newest_head(store, CORPUS)


def test_of_two_writers_one_is_told_and_goes_on_from_the_other() -> None:
    store = MemoryStore()
    create_head(store, FIRST)
    ours, theirs = (FIRST.successor(created_at=TIME, stoker=name) for name in ("ours", "theirs"))
    create_head(store, theirs)
    with pytest.raises(AlreadyExists, match="digits has a ledger head 2 already; another run was first"):
        create_head(store, ours)
    newest = newest_head(store, CORPUS)
    assert newest == theirs
    create_head(store, newest.successor(created_at=TIME, stoker="ours"))
    assert heads(store, CORPUS) == [1, 2, 3]
    with pytest.raises(ValueError, match="head 5 after 3"):
        create_head(store, replace(ours, number=5, parent=3))


def test_without_a_head_there_is_no_memory() -> None:
    store = MemoryStore()
    assert newest_head(store, CORPUS) is None
    with pytest.raises(NotFound, match="digits has no ledger head 1"):
        load_head(store, CORPUS, 1)


def test_two_stores_with_the_same_history_hold_the_same_bytes() -> None:
    stores = MemoryStore(), MemoryStore()
    for store in stores:
        remember(store)
    first, second = ({one.key: store.read(one.key) for one in store.list()} for store in stores)
    assert first == second
