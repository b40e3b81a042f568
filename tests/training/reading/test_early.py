"""Samples that are read before their shard is verified are compared with their own checksums."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.urls import open_store
from stoker.training.stream.stream import ShardStream
from tests.training.reading.test_cache import Slow, damaged, impatient, of, put


class Altered(Slow):
    """Alters a byte of the next ranges that are read."""

    left = 0

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        payload = super().read(key, start=start, size=size)
        if size is None or not self.left or not key.endswith(".tar"):
            return payload
        self.left -= 1
        return payload[:700] + b"?" + payload[701:]


@pytest.fixture
def store() -> Iterator[Altered]:
    store = Altered()
    yield store
    store.allowed.set()


def stream_of(store: Slow, folder: Path) -> ShardStream:
    manifest = put(store, folder)
    store.allowed.clear()
    return impatient(ShardStream(store, manifest, batch_size=10, window=1, shuffle=False, cache=folder / "cache"))


def test_nothing_of_it_is_hashed_again_later(store: Altered, tmp_path: Path) -> None:
    stream = stream_of(store, tmp_path)
    batch = next(iter(stream))
    assert [bytes(payload or b"") for payload in batch.column("bin")] == of(stream.manifest, 0)[:10]
    ((_, served),) = stream._cache._unverified._reads.values()
    assert [(start, stop) for start, stop, _ in served] == [(0, 0)]
    store.allowed.set()
    stream.wait_verified()
    stream.close()


def test_a_damaged_sample_is_told_before_a_batch_has_it(store: Altered, tmp_path: Path) -> None:
    stream = stream_of(store, tmp_path)
    damaged(store, stream.manifest.shards[0])
    with pytest.raises(
        CorruptShard, match=r"^memory:.*train-00000\.tar: sample 'n000': CRC-32C .*stoker verify --repair"
    ):
        next(iter(stream))
    store.allowed.set()
    stream.close()


def test_what_is_altered_on_the_way_is_read_once_more(store: Altered, tmp_path: Path) -> None:
    stream = stream_of(store, tmp_path)
    store.left = 1
    batch = next(iter(stream))
    assert store.left == 0
    assert [bytes(payload or b"") for payload in batch.column("bin")] == of(stream.manifest, 0)[:10]
    store.allowed.set()
    stream.close()


def test_a_damaged_file_on_this_machine_is_told_by_its_sample_while_it_is_hashed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = put(store, tmp_path)
    damaged(store, manifest.shards[0])
    stream = ShardStream(store, manifest, batch_size=1, window=1, shuffle=False, cache=tmp_path / "cache")
    with pytest.raises(CorruptShard, match=r"train-00000\.tar: (sample 'n000': CRC-32C|sha256)"):
        next(iter(stream))
    stream.close()
