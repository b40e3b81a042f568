"""Tombstones: what was taken out is found among any number of values, and nothing else is."""

import hashlib
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.memory.tombstones import (
    KINDS,
    SCHEMA,
    Tombstones,
    add_tombstones,
    decode,
    encode,
    hash_of,
    load_tombstones,
    open_file,
    to_table,
)
from stoker.storage.versions.memory.witness import load_witness
from tests.storage.published import CORPUS
from tests.storage.remembered import AT, TAKEN_OUT
from tests.storage.versions.memory.damage import damaged
from tests.storage.versions.memory.golden import golden, is_written_as

values = st.tuples(st.sampled_from(KINDS), st.text(max_size=3))


def test_a_file_of_tombstones_is_these_bytes_and_holds_no_value() -> None:
    payload, _ = encode(to_table(TAKEN_OUT, at=AT))
    assert is_written_as(payload, "tombstones.parquet")
    assert decode(golden("tombstones.parquet"), "x").equals(to_table(TAKEN_OUT, at=AT))
    assert b"example" not in payload


def test_a_hash_is_of_kind_a_zero_byte_and_value() -> None:
    assert hash_of("url", "é") == hashlib.sha256(b"url\0\xc3\xa9").digest()


@given(st.lists(st.lists(values, max_size=9), max_size=3), st.lists(values, max_size=20))
def test_exactly_what_was_taken_out_is_withdrawn(
    files: list[list[tuple[str, str]]], asked: list[tuple[str, str]]
) -> None:
    store = MemoryStore()
    for index, taken in enumerate(files):
        add_tombstones(store, CORPUS, taken, at=AT + timedelta(days=index))
    found = load_tombstones(store, CORPUS)
    everything = {one for taken in files for one in taken}
    assert len(found) == len(everything)
    for kind in KINDS:
        texts = [value for _, value in (*asked, *everything)]
        assert found.is_withdrawn(kind, texts).tolist() == [(kind, value) in everything for value in texts]
    assert found.is_withdrawn("url", [None, None]).tolist() == [False, False]
    assert found.is_withdrawn("url", []).tolist() == []


def test_hashes_that_begin_alike_are_told_apart() -> None:
    wanted = hash_of("url", "b")
    others = [wanted[:8] + bytes([last] * 24) for last in (0, 255)]
    for known, expected in ((others, False), ([*others, wanted], True)):
        table = pa.table({"kind": ["url"] * len(known), "sha256": known, "at": [AT] * len(known)}, schema=SCHEMA)
        assert Tombstones.of([table]).is_withdrawn("url", ["a", "b"]).tolist() == [False, expected]


def test_each_file_has_the_next_number_and_none_is_overwritten() -> None:
    store = MemoryStore()
    stored = [add_tombstones(store, CORPUS, [("key", name)], at=AT) for name in "ab"]
    assert [one.key for one in stored] == [layout.tombstones(CORPUS, number) for number in (1, 2)]
    assert [open_file(store, one).rows for one in stored] == [1, 1]
    assert all(store.size(one.key) == one.size for one in stored)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="tombstones of 'title': expected one of url, key, page, host, author, sha256"):
        add_tombstones(MemoryStore(), CORPUS, [("title", "x")], at=AT)
    with pytest.raises(ValueError, match="tombstones of 'title'"):
        Tombstones.of([]).is_withdrawn("title", [])


def test_any_damage_is_found_and_nobody_goes_on_without() -> None:
    store = MemoryStore()
    key = add_tombstones(store, CORPUS, TAKEN_OUT, at=AT).key
    for payload in damaged(store.read(key)):
        store.write(key, payload)
        with pytest.raises(CorruptShard, match=f"{key}: damaged: .*; restore it from a copy"):
            load_tombstones(store, CORPUS)


def test_a_file_that_is_lost_before_another_one_is_damage() -> None:
    store = MemoryStore()
    for value in ("a", "b", "c"):
        add_tombstones(store, CORPUS, [("key", value)], at=AT)
    store.delete(layout.tombstones(CORPUS, 2))
    with pytest.raises(CorruptShard, match=r"00000002\.parquet: it is lost"):
        load_tombstones(store, CORPUS)


def test_the_last_file_is_missed_where_it_is_lost_or_replaced() -> None:
    store = MemoryStore()
    for kind, value in (("url", "a"), ("url", "b"), ("url", "c")):
        add_tombstones(store, CORPUS, [(kind, value)], at=AT, reason=f"by {value}")
    first, last = (layout.tombstones(CORPUS, number) for number in (1, 3))
    payload = store.read(last)
    store.write(last, store.read(first))
    with pytest.raises(CorruptShard, match=f"{last}: it is another file than was written; restore it"):
        load_tombstones(store, CORPUS)
    store.delete(last)
    with pytest.raises(CorruptShard, match=f"{last}: it is lost"):
        load_tombstones(store, CORPUS)
    store.write(last, payload)
    assert load_tombstones(store, CORPUS).number == 3
    assert load_witness(store, CORPUS, 3).reason == "by c"


def test_files_of_earlier_releases_have_no_witness_until_something_more_is_taken_out() -> None:
    store = MemoryStore()
    for number in (1, 2):
        add_tombstones(store, CORPUS, [("url", f"{number}")], at=AT)
        store.delete(layout.witness(CORPUS, number))
    assert len(load_tombstones(store, CORPUS)) == 2
    add_tombstones(store, CORPUS, [("url", "3")], at=AT)
    store.write(layout.tombstones(CORPUS, 1), store.read(layout.tombstones(CORPUS, 2)))
    with pytest.raises(CorruptShard, match="another file"):
        load_tombstones(store, CORPUS)


def test_a_damaged_witness_is_told() -> None:
    store = MemoryStore()
    add_tombstones(store, CORPUS, TAKEN_OUT, at=AT)
    key = layout.witness(CORPUS, 1)
    for payload in damaged(store.read(key)):
        store.write(key, payload)
        with pytest.raises(CorruptShard, match=f"{key}: .*restore it from a copy"):
            load_tombstones(store, CORPUS)
