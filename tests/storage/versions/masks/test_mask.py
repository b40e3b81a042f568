"""Masks as objects: what is written is read, and nothing damaged is used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest, Mask
from stoker.storage.versions.masks import mask as masks
from stoker.storage.versions.masks.mask import MAGIC, MAX_ROWS, BoolArray, Masks, decode, encode
from stoker.storage.versions.masks.view import with_masks
from tests.storage.published import make_version

GOLDEN = Path(__file__).parent / "golden" / "masked-3-of-100.mask"
BITS = arrays.arrays(np.bool_, st.integers(0, 300))


@given(BITS)
def test_what_is_written_is_read(masked: BoolArray) -> None:
    assert np.array_equal(decode(encode(masked), len(masked)), masked)


def test_the_golden_mask_is_read_by_this_and_every_later_code() -> None:
    assert np.flatnonzero(decode(GOLDEN.read_bytes(), 100)).tolist() == [0, 41, 99]


def golden() -> bytes:
    return GOLDEN.read_bytes()


@pytest.mark.parametrize(
    ("payload", "rows", "finding"),
    [
        (b"", 100, "no mask: it begins otherwise"),
        (b"PK" + golden()[2:], 100, "no mask: it begins otherwise"),
        (golden()[:7] + b"\x02" + golden()[8:], 100, "a mask of format 2; upgrade Stoker"),
        (golden()[:12], 100, "a mask of 100 rows"),
        (golden(), 101, "a mask of 100 rows, but the shards of its group have 101"),
        (golden()[:-1], 100, "a mask whose bits cannot be unpacked to 100"),
        (golden() + b"x", 100, "a mask whose bits cannot be unpacked to 100"),
        (golden()[:16], 100, "a mask whose bits cannot be unpacked to 100"),
        (MAGIC + (93).to_bytes(8, "little") + golden()[16:], 93, "a mask whose bits cannot be unpacked to 93"),
        (MAGIC + (99).to_bytes(8, "little") + golden()[16:], 99, "a mask with bits behind its 99 rows"),
        (MAGIC + (2**40).to_bytes(8, "little"), 2**40, f"expected {MAX_ROWS:,} at most"),
    ],
)
def test_what_is_no_mask_is_told(payload: bytes, rows: int, finding: str) -> None:
    with pytest.raises(CorruptShard) as told:
        decode(payload, rows)
    assert finding in str(told.value)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = MAGIC + (100).to_bytes(8, "little") + pa.Codec("zstd").compress(bytes(2**28), asbytes=True)
    before = pa.total_allocated_bytes()
    with pytest.raises(CorruptShard, match="cannot be unpacked to 100"):
        decode(bomb, 100)
    assert pa.total_allocated_bytes() - before < 2**20


def test_too_many_rows_are_not_written() -> None:
    with pytest.raises(ValueError, match="expected"):
        encode(np.broadcast_to(np.False_, MAX_ROWS + 1))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def view(store: MemoryStore) -> Manifest:
    return with_masks(store, make_version(store), ["s-000", "s-001", "s-007", "s-011"])


def test_the_masked_rows_of_a_shard_are_those_of_its_place(store: MemoryStore, view: Manifest) -> None:
    found = [Masks(store).of(shard) for shard in view.shards]
    assert [None if rows is None else rows.tolist() for rows in found] == [
        [True, True, False, False],
        [False, False, True, False],
        [False, False, True],
    ]


def test_a_mask_is_read_once(store: MemoryStore, view: Manifest) -> None:
    read: list[str] = []

    def note(mask: Mask) -> bytes:
        read.append(mask.key)
        return masks.read(store, mask)

    reader = Masks(store, note)
    for shard in [*view.shards, *view.shards]:
        reader.of(shard)
    assert read == [view.masks[0].key]


def test_a_mask_that_failed_is_read_again(store: MemoryStore, view: Manifest) -> None:
    reader, payload = Masks(store), store.read(view.masks[0].key)
    store.delete(view.masks[0].key)
    with pytest.raises(NotFound):
        reader.of(view.shards[0])
    store.write(view.masks[0].key, payload)
    assert reader.of(view.shards[0]) is not None


@pytest.mark.parametrize("place", [0, 8, 16, -1])
def test_a_flipped_byte_is_found(store: MemoryStore, view: Manifest, place: int) -> None:
    key = view.masks[0].key
    payload = bytearray(store.read(key))
    payload[place] ^= 1
    store.write(key, bytes(payload))
    with pytest.raises(CorruptObject, match=r"sha256 .*verify --repair") as told:
        Masks(store).of(view.shards[0])
    assert told.value.key == key


def test_a_mask_of_other_counts_than_the_manifests_is_corrupt(store: MemoryStore, view: Manifest) -> None:
    wrong = replace(view.shards[0], samples=1, masked=3)
    with pytest.raises(CorruptObject, match=r"masks 2 rows of .*train-00000\.tar, but the manifest says 3"):
        Masks(store).of(wrong)
