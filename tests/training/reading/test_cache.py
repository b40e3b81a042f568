"""The cache: shards mapped or fetched once, verified once, shared, bounded; a batch waits for no whole shard."""

import errno
import fcntl
import hashlib
import json
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from stoker.storage import open_store
from stoker.storage.errors import CorruptShard, NotFound, StorageUnavailable
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Shard
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.reading import cache as cache_module
from stoker.training.reading import cache_files
from stoker.training.reading.cache import Cache, CacheOptions
from stoker.training.reading.fetching import key_of
from stoker.training.reading.samples import Samples
from stoker.training.reading.threads import ThreadPool
from stoker.training.stream.stream import ShardStream
from tests.conftest import HANGS_S
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

    def iter_bytes(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        self.whole.append(key)
        for piece in super().iter_bytes(key, start=start):
            yield piece[: len(piece) // 2]
            assert self.allowed.wait(HANGS_S)
            yield piece[len(piece) // 2 :]

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        if size is not None:
            self.parts.append(key)
        return super().read(key, start=start, size=size)


def put(store: Store, folder: Path, *, older: bool = False) -> Manifest:
    folder.mkdir(exist_ok=True)
    return corpora.version(store, folder, {"train": NUMBERS}, per_shard=20, older=older)


def payloads(cache: Cache, shard: Shard) -> list[bytes]:
    rows = np.arange(shard.samples)
    samples = Samples(cache.slices([(shard, rows, rows)]), shard.samples)
    return [bytes(payload) for payload in samples.column("bin") if payload is not None]


def verified(cache: Cache, shard: Shard) -> list[bytes]:
    found = payloads(cache, shard)
    cache.wait_verified()
    return found


def of(manifest: Manifest, number: int) -> list[bytes]:
    return [sample.fields["bin"] for sample in NUMBERS[20 * number : 20 * number + 20]]


def test_a_file_on_this_machine_is_mapped_where_it_is_and_verified_once(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = put(store, tmp_path)
    shard = manifest.shards[0]
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    assert payloads(cache, shard) == of(manifest, 0)
    cache.wait_verified()
    assert not (tmp_path / "cache" / shard.sha256).exists()
    assert (tmp_path / "cache" / f"{shard.sha256}.proven").exists()
    path = store.path(shard.key)
    assert path is not None
    times = path.stat()
    altered = bytearray(path.read_bytes())
    altered[700] ^= 1
    path.write_bytes(altered)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    # Same file, size and time: it is taken as verified, and so nothing is hashed on a second run.
    verified(Cache(store, CacheOptions(folder=tmp_path / "cache")), shard)
    path.touch()
    touched = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    with pytest.raises(
        CorruptShard, match=r"train-00000\.tar: (sha256 .* but the manifest says|sample 'n000': CRC-32C)"
    ):
        verified(touched, shard)  # they may be read at once, and are verified after that


def test_what_is_mapped_outlives_its_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = put(store, tmp_path)
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
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
    assert verified(Cache(store, CacheOptions(folder=tmp_path / "cache")), manifest.shards[0]) == of(manifest, 0)
    kept = tmp_path / "cache" / manifest.shards[0].sha256
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == manifest.shards[0].sha256
    for shard in manifest.shards:
        store.delete(shard.key)
        store.delete(shard.index)
    again = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    assert payloads(again, manifest.shards[0]) == of(manifest, 0)
    with pytest.raises(NotFound, match=r"train-00001"):
        payloads(again, manifest.shards[1])


def test_a_batch_does_not_wait_for_whole_shards_and_what_it_got_is_verified_later(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    store.allowed.clear()
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    cache._wait_if_soon = lambda needed, samples: None  # type: ignore[method-assign]  # no patience, so that it is not timed
    cache.prefetch([manifest.shards[0]])
    until = time.monotonic() + 60
    while not cache._open[key_of(manifest.shards[0])].bytes_available and time.monotonic() < until:
        time.sleep(0.005)
    assert payloads(cache, manifest.shards[0]) == of(manifest, 0)  # though no shard is whole
    assert cache._counters.sums()["direct"] > 5
    assert store.parts.count(manifest.shards[0].key) < 20  # what had come was not asked for again
    store.allowed.set()
    cache.wait_verified()
    assert (tmp_path / "cache" / manifest.shards[0].sha256).exists()


def test_a_first_batch_waits_for_the_beginnings_of_shards_and_their_rest_for_the_batch(tmp_path: Path) -> None:
    store = Slow()
    many = [Sample(f"n{number:05d}", {"bin": bytes([number % 251]) * 20_000}) for number in range(1000)]
    tmp_path.mkdir(exist_ok=True)
    manifest = corpora.version(store, tmp_path, {"train": many}, per_shard=500)
    tars = sorted(shard.key for shard in manifest.shards)
    store.allowed.clear()  # nothing but what was asked for as a part comes whole
    stream = ShardStream(store, manifest, batch_size=64, cache=tmp_path / "cache")
    started = time.monotonic()
    batch = stream.batch(0, 0)
    assert time.monotonic() - started < HANGS_S / 2
    assert sorted(store.parts) == tars  # one request a shard, of its beginning
    assert all(
        bytes(payload or b"")[:1] == bytes([int(key[1:]) % 251])
        for key, payload in zip(batch.keys, batch.column("bin"), strict=True)
    )
    store.allowed.set()
    stream.wait_verified()
    assert sorted(store.whole) == tars
    stream.close()


def test_damage_of_a_shard_is_told_even_if_its_samples_were_given_before_it_was_whole(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path, older=True)
    for shard in manifest.shards:
        store.write(shard.key, store.read(shard.key)[:-1] + b"x")  # in no sample
    stream = ShardStream(store, manifest, batch_size=60, cache=tmp_path / "cache")
    stream._cache._wait_if_soon = lambda needed, samples: None  # type: ignore[method-assign]  # as above
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
        cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
        with pytest.raises(CorruptShard, match=r"bytes.* manifest says"):
            verified(cache, shard)


def test_the_least_recently_used_go_when_it_is_full(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache", megabytes=2))  # each shard has one
    first, second, third = manifest.shards
    verified(cache, first)
    verified(cache, second)
    assert (tmp_path / "cache" / first.sha256).exists() is False
    verified(cache, third)
    left = {path.name for path in (tmp_path / "cache").iterdir() if len(path.name) == 64}
    assert left == {third.sha256}
    assert payloads(cache, first) == of(manifest, 0)  # still mapped


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    folder = tmp_path / "cache"
    folder.mkdir()
    dead = folder / f"coming-{'d' * 64}-1000"
    dead.write_bytes(b"half")
    first, second, _ = manifest.shards
    store.allowed.clear()
    living = Cache(store, CacheOptions(folder=folder))
    living.prefetch([first])
    until = time.monotonic() + 60
    while not (folder / f"coming-{first.sha256}-{first.size}").exists() and time.monotonic() < until:
        time.sleep(0.005)
    other = Cache(store, CacheOptions(folder=folder))
    other.prefetch([second])
    while not (folder / f"coming-{second.sha256}-{second.size}").exists() and time.monotonic() < until:
        time.sleep(0.005)
    assert (folder / f"coming-{first.sha256}-{first.size}").exists()
    assert not dead.exists()
    store.allowed.set()
    assert payloads(living, first) == of(manifest, 0)
    assert payloads(other, second) == of(manifest, 1)
    # What is read is whole; its name may follow a moment later.
    while list(folder.glob("coming-*")) and time.monotonic() < until:
        time.sleep(0.005)
    assert not list(folder.glob("coming-*"))


def _fetch(folder: str, manifest: Manifest, start: float, answers: "multiprocessing.Queue[int]") -> None:
    store = open_store(str(Path(folder) / "remote"))
    # As if it were remote: no path, so it is fetched into the cache.
    object.__setattr__(store, "path", lambda key: None)
    time.sleep(max(0.0, start - time.time()))
    cache = Cache(store, CacheOptions(folder=Path(folder) / "cache"))
    for number, shard in enumerate(manifest.shards):
        assert verified(cache, shard) == of(manifest, number)
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
    for process in processes:
        process.join(HANGS_S)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    fetched = sum(answers.get(timeout=60) for _ in processes)
    assert fetched == sum(shard.size for shard in manifest.shards)


def test_a_disk_that_is_full_or_not_ours_is_done_without(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    stream = ShardStream(store, manifest, batch_size=7, cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="held in memory instead"):
        found = [bytes(payload) for batch in stream for payload in batch.column("bin")]
    assert sorted(found) == sorted(sample.fields["bin"] for sample in NUMBERS)
    assert stream.counters.sums()["through"] == 3


_FULL = """
import resource, sys, warnings
from pathlib import Path
from tests.training.reading.test_cache import NUMBERS, Slow, put
from stoker.training import ShardStream
store, folder = Slow(), Path(sys.argv[1])
manifest = put(store, folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))  # a write beyond fails, in the middle of a shard
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    stream = ShardStream(store, manifest, batch_size=7, cache=folder / "cache")
    found = sorted(bytes(payload) for batch in stream for payload in batch.column("bin"))
assert found == sorted(sample.fields["bin"] for sample in NUMBERS)
assert any("held in memory" in str(warning.message) for warning in caught)
assert not list((folder / "cache").glob("coming-*"))
print("all", len(found), int(stream.counters.sums()["through"]))
"""


def test_a_disk_that_fills_up_in_the_middle_of_a_shard_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
        cwd=".",
    )
    assert done.stdout.split() == ["all", "60", "3"], done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 600_000


def test_a_shard_larger_than_the_cache_is_held_in_memory(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache", megabytes=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the user chose the bound
        assert payloads(cache, manifest.shards[0]) == of(manifest, 0)
    assert cache._counters.sums()["through"] == 1


def test_closing_ends_a_fetch_that_is_under_way(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    before = threading.active_count()
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    cache.prefetch(manifest.shards)
    cache.close()
    until = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert not list((tmp_path / "cache").glob("coming-*"))


def test_what_is_wanted_later_waits_until_threads_are_free_for_it(tmp_path: Path) -> None:
    store = Slow()
    first, second, *later = corpora.version(store, tmp_path, {"train": NUMBERS}, per_shard=6).shards
    store.allowed.clear()
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache", open_shards=len(later) + 2))
    cache.prefetch([first, second])
    until = time.monotonic() + 60
    while len(store.whole) < 2 and time.monotonic() < until:
        time.sleep(0.005)
    cache.read_ahead(later)
    assert len(cache._open) == 2
    store.allowed.set()
    while len(cache._open) < len(later) + 2 and time.monotonic() < until:
        time.sleep(0.005)
    cache.read_ahead([])
    assert all(cache._open[key_of(shard)].verified.result(60) for shard in later)
    cache.close()


def test_a_batch_waits_longer_for_shards_once_others_were_read_whole(tmp_path: Path) -> None:
    store = Slow()
    first, second, _ = put(store, tmp_path).shards
    store.allowed.clear()
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    soon: list[float] = []

    def never(needed: object, soon_s: float = 0) -> float:
        soon.append(soon_s)
        return math.inf

    cache._rate.seconds_left = never  # type: ignore[method-assign]  # so that no time is measured
    payloads(cache, first)
    store.allowed.set()
    cache.wait_verified()
    payloads(cache, first)
    store.allowed.clear()
    payloads(cache, second)
    assert soon[1] > 2 * soon[0]
    store.allowed.set()
    cache.close()


class Cut(Slow):
    """A store that breaks off each whole read as long as it is told to, and gives single samples."""

    broken = True

    def iter_bytes(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        for piece in super().iter_bytes(key, start=start):
            yield piece
            if self.broken:
                raise StorageUnavailable(f"{key}: cut; try again")


def damaged(store: Store, shard: Shard) -> bytes:
    """Alter a byte in each sample of a shard; returns the bytes as they were."""
    before = store.read(shard.key)
    altered = bytearray(before)
    for start in range(1024, len(altered), 25_000):
        altered[start] ^= 1
    store.write(shard.key, bytes(altered))
    return before


def impatient(stream: ShardStream) -> ShardStream:
    """Read samples alone, and not timed."""
    stream._cache._wait_if_soon = lambda needed, samples: None  # type: ignore[method-assign]  # as it says
    return stream


def test_early_reads_are_verified_even_if_its_fetch_broke_off_and_the_next_one_brings_other_bytes(
    tmp_path: Path,
) -> None:
    store = Cut()
    manifest = put(store, tmp_path, older=True)
    before = damaged(store, manifest.shards[0])
    stream = impatient(ShardStream(store, manifest, batch_size=10, window=1, shuffle=False, cache=tmp_path / "cache"))
    batches = iter(stream)
    early = next(batches)
    assert [bytes(payload) for payload in early.column("bin")] != of(manifest, 0)[:10]
    with pytest.raises(StorageUnavailable, match="cut"):
        stream.wait_verified()
    store.broken = False
    store.write(manifest.shards[0].key, before)
    with pytest.raises(CorruptShard, match=r"train-00000\.tar: bytes .* were other ones when they were read first"):
        stream.wait_verified()
    stream.wait_verified()  # it was told


def test_damage_that_is_known_is_told_when_a_loop_was_left_and_the_stream_is_closed(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path, older=True)
    damaged(store, manifest.shards[0])
    store.allowed.clear()
    stream = impatient(ShardStream(store, manifest, batch_size=5, window=1, shuffle=False, cache=tmp_path / "cache"))
    for _ in stream:
        break
    store.allowed.set()
    stream._cache._open[key_of(manifest.shards[0])].verified.exception(10)
    with pytest.raises(CorruptShard, match=r"train-00000\.tar: sha256"):
        stream.close()
    stream.close()


@pytest.mark.parametrize("local", [False, True])
def test_with_skip_a_damaged_shard_is_left_out_whole_and_the_others_are_not(tmp_path: Path, local: bool) -> None:
    store = open_store(str(tmp_path / "store")) if local else Slow()
    manifest = put(store, tmp_path)
    damaged(store, manifest.shards[1])
    stream = ShardStream(
        store, manifest, batch_size=7, cache=tmp_path / "cache", on_corrupt="skip", skip_budget=40, collate=list
    )
    expected = sorted(of(manifest, 0) + of(manifest, 2))
    for epoch in range(2):
        assert sorted(sample.fields["bin"] for batch in stream for sample in batch) == expected
        assert (epoch, stream.counters.sums()["skipped"]) == (epoch, 20), "of each epoch the same ones"
    if isinstance(store, Slow):
        twice = manifest.shards[1].key  # what differs may have been altered on the way
        assert sorted(store.whole) == sorted([twice, *(shard.key for shard in manifest.shards)])
    state = stream.state_dict()
    assert json.loads(json.dumps(state)) == state
    stream.close()
    strict = ShardStream(
        store, manifest, batch_size=7, cache=tmp_path / "cache", on_corrupt="skip", skip_budget=19, collate=list
    )
    with pytest.raises(TrainingError, match="20 samples skipped, more than the budget of 19"):
        list(strict)
    strict.close()
    again = ShardStream(store, manifest, batch_size=7, cache=tmp_path / "cache", on_corrupt="skip", skip_budget=20)
    again.load_state_dict(state)
    assert len(again.skipped) == 20
    assert sum(len(batch) for batch in again) == 40
    assert again.counters.sums().get("skipped", 0) == 0, "the state knew them"
    again.close()


def test_shards_that_are_here_are_not_read_from_the_store(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    assert sum(len(batch) for batch in ShardStream(store, manifest, cache=tmp_path / "cache")) == 60
    for shard in manifest.shards:
        damaged(store, shard)
    store.parts.clear()
    stream = impatient(ShardStream(store, manifest, cache=tmp_path / "cache"))
    found = sorted(bytes(payload) for batch in stream for payload in batch.column("bin"))
    assert found == sorted(sample.fields["bin"] for sample in NUMBERS)
    assert not store.parts
    assert stream.counters.sums()["hits"] == 3


@pytest.mark.parametrize("how", ["altered", "another start of the machine"])
def test_cached_files_are_verified_again_where_they_may_have_changed(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    shard = manifest.shards[0]
    verified(Cache(store, CacheOptions(folder=tmp_path / "cache")), shard)
    kept = tmp_path / "cache" / shard.sha256
    if how == "altered":
        kept.write_bytes(bytes(shard.size))
    else:  # what had not reached the disk is lost, and the times of the file are as they were
        monkeypatch.setattr(cache_files, "boot_id", lambda: "another")
        times = kept.stat()
        kept.write_bytes(bytes(shard.size))
        os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns))
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    with pytest.warns(UserWarning, match="is not what was written there; fetched again"):
        assert verified(cache, shard) == of(manifest, 0)
    assert cache._counters.sums()["misses"] == 1
    again = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    assert payloads(again, shard) == of(manifest, 0)
    assert again._counters.sums()["hits"] == 1


def test_files_of_others_in_the_folder_are_not_touched(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    folder = tmp_path / "cache"
    (folder / "coming-soon").mkdir(parents=True)
    (folder / "thesis.tex").write_bytes(bytes(3_000_000))
    (folder / "coming-home.txt").write_bytes(b"mine")
    cache = Cache(store, CacheOptions(folder=folder, megabytes=2))
    for number, shard in enumerate(manifest.shards):
        assert verified(cache, shard) == of(manifest, number)
    there = {path.name for path in folder.iterdir()}
    assert {"coming-soon", "thesis.tex", "coming-home.txt"} <= there
    assert len([name for name in there if len(name) == 64]) == 1


def test_what_is_on_its_way_counts_among_what_the_folder_may_hold(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    store.allowed.clear()
    cache = Cache(
        store, CacheOptions(folder=tmp_path / "cache", megabytes=2)
    )  # each shard has one, and three are fetched at once
    cache.prefetch(manifest.shards)
    until = time.monotonic() + 60
    while len(store.whole) < 3 and time.monotonic() < until:
        time.sleep(0.005)
    coming = list((tmp_path / "cache").glob("coming-*"))
    assert len(coming) == 1
    store.allowed.set()
    for number, shard in enumerate(manifest.shards):
        assert payloads(cache, shard) == of(manifest, number)
    cache.wait_verified()
    assert cache._counters.sums()["through"] == 2


def test_damage_of_a_shard_that_is_held_in_memory_is_told_while_its_samples_are_held(tmp_path: Path) -> None:
    store = Slow()
    manifest = put(store, tmp_path, older=True)
    damaged(store, manifest.shards[0])
    store.allowed.clear()
    stream = impatient(ShardStream(store, manifest, batch_size=2, window=1, shuffle=False, cache_megabytes=0))
    held = [stream.batch(0, 0)]
    until = time.monotonic() + 60
    while not stream._cache._open[key_of(manifest.shards[0])].bytes_available and time.monotonic() < until:
        time.sleep(0.005)
    held.append(stream.batch(0, 2))  # views of what has come
    store.allowed.set()
    with pytest.raises(CorruptShard, match=r"train-00000\.tar: sha256"):
        stream.wait_verified()
    assert len(held) == 2


def test_a_file_system_without_locks_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    store = Slow()
    manifest = put(store, tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse)
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    open_before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with pytest.warns(UserWarning, match="Operation not supported; shards are held in memory instead"):
        assert verified(cache, manifest.shards[0]) == of(manifest, 0)
    if open_before:
        assert len(os.listdir("/proc/self/fd")) <= open_before


def test_a_default_folder_that_another_user_made_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Slow()
    manifest = put(store, tmp_path)
    monkeypatch.setattr(cache_files, "default_folder", lambda: tmp_path / "cache")
    payloads(Cache(store, CacheOptions(folder=tmp_path / "cache")), manifest.shards[0])
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache"))
    with pytest.warns(UserWarning, match="belongs to another user; shards are held in memory"):
        assert verified(cache, manifest.shards[0]) == of(manifest, 0)
    assert cache._counters.sums()["through"] == 1


def test_a_stream_works_in_a_process_that_was_forked_while_threads_read(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = put(store, tmp_path)
    stream = ShardStream(store, manifest, batch_size=7, cache=tmp_path / "cache")
    next(iter(Loader(stream, workers=2)))
    child = os.fork()
    if not child:
        with warnings.catch_warnings():
            signal.alarm(30)  # a hang would be the failure
            found = sum(len(stream.batch(0, start)) for start in range(0, 60, 7))
            os._exit(0 if found == 60 else 1)
    assert os.waitpid(child, 0)[1] == 0
    stream.close()


def test_what_is_asked_of_threads_that_have_ended_is_cancelled() -> None:
    threads = ThreadPool(2, "test")
    assert threads.submit(lambda: 3).result(10) == 3
    threads.close()
    with pytest.raises(CancelledError):
        threads.submit(lambda: 3).result(10)


@pytest.mark.parametrize("on_corrupt", ["stop", "skip"])
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_mapped_tar_that_is_truncated_is_an_error_that_names_it(tmp_path: Path, on_corrupt: str, size: int) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = corpora.version(store, tmp_path, {"train": NUMBERS}, per_shard=20)
    stream = ShardStream(store, manifest, batch_size=10, cache=tmp_path / "cache", on_corrupt=on_corrupt, window=1)  # type: ignore[arg-type]  # one of the two
    batches = iter(stream)
    first = next(batches)
    assert all(len(bytes(payload or b"")) == 50_000 for payload in first.column("bin"))
    (url,) = set(first.shards)
    stream.wait_verified()
    with open(url.removeprefix("file://"), "r+b") as tar:
        tar.truncate(tar.seek(0, os.SEEK_END) - size)

    def use(batches: Iterator[Samples]) -> int:
        return sum(len(bytes(payload or b"")) for batch in batches for payload in batch.column("bin"))

    with pytest.raises(CorruptShard, match=rf"{url}: was truncated while it was read, and batches since then may hold"):
        use(batches)
    if on_corrupt == "skip":  # from then on the shard is left out, like any other that is corrupt
        use(iter(stream))
        assert use(iter(stream)) == 40 * 50_000
    else:
        with pytest.raises(CorruptShard, match="bytes, but the manifest says"):
            sum(use(iter(stream)) for _ in range(2))
    stream.close()


class Altering(MemoryStore):
    """A store whose reads are altered, or cut off, on the way: the next ones of those keys that are planned."""

    def __init__(self) -> None:
        super().__init__()
        self.planned: dict[str, list[str]] = {}

    def _alter(self, key: str, payload: bytes) -> bytes:
        how = self.planned.get(key)
        if not how or not payload:
            return payload
        if how.pop() == "cut":
            return payload[: len(payload) // 2]
        return payload[:-1] + bytes([payload[-1] ^ 1])

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        return self._alter(key, super().read(key, start=start, size=size))

    def iter_bytes(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        yield self._alter(key, b"".join(super().iter_bytes(key, start=start)))


@pytest.mark.parametrize("how", ["flip", "cut"])
@pytest.mark.parametrize("megabytes", [100, 0])
def test_what_was_altered_on_the_way_is_fetched_once_more(tmp_path: Path, how: str, megabytes: int) -> None:
    store = Altering()
    manifest = corpora.version(store, tmp_path, {"train": NUMBERS}, per_shard=20)
    stream = ShardStream(
        store, manifest, batch_size=10, cache=tmp_path / "cache", on_corrupt="skip", cache_megabytes=megabytes
    )
    store.planned = {key: [how] for shard in manifest.shards for key in (shard.key, shard.index)}
    assert sorted(key for batch in stream for key in batch.keys) == [sample.key for sample in NUMBERS]
    assert not any(store.planned.values())
    assert stream.counters.sums().get("skipped", 0) == 0
    stream.close()
    store.planned = {shard.key: [how] * 2 for shard in manifest.shards}
    again = ShardStream(
        store, manifest, cache=tmp_path / "another", cache_megabytes=megabytes, on_corrupt="skip", skip_budget=60
    )
    assert [len(batch) for batch in again] == [0], "twice is corrupt"
    assert again.counters.sums()["skipped"] == 60
    again.close()


def test_indexes_in_memory_are_bounded_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": NUMBERS}, per_shard=5)
    cache = Cache(store, CacheOptions(folder=tmp_path / "cache", open_shards=2))
    size = cache.index(manifest.shards[0]).nbytes
    assert size > 5 * 8 * 4
    monkeypatch.setattr(cache_module, "_INDEX_BYTES", 4 * size)
    for _ in range(2):
        for index in cache.indexes(manifest.shards):
            assert len(index) == 5
    cache.index(manifest.shards[-1])
    assert len(cache._indexes) <= 5
    assert cache._index_bytes == sum(index.result().nbytes for index in cache._indexes.values()) <= 5 * size
    monkeypatch.setattr(cache_module, "_INDEX_BYTES", 0)
    cache.indexes(manifest.shards)
    assert 2 <= len(cache._indexes) <= 3, "those of open shards stay"
    cache.close()
