"""Lookups: the rows of a value are found by two reads."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.memory import lookup, sealed_parquet, sealed_writer
from stoker.storage.versions.memory.merging import merge_files
from tests.storage.remembered import ENTRIES, put_lookup
from tests.storage.versions.memory.damage import damaged
from tests.storage.versions.memory.golden import golden, is_written_as

entries = st.lists(
    st.tuples(st.sampled_from(["key", "page"]), st.sampled_from("abcdé"), st.sampled_from("xy"), st.integers(0, 3)),
    max_size=30,
)


def test_a_lookup_is_these_bytes_and_is_read() -> None:
    payload, _ = lookup.encode(lookup.to_table(ENTRIES))
    assert is_written_as(payload, "lookup.parquet")
    assert lookup.decode(golden("lookup.parquet"), "x").equals(lookup.to_table(ENTRIES))


@given(entries, entries, st.integers(1, 5))
def test_every_value_leads_to_its_rows_also_in_merged_files(
    first: list[tuple[str, str, str, int]], second: list[tuple[str, str, str, int]], group: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_writer, "ROW_GROUP", group)
        payloads = [lookup.encode(lookup.to_table(one))[0] for one in (first, second)]
        file = io.BytesIO()
        writer = lookup.writer(file)
        merge_files([reader(payload) for payload in payloads], lookup.merge, writer)
        writer.close()
        merged = file.getvalue()
        assert merged == lookup.encode(lookup.merge(lookup.to_table(first), lookup.to_table(second)))[0]
        for kind, value in {(kind, value) for kind, value, _, _ in (*first, *second, ("key", "unknown", "", 0))}:
            expected = {(file, row) for *names, file, row in (*first, *second) if names == [kind, value]}
            assert lookup.places(reader(merged), kind, value) == sorted(expected)


def reader(payload: bytes) -> sealed_parquet.SealedReader:
    return sealed_parquet.SealedReader(
        lambda start, stop: payload[start:stop], size=len(payload), schema=lookup.SCHEMA, where="x", remedy="y"
    )


def test_any_damage_is_found() -> None:
    store = MemoryStore()
    key = put_lookup(store).key
    for payload in damaged(store.read(key)):
        with pytest.raises(CorruptShard, match=f"^{key}: damaged: .*; restore it from a copy; without it `stoker why`"):
            lookup.decode(payload, key)
