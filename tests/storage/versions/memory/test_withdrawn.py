"""Records of purges: what lies in the place of an object that is gone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.memory.withdrawn import (
    Replaced,
    Withdrawn,
    encode,
    load_record,
    load_withdrawn,
    record_withdrawn,
    redirects,
)
from tests.storage.published import CORPUS
from tests.storage.remembered import REPLACED, TIME
from tests.storage.versions.memory.damage import damaged
from tests.storage.versions.memory.golden import golden, is_written_as

RECORD = Withdrawn(CORPUS, 1, TIME, (REPLACED, replace(REPLACED, old="é", rows=())))


def test_a_record_is_these_bytes_and_is_read() -> None:
    assert is_written_as(encode(RECORD), "withdrawn.json")
    store = MemoryStore()
    store.write(layout.withdrawn(CORPUS, 1), golden("withdrawn.json"))
    assert load_withdrawn(store, CORPUS) == [RECORD]


counts = st.integers(0, 2**62)
keys = st.sampled_from("abcdef")
objects = st.lists(st.builds(Replaced, keys, keys, counts, keys, st.lists(counts, max_size=3).map(tuple)), max_size=3)


@given(st.lists(objects, max_size=3))
def test_what_is_recorded_is_loaded_oldest_first(purges: list[list[Replaced]]) -> None:
    store = MemoryStore()
    records = [record_withdrawn(store, CORPUS, purge, at=TIME) for purge in purges]
    assert load_withdrawn(store, CORPUS) == records
    assert [record.number for record in records] == list(range(1, len(purges) + 1))


def test_an_object_that_was_purged_twice_leads_to_the_last_one() -> None:
    first = Replaced("a", "b", 10, "1", (3,))
    second = Replaced("b", "c", 10, "2", (1, 3))
    other = Replaced("x", "y", 5, "3", ())
    found = redirects([Withdrawn(CORPUS, 1, TIME, (first, other)), Withdrawn(CORPUS, 2, TIME, (second,))])
    assert found == {"a": Replaced("a", "c", 10, "2", (1, 3)), "b": second, "x": other}


def test_any_damage_is_found() -> None:
    store = MemoryStore()
    record_withdrawn(store, CORPUS, [REPLACED], at=TIME)
    key = layout.withdrawn(CORPUS, 1)
    for payload in damaged(store.read(key)):
        store.write(key, payload)
        with pytest.raises(CorruptShard, match=f"{key}: .*; restore it from a copy"):
            load_withdrawn(store, CORPUS)
    store.write(layout.withdrawn(CORPUS, 2), encode(RECORD))
    with pytest.raises(CorruptShard, match="it is number 1 of digits; was it copied"):
        load_record(store, CORPUS, 2)
