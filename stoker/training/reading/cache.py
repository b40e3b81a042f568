"""Shards on this machine: a content-addressed LRU disk cache, shared by processes, read before it is verified.

A tar that is a file here already is mapped where it is. Others are downloaded whole into the cache folder (see
``cache_files``, which also removes the least recently used), once for all processes. Each shard is one ShardFetch with
one state (see ``fetching``):

    FETCHING ──> COMPLETE ──> VERIFIED | CORRUPT        FAILED: fetched again at the next use

A batch that needs a shard which is not VERIFIED does not wait for it, unless that takes no longer than reading the
batch's samples alone, or, for all but the first batches, three times as long: it reads the bytes that have arrived, and
the others as ranges from the store (see ``early``). Each sample is compared with its checksum then; where the index is
an older release's, which has none, UnverifiedReads compares these bytes when the shard is verified. Price: ranges are
downloaded twice, and damage of a shard with such an index may be reported a batch late.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, get_ident
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards import records
from stoker.storage.shards.index import Int64Array, ShardIndex
from stoker.storage.shards.row_checksum import REMEDY
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions.manifest import Shard
from stoker.storage.versions.memory.taken_out import TakenOut
from stoker.training.reading.cache_files import CacheFiles, default_folder
from stoker.training.reading.counters import Counters
from stoker.training.reading.early import EarlyReader
from stoker.training.reading.fetching import FetchKey, FetchState, ShardFetch, key_of
from stoker.training.reading.first_pieces import FirstPieces
from stoker.training.reading.partial import index_bytes, is_whole, masks_of, rows_of
from stoker.training.reading.purged import PurgedMeanwhile, PurgedShards
from stoker.training.reading.samples import ShardSlice
from stoker.training.reading.threads import ThreadPool, register_fork_reset
from stoker.training.reading.transfer_rate import TransferRate
from stoker.training.reading.unverified import UnverifiedReads

_log = logging.getLogger(__name__)

MEGABYTES = 4096  # of a cache, unless another bound is set
_SHARD_THREADS = 8  # shards that are fetched at once: a window, whose beginnings are read first
_RANGE_THREADS = 16  # ranges and indexes that are read at once
_RANGE_READ_LATENCY_S = 0.06  # that a read of one sample is taken to need
_MIN_WAIT_S = 0.2  # a batch waits so long for whole shards anyway; longer only if range reads would take longer
_STEADY_PATIENCE = 3  # times as long a batch waits once others were read from whole shards
_ESTIMATES, _ESTIMATE_INTERVAL_S = 3, 0.1
_POLL_S = 0.002  # between looks at what has arrived
_LOOK_INTERVAL_S = 0.1  # between two looks at whether files that are mapped have become shorter
_LONGEST_BEGINNING = 4 * 2**20  # bytes of a shard that are downloaded first for a batch
_MARGIN, _TAR_BLOCKS = 1.1, 20 * 512  # samples differ in size; headers
_INDEX_BYTES = 128 * 2**20  # of indexes that are kept in memory, besides those of open shards

_EPOCHS = 3  # that batches are made of at the same time, at most

BoolArray = npt.NDArray[np.bool_]
ShardRows = tuple[Shard, Int64Array, Int64Array]  # a shard, rows of it, and their slots: their indexes in the batch


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where shards are kept, and how many."""

    folder: Path | str | None = None  # None: one below the system's folder for temporary files
    megabytes: int = MEGABYTES  # of the folder; what exceeds them is removed, the least recently used first
    open_shards: int = 16  # mapped, or held in memory, by this process

    def files(self) -> CacheFiles:
        """The files of the folder; nothing is made yet."""
        return CacheFiles(Path(self.folder or default_folder()), self.megabytes * 10**6)


class Cache:
    """The shards of a store; ``tars``: the store of the tars, if they are not beside their indexes.

    Files that are removed from the folder stay on the disk as long as a process has them mapped. A shard that the disk
    has no room for is held in memory while it is open. Can be pickled; after a fork it starts again with threads, locks
    and open files of its own.
    """

    def __init__(
        self,
        store: Store,
        options: CacheOptions | None = None,
        *,
        counters: Counters | None = None,
        tars: Store | None = None,
    ) -> None:
        self._options = options or CacheOptions()
        self._counters = counters or Counters()
        self._store, self._tars = with_patience(store), with_patience(tars or store)
        self._files = self._options.files()
        self._start()
        register_fork_reset(self)

    def _start(self) -> None:
        self._lock = Lock()  # of the next three
        self._ahead: tuple[Shard, ...] = ()  # that are to be fetched once others are here
        self._open: dict[FetchKey, ShardFetch] = {}  # the least recently used first
        self._indexes: dict[FetchKey, Future[ShardIndex]] = {}  # the least recently used first
        self._index_sizes: dict[FetchKey, int] = {}  # bytes of those that were loaded
        self._index_bytes = 0
        self._masks = masks_of(self._store, self._files)
        self._taken_out: dict[int, TakenOut] = {}  # by epoch, the last few
        self._purged = PurgedShards(self._store, self._taken_out.clear)
        self._ready: dict[FetchKey, tuple[str, ShardIndex, memoryview]] = {}  # open and VERIFIED: URL, index, bytes
        self._steady = False  # whether samples were read from whole shards by now
        self._corrupt: dict[FetchKey, str] = {}  # of shards that are left out: the error's message
        self._lost: list[str] = []  # files of whose mapped bytes some were gone when they were read
        self._looked_at = 0.0
        self._told: tuple[CorruptShard, int] | None = None  # what a thread was told last, and which
        self._unverified = UnverifiedReads()
        self._rate = TransferRate()
        self._first_pieces = FirstPieces()
        self._shard_pool = ThreadPool(_SHARD_THREADS, "stoker-shards")
        self._range_pool = ThreadPool(_RANGE_THREADS, "stoker-ranges")
        # One thread: the first Parquet file that a thread decodes takes 1 to 10 ms longer, for memory of its own.
        self._decode_pool = ThreadPool(1, "stoker-indexes")
        self._stopped = Event()

    def reset_after_fork(self) -> None:
        """Start again: in a forked process threads, locks and open files are those of the parent."""
        for fetch in self._open.values():
            fetch.close_after_fork()
        self._start()

    def __reduce__(self) -> tuple[Any, ...]:  # Any: what pickle wants
        # Another process has connections and threads of its own.
        options = replace(self._options, folder=self._files.path)
        return _open_cache, (self._store, options, self._counters, self._tars)

    def slices(self, shard_rows: Sequence[ShardRows], *, verified: bool = False) -> list[ShardSlice]:
        """The samples of these rows, one slice a shard.

        ``verified``: wait until the shards are verified; a corrupt one is not fetched again. Raises CorruptShard, also
        of a shard whose samples were handed out before; PurgedMeanwhile; StorageError.
        """
        try:
            return self._slices([(self._purged.now(shard), rows, slots) for shard, rows, slots in shard_rows], verified)
        except NotFound as error:
            if self._purged.look(shard for shard, _, _ in shard_rows):
                raise PurgedMeanwhile(f"{error}; it was purged while it was read: read again") from error
            raise

    def _slices(self, shard_rows: Sequence[ShardRows], verified: bool) -> list[ShardSlice]:
        if not verified:  # else ``check_mapped`` is called by itself: what it raises is no reason to skip these rows
            self.check_mapped()
        with self._telling():
            self._unverified.check(self._fetch)
        ready = [self._ready.get(key_of(shard)) for shard, _, _ in shard_rows]
        if None not in ready:  # nearly always
            return [
                ShardSlice(entry[0], entry[1], rows, slots, (), entry[2], shard.sha256)
                for (shard, rows, slots), entry in zip(shard_rows, ready, strict=True)
                if entry is not None
            ]
        if verified:
            self.prefetch([shard for shard, _, _ in shard_rows])
            return [self._verified_slice(shard, rows, slots) for shard, rows, slots in shard_rows]
        return self._early_slices(shard_rows)

    def check_mapped(self, *, now: bool = False) -> None:
        """Raise CorruptShard if a file was truncated while its bytes were mapped; its shard is opened anew after that.

        ``now``: look at the files even if that was done a moment ago.
        """
        if not self._lost and not now and time.monotonic() - self._looked_at < _LOOK_INTERVAL_S:
            return
        self._looked_at = time.monotonic()
        with self._lock:
            shrunk = [fetch for fetch in self._open.values() if fetch.has_shrunk()]
            lost = list(self._lost)  # the handler may add to it at any time
            del self._lost[: len(lost)]
            names = {*lost, *(fetch.url for fetch in shrunk)}
            for fetch in [fetch for fetch in self._open.values() if not names.isdisjoint(fetch.names)]:
                self._open.pop(fetch.key)
                self._ready.pop(fetch.key, None)
        if names:
            with self._telling():
                raise CorruptShard(
                    f"{', '.join(sorted(names))}: was truncated while it was read, and batches since then may hold "
                    "zeros; restore it, and go back to a state from before"
                )

    def _early_slices(self, shard_rows: Sequence[ShardRows]) -> list[ShardSlice]:
        """Slices of shards of any state: bytes that have arrived, and the others read as ranges from the store."""
        with self._first_pieces.read() as let_go:
            loading = [self._index(shard) for shard, _, _ in shard_rows]
            beginnings = [_beginning(shard, rows) for shard, rows, _ in shard_rows]
            if not all(beginnings):
                wait(loading)  # small: before whole shards are asked for
            fetches = [
                self._fetch(shard, beginning) for (shard, _, _), beginning in zip(shard_rows, beginnings, strict=True)
            ]
            indexes = [index.result() for index in loading]
            stops = [int(index.stops[rows].max()) for (_, rows, _), index in zip(shard_rows, indexes, strict=True)]
            if any(stop > fetch.beginning for fetch, stop in zip(fetches, stops, strict=True)):
                let_go()
            self._wait_if_soon(dict(zip(fetches, stops, strict=True)), sum(len(rows) for _, rows, _ in shard_rows))
            return self._read_early(shard_rows, fetches, indexes)

    def _read_early(
        self, shard_rows: Sequence[ShardRows], fetches: Sequence[ShardFetch], indexes: Sequence[ShardIndex]
    ) -> list[ShardSlice]:
        reader = EarlyReader(self._tars, self._counters, self._range_pool, self._unverified)
        reads = [
            None if fetch.ended else reader.begin(shard, fetch, index, rows)
            for (shard, rows, _), fetch, index in zip(shard_rows, fetches, indexes, strict=True)
        ]
        return [
            self._slice(shard, index, self._view(fetch), rows, slots)
            if early is None
            else ShardSlice(self.url_of(shard), index, rows, slots, early.regions(), None, shard.sha256)
            for (shard, rows, slots), fetch, index, early in zip(shard_rows, fetches, indexes, reads, strict=True)
        ]

    def url_of(self, shard: Shard) -> str:
        """Where a shard is."""
        return f"{self._tars.url}/{shard.key}"

    def rows_of(self, shard: Shard) -> Int64Array:
        """The rows of its tar that a shard stands for, ascending. Raises CorruptShard, StorageError of its mask."""
        return rows_of(shard, self._masks)

    def index(self, shard: Shard) -> ShardIndex:
        """A shard's index alone. Raises CorruptShard, StorageError."""
        return self._purged.read(shard, lambda now: self._index(now).result())

    def indexes(self, shards: Iterable[Shard]) -> list[ShardIndex]:
        """The indexes of shards, read at the same time. Raises CorruptShard, StorageError."""
        shards = list(shards)
        for shard in shards:
            self._index(self._purged.now(shard))
        return [self.index(shard) for shard in shards]

    def withdrawn(self, shard: Shard, epoch: int) -> BoolArray | None:
        """Which of a shard's samples were taken out of its corpus when an epoch began here; None: none.

        Raises CorruptShard, StorageError.
        """
        return self._purged.read(shard, partial(self._withdrawn, epoch))

    def _withdrawn(self, epoch: int, shard: Shard) -> BoolArray | None:
        if epoch not in self._taken_out:
            self._index(shard)  # needed in any case: it is read while tombstones are looked for
        with self._lock:
            taken_out = self._taken_out.get(epoch)
            if taken_out is None:
                taken_out = self._taken_out[epoch] = TakenOut(self._store, self._index_table)
                while len(self._taken_out) > _EPOCHS:
                    self._taken_out.pop(next(iter(self._taken_out)))
        rows = taken_out.rows(shard)
        return rows if rows is None or is_whole(shard) else rows[self.rows_of(shard)]

    def _index_table(self, shard: Shard, columns: Sequence[str]) -> pa.Table:
        return records.decode(index_bytes(self._store, shard, self._files), columns=list(dict.fromkeys(columns)))

    def prefetch(self, shards: Sequence[Shard]) -> None:
        """Start fetching shards that are read next."""
        for shard in map(self._purged.now, shards):
            if shard.samples and key_of(shard) not in self._corrupt:
                self._index(shard)
                self._fetch(shard)

    def read_ahead(self, shards: Sequence[Shard], *, used: Iterable[Shard] = ()) -> None:
        """Start fetching shards that will be wanted later, once threads are free for all of them, or all but one.

        Else those that batches want next would wait for threads, or for their share of the connection. Only the last
        call counts. ``used``: those that batches are made of meanwhile. They stay open: when they were fetched says
        nothing, and one that was closed may be gone from the folder, too.
        """
        with self._lock:
            for key in map(key_of, map(self._purged.now, used)):
                if key in self._open:
                    self._open[key] = self._open.pop(key)
            self._ahead = tuple(shards)
        self._start_ahead()

    def _start_ahead(self) -> None:
        with self._lock:
            if self._rate.running > max(1, _SHARD_THREADS - len(self._ahead)):
                return
            shards, self._ahead = self._ahead, ()
        self.prefetch(shards)

    def wait_verified(self) -> None:
        """Wait until the shards of all samples that were handed out are verified.

        Raises CorruptShard; StorageError if a shard cannot be had any more.
        """
        told = self._told
        if told is not None and told[1] != get_ident():  # one that makes batches ahead, and the loop is not there yet
            raise told[0]
        with self._telling():
            self._unverified.wait_verified(self._fetch)
        self.check_mapped(now=True)

    def forget_told(self) -> None:
        """To be called when a stream goes back to a state."""
        self._told = None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except CorruptShard as error:
            self._told = error, get_ident()
            raise

    def count_into(self, counters: Counters) -> None:
        """Count into other counters from now on."""
        self._counters = counters

    def close(self) -> None:
        """End the threads; files stay in the folder for the next run.

        Raises CorruptShard if a shard whose samples were handed out is known to be corrupt by now.
        """
        corruption = self._unverified.corruption()
        if corruption is None:
            try:
                self.check_mapped(now=True)
            except CorruptShard as error:
                corruption = error
        self._stopped.set()
        with self._lock:  # not while a fetch is being added
            pools = self._shard_pool, self._range_pool, self._decode_pool
        self._start()
        for pool in pools:
            pool.close()
        if corruption is not None:
            raise corruption

    def _verified_slice(self, shard: Shard, rows: Int64Array, slots: Int64Array) -> ShardSlice:
        """The slice of a shard, once it is VERIFIED. Raises CorruptShard; of one shard the same each time."""
        key = key_of(shard)
        if (message := self._corrupt.get(key)) is not None:
            raise CorruptShard(message)
        try:
            return self._slice(shard, self.index(shard), self._view(self._fetch(shard)), rows, slots)
        except CorruptShard as error:
            self._corrupt[key] = str(error)
            _log.warning("%s; it is left out", error)
            raise

    def _slice(
        self, shard: Shard, index: ShardIndex, view: memoryview, rows: Int64Array, slots: Int64Array
    ) -> ShardSlice:
        url, key = self.url_of(shard), key_of(shard)
        with self._lock:
            if key in self._open:
                self._ready[key] = url, index, view
                self._steady = True
        return ShardSlice(url, index, rows, slots, (), view, shard.sha256)

    def _fetch(self, shard: Shard, beginning: int = 0) -> ShardFetch:
        """The fetch of a shard, begun if need be, with so many bytes first; the most recently used now."""
        key = key_of(shard)
        with self._lock:
            fetch = self._open.pop(key, None)
            if fetch is None or fetch.state is FetchState.FAILED:  # a corrupt one is kept: it is yet to be reported
                also = self._files, self._stopped, self._first_pieces, self._lost
                fetch = self._begin(ShardFetch(self._tars, shard, *also, beginning=beginning))
            self._open[key] = fetch
            excess = len(self._open) - self._options.open_shards
            if excess > 0:
                ended = [other for other, candidate in self._open.items() if candidate.ended]
                for old in ended[:excess]:
                    evicted = self._open.pop(old)
                    if evicted.has_shrunk():
                        self._lost.append(evicted.url)
                    self._ready.pop(old, None)
        return fetch

    def _begin(self, fetch: ShardFetch) -> ShardFetch:
        view = fetch.verified_view()
        if view is not None:
            self._counters.add(hits=1)
            fetch.verified.set_result(view)
        else:
            fetch.verified = self._shard_pool.submit(partial(self._run, fetch))
        return fetch

    def _run(self, fetch: ShardFetch) -> memoryview:
        rate, stopped = self._rate, self._stopped  # the cache has others once it is closed
        rate.begin(fetch)
        try:
            return fetch.run()
        finally:
            rate.end(fetch)
            if not stopped.is_set():
                self._start_ahead()
            outcome = "misses" if fetch.bytes_downloaded else "hits"
            self._counters.add(**{outcome: 1}, fetched=fetch.bytes_downloaded, through=int(fetch.in_memory))

    def _wait_if_soon(self, needed: Mapping[ShardFetch, int], samples: int) -> None:
        """Wait for bytes of shards that are estimated to arrive before the samples could be read as ranges."""
        missing = {fetch: stop for fetch, stop in needed.items() if not _has_arrived(fetch, stop)}
        if not missing:
            return
        range_reads_s = _RANGE_READ_LATENCY_S * samples * len(missing) / len(needed) / _RANGE_THREADS
        # Range reads slow down the shards, which are fetched anyway: they are for first batches, and for slow stores.
        longest_s = max(_MIN_WAIT_S, range_reads_s) * (_STEADY_PATIENCE if self._steady else 1)
        for estimate in range(_ESTIMATES):
            left_s = self._rate.seconds_left(missing, longest_s)
            if left_s <= longest_s:
                _wait_arrived(missing, 2 * longest_s)
            if left_s <= longest_s or left_s > 4 * longest_s or estimate == _ESTIMATES - 1:
                return
            _wait_arrived(missing, _ESTIMATE_INTERVAL_S)  # they may only be starting

    def _view(self, fetch: ShardFetch) -> memoryview:
        try:
            return fetch.verified.result()
        except BaseException:
            with self._lock:  # the next use tries again
                if self._open.get(fetch.key) is fetch:
                    self._open.pop(fetch.key)
            raise

    def _index(self, shard: Shard) -> "Future[ShardIndex]":
        key = key_of(shard)
        with self._lock:
            future = self._indexes.pop(key, None)
            if future is None or (future.done() and (future.cancelled() or future.exception())):
                future = self._range_pool.submit(partial(self._load_index, shard, self._decode_pool))
            self._indexes[key] = future
            self._drop_indexes()
        return future

    def _drop_indexes(self) -> None:
        """Let go of the least recently used indexes, those of as many shards as may be open not among them."""
        while self._index_bytes > _INDEX_BYTES and len(self._indexes) > self._options.open_shards:
            oldest = next(iter(self._indexes))
            self._indexes.pop(oldest)
            self._index_bytes -= self._index_sizes.pop(oldest, 0)

    def _load_index(self, shard: Shard, decode_pool: ThreadPool) -> ShardIndex:
        payload = index_bytes(self._store, shard, self._files)
        decode = partial(ShardIndex.decode, payload, f"{self._store.url}/{shard.index}", size=shard.size)
        index: ShardIndex = decode_pool.submit(decode).result()
        if not is_whole(shard):
            index = index.take(self.rows_of(shard))
        if len(index) != shard.samples:
            raise CorruptShard(
                f"{self._store.url}/{shard.index}: {len(index):,} rows, but the manifest says {shard.samples:,}; "
                f"{REMEDY}"
            )
        with self._lock:
            if key_of(shard) in self._indexes:
                self._index_bytes += index.nbytes - self._index_sizes.get(key_of(shard), 0)
                self._index_sizes[key_of(shard)] = index.nbytes
                self._drop_indexes()
        return index


def _beginning(shard: Shard, rows: Int64Array) -> int:
    """About as many bytes of a shard as hold these rows, if they are few; else 0."""
    size = int(shard.size * _MARGIN * (int(rows.max()) + 1) / shard.samples) + _TAR_BLOCKS
    return size if size <= min(_LONGEST_BEGINNING, shard.size) else 0


def _has_arrived(fetch: ShardFetch, stop: int) -> bool:
    return fetch.local is not None or fetch.bytes_available >= stop or fetch.ended


def _wait_arrived(needed: Mapping[ShardFetch, int], timeout_s: float) -> None:
    """Wait until so many bytes of each fetch are here, it has failed, or the time is over."""
    until = time.monotonic() + timeout_s
    while not all(_has_arrived(fetch, stop) for fetch, stop in needed.items()) and time.monotonic() < until:
        time.sleep(_POLL_S)


def _open_cache(store: Store, options: CacheOptions, counters: Counters, tars: Store) -> Cache:
    return Cache(store, options, counters=counters, tars=tars)
