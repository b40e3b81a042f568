"""Shards on this machine: mapped where they lie or fetched once, proven once, and read before they are whole."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.index import Places, ShardIndex
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Shard
from stoker.training.reading.cache_files import Folder, default_folder
from stoker.training.reading.counters import Counters
from stoker.training.reading.fetching import Coming, Fetch, Mark, mark_of
from stoker.training.reading.samples import Group
from stoker.training.reading.threads import Threads, after_fork
from stoker.training.reading.transfer_rate import Traffic
from stoker.training.reading.unverified import Early

MEGABYTES = 4096  # of a cache, unless another bound is given
_BULK = 4  # shards that are fetched at once
_QUICK = 16  # small reads at once
_SMALL_S = 0.06  # that a small read is taken to need
_PATIENCE_S = (
    0.2  # a batch waits so long for whole shards anyway, and longer only if its samples alone would take longer
)
_LOOKS, _LOOK_S = 3, 0.1
_INDEXES = 1024  # that are kept in memory: a few hundred bytes to a megabyte each

_Wanted = Sequence[tuple[Shard, Places, Places]]  # shard, rows, their places in the batch


class Cache:
    """The shards of a store; ``tars``: the store of the tars if they lie elsewhere than their indexes.

    A tar that is a file on this machine is mapped where it lies. Others are files of ``folder``, named by their
    SHA-256, there only whole and proven, shared by all processes; the least recently used go when ``megabytes`` are
    exceeded (who has one mapped keeps its bytes on the disk until then). What the disk will not have is held in memory
    as long as it is in use. Samples that are wanted before their shard is whole are read alone, and ``settle`` tells
    when they are proven.
    """

    def __init__(
        self,
        store: Store,
        folder: Path | None = None,
        *,
        megabytes: int = MEGABYTES,
        held: int = 16,
        counters: Counters | None = None,
        tars: Store | None = None,
    ) -> None:
        self._options: dict[str, Any] = {  # Any: of this constructor
            "megabytes": megabytes,
            "held": held,
            "counters": counters or Counters(),
            "tars": tars,
        }
        self._counters: Counters = self._options["counters"]
        self._store, self._tars = store, tars or store
        self._folder = Folder(folder or default_folder(), megabytes * 10**6)
        self._held = held  # open shards
        self._reset()
        after_fork(self)

    def _reset(self) -> None:
        self._lock = Lock()
        self._open: dict[Mark, Coming] = {}  # the least recently used first
        self._indexes: dict[Mark, Future[ShardIndex]] = {}
        self._here: dict[Mark, tuple[str, ShardIndex, memoryview]] = {}  # those of the open that are whole, and where
        self._corrupt: dict[Mark, str] = {}  # what was said of shards that are left out
        self._early = Early()
        self._traffic = Traffic()
        self._bulk: Threads | None = None
        self._quick: Threads | None = None
        self._stopped = Event()

    def begin_anew(self) -> None:
        """In a process that was forked: threads, locks and open files are those of the other process."""
        for one in self._open.values():
            one.fetch.forget()
        self._reset()

    def __getstate__(self) -> dict[str, Any]:  # Any: what pickle wants
        return {"store": self._store, "folder": self._folder.path, **self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        # Another process has connections and threads of its own.
        self.__init__(state.pop("store"), state.pop("folder"), **state)  # type: ignore[misc]  # no subclass has another

    def groups(self, wanted: _Wanted, *, proven: bool = False) -> list[Group]:
        """Of each shard the samples of these rows, which are at those places of a batch.

        ``proven``: wait for whole, proven shards, and fetch none again that was found to be corrupt. Raises
        CorruptShard, also of a shard whose samples were given before; StorageError.
        """
        self._early.check(self._opened)
        here = [self._here.get(mark_of(shard)) for shard, _, _ in wanted]
        if None not in here:  # nearly always
            return [
                Group(one[0], one[1], rows, places, (), one[2])
                for (_, rows, places), one in zip(wanted, here, strict=True)
                if one is not None
            ]
        if proven:
            self.expect([shard for shard, _, _ in wanted])
            return [self._whole(shard, rows, places) for shard, rows, places in wanted]
        return self._mixed(wanted)

    def _mixed(self, wanted: _Wanted) -> list[Group]:
        """Of shards that are whole their samples; of others what has come, and the rest read alone."""
        indexes = self.indexes([shard for shard, _, _ in wanted])
        coming = [self._opened(shard) for shard, _, _ in wanted]
        self._wait_if_soon(coming, sum(len(rows) for _, rows, _ in wanted))
        found = []
        direct: list[tuple[list[Any], int, Future[bytes]]] = []  # Any: memoryviews, and None where they will be
        for (shard, rows, places), one, known in zip(wanted, coming, indexes, strict=True):
            if one.view.done():
                found.append(self._group(shard, known, self._view(shard, one), rows, places))
                continue
            regions: list[Any] = []
            for place, row in enumerate(rows.tolist()):
                start, stop = int(known.starts[row]), int(known.stops[row])
                regions.append(one.fetch.read(start, stop))
                if regions[place] is None:
                    ask = partial(self._read, shard, one, start, stop)
                    direct.append((regions, place, self._threads("_quick", _QUICK).call(ask)))
                elif not one.fetch.local:
                    self._early.note(shard, one, start, regions[place])
            if one.fetch.local:
                self._early.note(shard, one)
            found.append(Group(f"{self._tars.url}/{shard.key}", known, rows, places, regions))
        for regions, place, payload in direct:
            regions[place] = memoryview(payload.result())
        return found

    def index(self, shard: Shard) -> ShardIndex:
        """A shard's index alone. Raises CorruptShard, StorageError."""
        return self._index(shard).result()

    def indexes(self, shards: Iterable[Shard]) -> list[ShardIndex]:
        """Their indexes, several fetched at a time. Raises CorruptShard, StorageError."""
        return [one.result() for one in [self._index(shard) for shard in shards]]

    def expect(self, shards: Sequence[Shard]) -> None:
        """Begin to fetch shards that will be read soon."""
        for shard in shards:
            if mark_of(shard) not in self._corrupt:
                self._index(shard)
                self._opened(shard)

    def settle(self) -> None:
        """Wait until all shards whose samples were given before they were whole are proven.

        Raises CorruptShard; StorageError if one cannot be had any more.
        """
        self._early.settle(self._opened)

    def count_into(self, counters: Counters) -> None:
        """Count into other counters from now on."""
        self._options["counters"] = self._counters = counters

    def hold(self, shards: int) -> None:
        """Keep at least so many shards open."""
        self._held = max(self._held, shards)

    def close(self) -> None:
        """End the threads; what is on disk stays for the next run.

        Raises CorruptShard if that is known by now of a shard whose samples were given.
        """
        corrupt = self._early.known()
        self._stopped.set()
        with self._lock:
            pools = [self._bulk, self._quick]
        self._reset()
        for pool in pools:
            if pool is not None:
                pool.close()
        if corrupt is not None:
            raise corrupt

    def _whole(self, shard: Shard, rows: Places, places: Places) -> Group:
        """The samples of a proven shard. Raises CorruptShard; of one shard the same each time."""
        if (said := self._corrupt.get(mark_of(shard))) is not None:
            raise CorruptShard(said)
        try:
            return self._group(shard, self.index(shard), self._view(shard, self._opened(shard)), rows, places)
        except CorruptShard as error:
            self._corrupt[mark_of(shard)] = str(error)
            raise

    def _group(self, shard: Shard, known: ShardIndex, view: memoryview, rows: Places, places: Places) -> Group:
        where, mark = f"{self._tars.url}/{shard.key}", mark_of(shard)
        with self._lock:
            if mark in self._open:
                self._here[mark] = where, known, view
        return Group(where, known, rows, places, (), view)

    def _opened(self, shard: Shard) -> Coming:
        """The shard, on its way at least."""
        mark = mark_of(shard)
        with self._lock:
            found = self._open.pop(mark, None)
            if found is None or (found.failed and not found.corrupt):  # that it is corrupt is yet to be told
                found = self._begun(Fetch(self._tars, shard, self._folder, self._stopped))
            self._open[mark] = found  # the newest
            if len(self._open) > self._held:
                whole = [mark for mark, one in self._open.items() if one.view.done()]
                for old in whole[: len(self._open) - self._held]:
                    self._open.pop(old)
                    self._here.pop(old, None)
        return found

    def _begun(self, fetch: Fetch) -> Coming:
        view = fetch.at_once()
        if view is not None:
            self._counters.add(hits=1)
            here: Future[memoryview] = Future()
            here.set_result(view)
            return Coming(fetch, here)
        return Coming(fetch, self._threads("_bulk", _BULK, locked=True).call(partial(self._fetch, fetch)))

    def _fetch(self, fetch: Fetch) -> memoryview:
        traffic = self._traffic
        traffic.begin(fetch)
        try:
            return fetch.run()
        finally:
            traffic.end(fetch)
            name = "misses" if fetch.fetched else "hits"
            self._counters.add(**{name: 1}, fetched=fetch.fetched, through=int(fetch.through))

    def _wait_if_soon(self, wanted: Sequence[Coming], samples: int) -> None:
        """Wait for these if they will be whole before single samples of them were read."""
        lacking = [one for one in wanted if not one.view.done() and not one.fetch.local]
        if not lacking:
            return
        patience = max(_PATIENCE_S, _SMALL_S * samples * len(lacking) / len(wanted) / _QUICK)
        for look in range(_LOOKS):
            left = self._traffic.seconds(one.fetch for one in lacking)
            if left <= patience:
                wait([one.view for one in lacking], timeout=2 * patience)
            if left <= patience or left > 4 * patience or look == _LOOKS - 1:
                return
            wait([one.view for one in lacking], timeout=_LOOK_S)  # they may only be getting under way

    def _view(self, shard: Shard, one: Coming) -> memoryview:
        try:
            return one.view.result()
        except BaseException:
            with self._lock:  # the next one who wants it tries again
                if self._open.get(mark_of(shard)) is one:
                    self._open.pop(mark_of(shard))
            raise

    def _read(self, shard: Shard, one: Coming, start: int, stop: int) -> bytes:
        payload = self._tars.read(shard.key, start=start, size=stop - start)
        self._counters.add(direct=1, fetched=len(payload))
        if len(payload) != stop - start:
            raise CorruptShard(
                f"{self._tars.url}/{shard.key}: ends before byte {stop:,}, but the manifest says {shard.size:,} bytes; "
                "run `stoker verify`, then ingest the corpus again"
            )
        self._early.note(shard, one, start, payload)
        return payload

    def _index(self, shard: Shard) -> "Future[ShardIndex]":
        mark = mark_of(shard)
        with self._lock:
            found = self._indexes.pop(mark, None)
            if found is None or (found.done() and (found.cancelled() or found.exception())):
                found = self._threads("_quick", _QUICK, locked=True).call(partial(self._load_index, shard))
            self._indexes[mark] = found
            while len(self._indexes) > max(_INDEXES, self._held):
                self._indexes.pop(next(iter(self._indexes)))
        return found

    def _load_index(self, shard: Shard) -> ShardIndex:
        where = f"{self._store.url}/{shard.index}"
        payload = self._folder.index(shard.index_sha256)
        if payload is None or hashlib.sha256(payload).hexdigest() != shard.index_sha256:
            payload = self._store.read(shard.index)
            found = hashlib.sha256(payload).hexdigest()
            if found != shard.index_sha256:
                raise CorruptShard(
                    f"{where}: sha256 {found[:12]}, but the manifest says {shard.index_sha256[:12]}; run `stoker "
                    "verify`, then ingest the corpus again"
                )
            if self._store.path(shard.index) is None:
                self._folder.keep_index(shard.index_sha256, payload)
        return ShardIndex.decode(payload, where, size=shard.size)

    def _threads(self, name: str, count: int, *, locked: bool = False) -> Threads:
        if not locked:
            with self._lock:
                return self._threads(name, count, locked=True)
        pool: Threads | None = getattr(self, name)
        if pool is None:
            pool = Threads(count, f"stoker-{name.strip('_')}")
            setattr(self, name, pool)
        return pool
