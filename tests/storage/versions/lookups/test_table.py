"""Lookups: the files that have a value are found by two reads."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.blank import blank_key
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.lookups.table import Entries, Lookup, encode, hashes_in
from stoker.storage.versions.memory import sealed_writer
from tests.storage.versions.memory.damage import damaged
from tests.storage.versions.memory.golden import golden, is_written_as

ENTRIES = Entries.of(
    [
        ("digits/raw/b/records-1.parquet", hashes_in(pa.table({"key": ["a", "b"], "url": ["https://e.org/a", None]}))),
        ("digits/raw/a/records-2.parquet", hashes_in(pa.table({"key": ["b"]}))),
    ]
)
files = st.dictionaries(st.sampled_from("xyz"), st.lists(st.sampled_from("abcdé")), max_size=3)


def entries(by_file: dict[str, list[str]]) -> Entries:
    return Entries.of(
        (key, hashes_in(pa.table({"key": pa.array(values, pa.string())}))) for key, values in by_file.items()
    )


def opened(payload: bytes, rows: int = 0) -> Lookup:
    return Lookup(lambda start, stop: payload[start:stop], ListFile("x", len(payload), "", rows), "x")


def test_a_lookup_is_these_bytes_and_is_read() -> None:
    payload, written = encode(ENTRIES)
    assert is_written_as(payload, "lookup.parquet")
    lookup = opened(golden("lookup.parquet"))
    assert written.rows == len(lookup.entries().hashes) == 4
    assert lookup.files == sorted(ENTRIES.files)
    assert lookup.files_with("https://e.org/a") == {"digits/raw/b/records-1.parquet"}
    assert lookup.files_with("b") == set(ENTRIES.files)
    assert not lookup.files_with("c")


@given(files, files, st.integers(1, 5))
def test_every_value_leads_to_its_files_also_in_joined_lookups(
    first: dict[str, list[str]], second: dict[str, list[str]], group: int
) -> None:
    second = {f"{key}2": values for key, values in second.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_writer, "ROW_GROUP", group)
        payload, _ = encode(entries(first).joined(entries(second)))
        assert payload == encode(entries(second).joined(entries(first)))[0]
        lookup, both = opened(payload), first | second
        for value in "abcdéf":
            assert lookup.files_with(value) == {key for key, values in both.items() if value in values}
        assert set(lookup.files) == both.keys()
        only = lookup.entries().only(first)
        assert encode(only)[0] == encode(entries(first))[0]


def test_blank_and_repeated_candidates_and_other_columns_are_in_no_lookup() -> None:
    table = pa.table(
        {
            "key": ["a", blank_key("b"), "c"],
            "reason": [None, "gone", "known"],
            "label": ["x", "y", "z"],
            "sha256": pa.array([1, 2, 3]),
        }
    )
    assert hashes_in(table).tolist() == hashes_in(pa.table({"key": ["a"]})).tolist()
    assert hashes_in(pa.table({"key": ["a", "a"], "url": ["a", "b"]})).dtype == np.uint64
    assert len(hashes_in(pa.table({"key": ["a", "a"], "url": ["a", "b"]}))) == 2


def test_any_damage_is_found() -> None:
    for payload in damaged(encode(ENTRIES)[0]):
        with pytest.raises(CorruptShard, match=r"^x: damaged: .*; `stoker why` reads all records"):
            opened(payload).entries()
