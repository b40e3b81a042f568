"""Kept pairs decide as a search from scratch does, whatever is left of the images and in whichever order."""

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.images import near_pairs
from stoker.pipelines.images.hamming import MAX_DISTANCE, near_duplicates, parse_hashes
from stoker.pipelines.images.near_pairs import farthest, find_pairs
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.measured.pairs import Kept, encode, put_pairs, read_pairs
from tests.pipelines.rules.test_near_duplicate_images import family


def column(hashes: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(hashes, pa.string())])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 90), st.integers(0, MAX_DISTANCE), st.sampled_from([2, 30, 70]), st.data())
def test_pairs_decide_as_a_search_does(seed: int, many: int, floor: int, spread: int, data: st.DataObject) -> None:
    hashes = family(seed, many, spread=spread)
    cuts = sorted(data.draw(st.lists(st.integers(0, many), max_size=2)))
    tables = []
    for start, stop in zip([0, *cuts], [*cuts, many], strict=True):  # each finds the pairs of what is new
        known = column(hashes[:start]).unique()
        tables.append(find_pairs(known, column(hashes[start:stop]), floor))
    pairs = pa.concat_tables(tables)
    chosen = [one for one in hashes if data.draw(st.floats(0, 1)) < 0.8]
    random.Random(seed).shuffle(chosen)
    elders = data.draw(st.integers(0, len(chosen)))
    distance = data.draw(st.integers(0, floor))
    expected = list(near_duplicates(parse_hashes(chosen), distance, elders=elders))
    assert list(near_pairs.near_duplicates(column(chosen), pairs, distance, elders)) == expected


def test_of_look_alikes_without_end_no_pairs_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, none = family(0, 60, roots=1, spread=8), pa.array([], pa.string())
    assert find_pairs(none, column(hashes), 31) is not None
    limit = len(set(hashes)) * (len(set(hashes)) - 1) // 2  # all are near all
    monkeypatch.setattr(near_pairs, "MOST", limit)
    assert find_pairs(none, column(hashes), 31) is not None
    monkeypatch.setattr(near_pairs, "MOST", limit - 1)
    assert find_pairs(none, column(hashes), 31) is None


def test_a_pair_takes_some_bytes_and_each_hash_is_held_once() -> None:
    store, hashes = MemoryStore(), family(0, 120, roots=1, spread=8)
    found = find_pairs(pa.array([], pa.string()), column(hashes), 31)
    assert found is not None
    assert len(found) > 5000
    kept = Kept.of(["alike/raw/x"], 31, found)
    file, payload = encode("alike", kept)
    put_pairs(store, [(file, payload)])
    read = read_pairs(store, file)
    assert read.table.to_pylist() == kept.table.to_pylist()
    for table in (found, kept.table, read.table):
        assert table.nbytes < 9 * len(found) + 2 * 70 * len(hashes)


@pytest.mark.parametrize("text", ["F" * 64, "f" * 63, "g" * 64])
def test_what_is_no_hash_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"hash|hexadecimal"):
        find_pairs(pa.array([], pa.string()), column([text]), 31)


@pytest.mark.parametrize("distance", range(MAX_DISTANCE + 1))
def test_the_farthest_distance_is_no_smaller(distance: int) -> None:
    assert distance <= farthest(distance) <= MAX_DISTANCE
