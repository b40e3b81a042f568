"""The cache: mapped or fetched once, proven once, shared, bounded; a batch does not wait for a whole shard."""

import hashlib
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stoker.storage import open_store
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.manifest import Manifest, Shard
from stoker.storage.memory import MemoryStore
from stoker.storage.sample import Sample
from stoker.storage.store import Store
from stoker.training.cache import Cache, _mark
from stoker.training.samples import Samples
from stoker.training.stream import ShardStream
from tests.training import corpora

NUMBERS = tuple(Sample(f"n{number:03d}", {"bin": bytes([number]) * 50_000}, {"n": number}) for number in range(60))


class Slow(MemoryStore):
    """A store that gives an object piece by piece when it is allowed to, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Event()
        self.allowed.set()
        self.whole: list[str] = []
        self.parts: list[str] = []

    def pieces(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        self.whole.append(key)
        for piece in super().pieces(key, start=start):
            yield piece[: len(piece) // 2]
            assert self.allowed.wait(20)
            yield piece[len(piece) // 2 :]

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        if size is not None:
            self.parts.append(key)
        return super().read(key, start=start, size=size)


def put(store: Store, folder: Path) -> Manifest:
    folder.mkdir(exist_ok=True)
    return corpora.version(store, folder, {"train": NUMBERS}, per_shard=20)


def payloads(cache: Cache, shard: Shard) -> list[bytes]:
    rows = np.arange(shard.samples)
    samples = Samples(cache.groups([(shard, rows, rows)]), shard.samples)
    return [bytes(one) for one in samples.column("bin") if one is not None]


def of(manifest: Manifest, number: int) -> list[bytes]:
    return [sample.fields["bin"] for sample in NUMBERS[20 * number : 20 * number + 20]]


def test_a_file_on_this_machine_is_mapped_where_it_lies_and_proven_once(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = put(store, tmp_path)
    shard = manifest.shards[0]
    cache = Cache(store, tmp_path / "cache")
    assert payloads(cache, shard) == of(manifest, 0)
    cache.settle()
    assert not (tmp_path / "cache" / shard.sha256).exists()
    assert (tmp_path / "cache" / f"{shard.sha256}.proven").exists()
    path = store.path(shard.key)
    assert path is not None
    times = path.stat()
    altered = bytearray(path.read_bytes())
    altered[700] ^= 1
    path.write_bytes(altered)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    # Same file, size and time: it is taken as proven, and so nothing is hashed on a second run.
    payloads(Cache(store, tmp_path / "cache"), shard)
    path.touch()
    touched = Cache(store, tmp_path / "cache")
    with pytest.raises(CorruptShard, match=r"train-00000\.tar: sha256 .* but the manifest says"):
        payloads(touched, shard) and touched.settle()  # they may be given at once, and are proven behind that


def test_what_is_mapped_outlives_its_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = put(store, tmp_path)
    cache = Cache(store, tmp_path / "cache")
    cache.index(manifest.shards[1])
    payloads(cache, manifest.shards[0])
    for shard in manifest.shards:
        store.delete(shard.key)
    assert payloads(cache, manifest.shards[0]) == of(manifest, 0)
    with pytest.raises(NotFound, match=r"train-00001\.tar"):
        payloads(cache, manifest.shards[1])


def test_a_remote_shard_and_its_index_are_fetched_once_for_all_runs(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    assert payloads(Cache(store, tmp_path / "cache"), manifest.shards[0]) == of(manifest, 0)
    kept = tmp_path / "cache" / manifest.shards[0].sha256
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == manifest.shards[0].sha256
    for shard in manifest.shards:
        store.delete(shard.key)
        store.delete(shard.index)
    again = Cache(store, tmp_path / "cache")
    assert payloads(again, manifest.shards[0]) == of(manifest, 0)
    with pytest.raises(NotFound, match=r"train-00001"):
        payloads(again, manifest.shards[1])


def test_a_batch_does_not_wait_for_whole_shards_and_what_it_got_is_proven_later(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    store.allowed.clear()
    cache = Cache(store, tmp_path / "cache")
    cache._is_here = lambda one: one.view.done()  # type: ignore[method-assign]  # no patience, so that it is not timed
    cache.expect([manifest.shards[0]])
    until = time.monotonic() + 10
    while not cache._open[_mark(manifest.shards[0])].fetch.got and time.monotonic() < until:
        time.sleep(0.005)
    assert payloads(cache, manifest.shards[0]) == of(manifest, 0)  # though no shard is whole
    assert cache._counters.sums()["direct"] > 5
    assert store.parts.count(manifest.shards[0].key) < 20  # what had come was not asked for again
    store.allowed.set()
    cache.settle()
    assert (tmp_path / "cache" / manifest.shards[0].sha256).exists()


def test_damage_of_a_shard_is_told_even_if_its_samples_were_given_before_it_was_whole(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    for shard in manifest.shards:
        store.write(shard.key, store.read(shard.key)[:-1] + b"x")  # in no sample
    stream = ShardStream(store, manifest, batch_size=60, cache=tmp_path / "cache")
    stream._cache._is_here = lambda one: one.view.done()  # type: ignore[method-assign]  # as above
    with pytest.raises(CorruptShard, match=r"train-0000\d\.tar: sha256"):
        list(stream)
    assert not list((tmp_path / "cache").glob("[0-9a-f]" * 64))


@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_a_shard_of_another_size_is_told(tmp_path: Path, change: str) -> None:
    for store in (Slow(), open_store(str(tmp_path / "store"))):
        manifest = put(store, tmp_path)
        shard = manifest.shards[0]
        payload = store.read(shard.key)
        store.write(shard.key, payload[:-512] if change == "shorter" else payload + bytes(512))
        cache = Cache(store, tmp_path / "cache")
        with pytest.raises(CorruptShard, match=r"bytes.* manifest says"):
            payloads(cache, shard) and cache.settle()


def test_the_least_recently_used_go_when_it_is_full(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    cache = Cache(store, tmp_path / "cache", megabytes=2)  # each shard has one
    first, second, third = manifest.shards
    payloads(cache, first)
    payloads(cache, second)
    assert (tmp_path / "cache" / first.sha256).exists() is False
    payloads(cache, third)
    left = {path.name for path in (tmp_path / "cache").iterdir() if len(path.name) == 64}
    assert left == {third.sha256}
    assert payloads(cache, first) == of(manifest, 0)  # still mapped


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "coming-dead").write_bytes(b"half")
    first, second, _ = manifest.shards
    store.allowed.clear()
    living = Cache(store, folder)
    living.expect([first])
    until = time.monotonic() + 10
    while not (folder / f"coming-{first.sha256}").exists() and time.monotonic() < until:
        time.sleep(0.005)
    other = Cache(store, folder)
    other.expect([second])
    while not (folder / f"coming-{second.sha256}").exists() and time.monotonic() < until:
        time.sleep(0.005)
    assert (folder / f"coming-{first.sha256}").exists()
    store.allowed.set()
    assert payloads(living, first) == of(manifest, 0)
    assert payloads(other, second) == of(manifest, 1)
    assert not list(folder.glob("coming-*"))


def _fetch(folder: str, manifest: Manifest, start: float, answers: "multiprocessing.Queue[int]") -> None:
    store = open_store(str(Path(folder) / "remote"))
    # As if it were remote: no path, so it is fetched into the cache.
    object.__setattr__(store, "path", lambda key: None)
    time.sleep(max(0.0, start - time.time()))
    cache = Cache(store, Path(folder) / "cache")
    for number, shard in enumerate(manifest.shards):
        assert payloads(cache, shard) == of(manifest, number)
    answers.put(int(cache._counters.sums().get("fetched", 0)))


@pytest.mark.slow
def test_processes_of_a_machine_fetch_a_shard_once(tmp_path: Path) -> None:
    manifest = put(open_store(str(tmp_path / "remote")), tmp_path)
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[int] = context.Queue()
    start = time.time() + 4
    processes = [context.Process(target=_fetch, args=(str(tmp_path), manifest, start, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    fetched = sum(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)
    assert fetched == sum(shard.size for shard in manifest.shards)


def test_a_disk_that_is_full_or_not_ours_is_done_without(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    stream = ShardStream(store, manifest, batch_size=7, cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="held in memory instead"):
        found = [bytes(one) for batch in stream for one in batch.column("bin")]
    assert sorted(found) == sorted(sample.fields["bin"] for sample in NUMBERS)
    assert stream.counters.sums()["through"] == 3


_FULL = """
import resource, sys, warnings
from pathlib import Path
from tests.training.test_cache import NUMBERS, Slow, put
from stoker.training.stream import ShardStream
store, folder = Slow(), Path(sys.argv[1])
manifest = put(store, folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))  # a write beyond fails, in the middle of a shard
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    stream = ShardStream(store, manifest, batch_size=7, cache=folder / "cache")
    found = sorted(bytes(one) for batch in stream for one in batch.column("bin"))
assert found == sorted(sample.fields["bin"] for sample in NUMBERS)
assert any("held in memory" in str(one.message) for one in told)
assert not list((folder / "cache").glob("coming-*"))
print("all", len(found), int(stream.counters.sums()["through"]))
"""


def test_a_disk_that_fills_up_in_the_middle_of_a_shard_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False, cwd="."
    )
    assert done.stdout.split() == ["all", "60", "3"], done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 600_000


def test_a_shard_larger_than_the_cache_is_held_in_memory(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    cache = Cache(store, tmp_path / "cache", megabytes=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the user chose the bound
        assert payloads(cache, manifest.shards[0]) == of(manifest, 0)
    assert cache._counters.sums()["through"] == 1


def test_closing_ends_a_fetch_that_is_under_way(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    before = threading.active_count()
    cache = Cache(store, tmp_path / "cache")
    cache.expect(manifest.shards)
    cache.close()
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert not list((tmp_path / "cache").glob("coming-*"))
