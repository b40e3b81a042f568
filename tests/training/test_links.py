"""A sample whose members lie far apart in a tar, because some are links, is read without what lies between them."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from stoker.storage.indexed.scan import scan
from stoker.storage.shards import records
from stoker.storage.shards.index import MAX_GAP, ShardIndex
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import StoredObject
from stoker.storage.versions.manifest import Shard
from stoker.training.reading.cache import Cache, CacheOptions
from stoker.training.reading.samples import Samples
from tests.storage.external_tars import tar
from tests.training.reading.test_cache import Slow

BETWEEN = 3 * 2**20  # bytes between links and their targets
KINDS = (tarfile.LNKTYPE, tarfile.SYMTYPE)


class Metered(Slow):
    """Counts the bytes that are read as ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_read = 0

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        payload = super().read(key, start=start, size=size)
        self.bytes_read += len(payload) if size is not None else 0
        return payload


def member(name: str, payload: bytes = b"", *, target: str = "", kind: bytes = tarfile.REGTYPE) -> bytes:
    whole = tar([(name, payload)], tarfile.GNU_FORMAT, type=kind, linkname=target)
    return whole[: 512 + len(payload) + -len(payload) % 512]


def linked(links: int, kind: bytes) -> bytes:
    """Samples of which each has a text of its own, and as picture the first and as mask the last member of the tar."""
    parts = [member("a.jpg", b"first" * 100), member("filler.bin", b"\0" * BETWEEN)]
    for number in range(links):
        parts.append(member(f"s{number}.txt", b"%d" % number))
        parts.append(member(f"s{number}.jpg", target="a.jpg", kind=kind))
        parts.append(member(f"s{number}.mask", target="z.mask", kind=kind))
    parts += [member("other.bin", b"\0" * BETWEEN), member("z.mask", b"last" * 200), bytes(1024)]
    return b"".join(parts)


def put(store: MemoryStore, payload: bytes) -> tuple[Shard, ShardIndex]:
    store.write("x.tar", payload)
    scanned = scan(store, StoredObject("x.tar", len(payload)))
    assert scanned is not None
    index = records.encode(scanned.index)
    store.write("x.parquet", index)
    sha256 = records.sha256(index)
    shard = Shard(
        "x.tar", "train", scanned.index.num_rows, len(payload), scanned.sha256, "x.parquet", len(index), sha256, ""
    )
    return shard, ShardIndex.decode(index, "x", size=len(payload))


@pytest.mark.parametrize("kind", KINDS)
def test_a_linked_sample_is_read_member_by_member_while_its_tar_is_downloaded(tmp_path: Path, kind: bytes) -> None:
    store = Metered()
    shard, index = put(store, linked(20, kind))
    store.allowed.clear()  # the half of the tar is all that comes
    store.bytes_read = 0
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    rows = np.array([row for row, key in enumerate(index.keys.to_pylist()) if key[0] == "s"])
    try:
        samples = Samples(cache.slices([(shard, rows, np.arange(len(rows)))]), len(rows))
        assert [bytes(text or b"") for text in samples.column("txt")] == [b"%d" % number for number in range(20)]
        assert {bytes(picture or b"") for picture in samples.column("jpg")} == {b"first" * 100}
        assert [sample.fields["mask"] for sample in samples] == [b"last" * 200] * 20
        assert samples.column("nothing") == [None] * 20
        assert store.bytes_read < 20 * MAX_GAP < BETWEEN
        assert samples.size < 20 * 8 * 512, "what lies between is none of theirs"
    finally:
        store.allowed.set()
        cache.wait_verified()
        cache.close()


def test_ranges_are_the_members_and_what_is_near_them() -> None:
    store = MemoryStore()
    _, index = put(store, linked(1, tarfile.LNKTYPE))
    row = index.keys.to_pylist().index("s0")
    assert [stop - start for start, stop in index.ranges(row)] == [500, 1, 800]
    plain, near = put(store, member("a.jpg", b"1" * 700) + member("a.txt", b"2") + bytes(1024))
    assert near.ranges(0) == [(0, 2560)]
    assert plain.size == 2560 + 1024


def test_a_row_of_links_to_one_huge_member_reads_it_once(tmp_path: Path) -> None:
    """A tar may say that a sample has the same bytes in each of its fields."""
    store = Metered()
    parts = [member("big.bin", b"\1" * BETWEEN), member("filler.bin", b"\0" * BETWEEN)]
    parts += [member(f"s.f{number}", target="big.bin", kind=tarfile.LNKTYPE) for number in range(50)]
    shard, index = put(store, b"".join(parts) + bytes(1024))
    row, store.bytes_read = index.keys.to_pylist().index("s"), 0
    assert index.ranges(row) == [(512, 512 + BETWEEN)]
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    samples = Samples(cache.slices([(shard, np.array([row]), np.arange(1))]), 1)
    assert {len(payload or b"") for number in range(50) for payload in samples.column(f"f{number}")} == {BETWEEN}
    cache.wait_verified()
    assert store.bytes_read <= BETWEEN
    cache.close()


def test_an_index_of_the_members_of_others_is_not_taken_for_links() -> None:
    store = MemoryStore()
    _, index = put(store, linked(3, tarfile.SYMTYPE))
    assert index.scattered.tolist() == [key[0] == "s" for key in index.keys.to_pylist()]
    assert int(index.lengths[index.scattered].sum()) < BETWEEN


def test_members_that_are_empty_or_missing_lie_nowhere() -> None:
    store = MemoryStore()
    parts = [
        member("a.jpg"),
        member("filler.bin", b"\0" * BETWEEN),
        member("b.jpg", target="a.jpg", kind=tarfile.LNKTYPE),
    ]
    parts += [member("b.txt", b"2"), member("c.jpg", target="a.jpg", kind=tarfile.LNKTYPE), bytes(1024)]
    _, index = put(store, b"".join(parts))
    rows = dict(zip(index.keys.to_pylist(), range(len(index)), strict=True))
    assert [len(index.ranges(rows[key])) for key in ("a", "b", "c")] == [1, 1, 0]
    assert index.lengths[[rows["b"], rows["c"]]].tolist() == [1, 0]
    nothing = ShardIndex(
        index.keys[:0], index.starts[:0], index.stops[:0], (), index.offsets[:0, :0], index.sizes[:0, :0]
    )
    assert (nothing.lengths.tolist(), nothing.scattered.tolist()) == ([], [])
