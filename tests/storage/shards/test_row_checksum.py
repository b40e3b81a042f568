"""Checksums of samples: any flipped bit of what is read by range is told, and older tables are read without."""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.indexed import scan as scanning
from stoker.storage.indexed.scan import scan
from stoker.storage.shards import records
from stoker.storage.shards.index import ShardIndex
from stoker.storage.shards.row_checksum import CHECKSUMS, CRC32C, MEMBERS_CRC32C, crc32c, members_crc32c
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import TarWriter
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import StoredObject
from stoker.storage.versions.verified import verified_sample
from tests.storage.samples import GOLDEN, samples

GOLDEN_CRC32C = [0x2A536061, 0xEFAFF700, 0x28DA7613, 0x42D0C29D]


def packed(chosen: list[Sample]) -> tuple[MemoryStore, pa.Table]:
    """A tar of samples and the table of its index."""
    store, rows = MemoryStore(), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        with TarWriter(path) as writer:
            for sample in chosen:
                span = writer.add(sample)
                members = [member._asdict() for member in span.members]
                rows.append(span._asdict() | {"members": members})
            writer.close()
        store.write("a.tar", path)
    return store, records.decode(records.encode(rows))


def bytewise(payload: bytes) -> int:
    """The CRC-32C by its definition, a bit at a time. Source: RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in payload:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_it_is_castagnolis_of_any_kind_of_bytes(first: bytes, second: bytes) -> None:
    whole = bytewise(first + second)
    assert crc32c(second, crc32c(first)) == crc32c(memoryview(bytearray(first + second))) == whole


def test_the_column_of_golden_samples_is_this() -> None:
    store, table = packed(GOLDEN)
    assert table.schema.field(CRC32C).type == pa.uint32()
    assert table[CRC32C].to_pylist() == GOLDEN_CRC32C
    tar = store.read("a.tar")
    spans = zip(table["start"].to_pylist(), table["stop"].to_pylist(), strict=True)
    assert [bytewise(tar[start:stop]) for start, stop in spans] == GOLDEN_CRC32C


@given(st.lists(samples, min_size=1, max_size=3, unique_by=lambda one: one.key), st.data())
def test_any_flipped_bit_of_a_sample_is_told_by_a_ranged_read(chosen: list[Sample], data: st.DataObject) -> None:
    store, table = packed(chosen)
    index = ShardIndex.of(table, "a.parquet")
    row = data.draw(st.integers(0, len(index) - 1))
    start, stop = int(index.starts[row]), int(index.stops[row])
    whole = bytearray(store.read("a.tar"))
    assert bytes(verified_sample(store, "a.tar", index, row)) == whole[start:stop]  # type: ignore[arg-type]  # one piece
    bit = data.draw(st.integers(8 * start, 8 * stop - 1))
    whole[bit // 8] ^= 1 << bit % 8
    store.write("a.tar", bytes(whole))
    key = chosen[row].key
    with pytest.raises(CorruptShard, match=rf"^memory:.*a\.tar: sample '{key}': CRC-32C .*`stoker verify --repair`"):
        verified_sample(store, "a.tar", index, row)
    for other in set(range(len(index))) - {row}:
        verified_sample(store, "a.tar", index, other)


def test_a_row_that_is_cut_off_is_told() -> None:
    store, table = packed(GOLDEN)
    store.write("a.tar", store.read("a.tar")[:600])
    with pytest.raises(CorruptShard, match="'cat-1'"):
        verified_sample(store, "a.tar", ShardIndex.of(table, ""), 0)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), None])
def test_a_table_of_an_older_release_has_no_checksums(kind: pa.DataType | None) -> None:
    store, table = packed(GOLDEN)
    older = table.drop_columns([CRC32C])
    if kind is not None:  # its own column of that name
        older = older.append_column(CRC32C, pa.array([1, 2, 3, None], pa.int64()).cast(kind))
    index = ShardIndex.decode(records.encode(older), "a.parquet")
    assert index.checksums is None
    store.write("a.tar", store.read("a.tar").replace(b"picture", b"pictare"))
    assert index.sample(0, verified_sample(store, "a.tar", index, 0)).fields["jpg"] == b"\xff\xd8 a pictare"
    joined = records.join([older, table])
    assert joined.num_rows == 8
    assert records.spans(older)[0].agrees(records.spans(table)[0])


def test_a_selection_of_rows_keeps_their_checksums() -> None:
    _, table = packed(GOLDEN)
    index = ShardIndex.of(table, "").take(np.array([1, 3]))
    assert index.checksums is not None
    assert index.checksums.tolist() == [GOLDEN_CRC32C[1], GOLDEN_CRC32C[3]]
    assert not index.scattered.any()


def linked(form: bytes) -> bytes:
    """A tar with a sample "s" whose jpg is a link to that of "a"; another sample's 200 KiB lie between them."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, payload in (("a.jpg", b"first" * 100), ("b.jpg", bytes(200_000)), ("s.txt", b"text")):
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
        link = tarfile.TarInfo("s.jpg")
        link.type, link.linkname = form, "a.jpg"
        tar.addfile(link)
    return sink.getvalue()


@pytest.mark.parametrize("form", [tarfile.LNKTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("chunk", [512, 8 * 2**20])
def test_members_of_external_tars_are_compared_wherever_they_lie(
    monkeypatch: pytest.MonkeyPatch, form: bytes, chunk: int
) -> None:
    monkeypatch.setattr(scanning, "CHUNK", chunk)
    store, payload = MemoryStore(), linked(form)
    store.write("x.tar", payload)
    scanned = scan(store, StoredObject("x.tar", len(payload)))
    assert scanned is not None
    expected = [bytewise(b"first" * 100), bytewise(b"text")]
    assert scanned.index[MEMBERS_CRC32C].to_pylist()[2] == members_crc32c(expected)
    assert scanned.index.schema.field(MEMBERS_CRC32C).type == pa.uint32()
    index = ShardIndex.decode(records.encode(scanned.index), "x.parquet", size=len(payload))
    assert index.scattered.tolist() == [False, False, True]
    assert [index.sample(row, verified_sample(store, "x.tar", index, row)).key for row in range(3)] == ["a", "b", "s"]
    for place, damaged in ((512 + 7, ["a", "s"]), (payload.index(b"text"), ["s"]), (150_000, ["b"]), (100, [])):
        store.write("x.tar", payload[:place] + bytes([payload[place] ^ 4]) + payload[place + 1 :])
        told = []
        for row, key in enumerate(["a", "b", "s"]):
            try:
                verified_sample(store, "x.tar", index, row)
            except CorruptShard as error:
                told.append(key if f"x.tar: sample {key!r}" in str(error) else str(error))
        assert told == damaged


def test_checksums_are_no_columns_of_a_user() -> None:
    from stoker.storage.statistics.summary import summarise

    _, table = packed(GOLDEN)
    table = table.append_column(MEMBERS_CRC32C, table[CRC32C])
    assert not set(CHECKSUMS) & set(summarise(table).columns)
    assert (
        CRC32C
        in summarise(
            table.set_column(0, "x", table["key"]).drop_columns([CRC32C]).append_column(CRC32C, pa.array([1, 2, 3, 4]))
        ).columns
    )
