"""Shards on this machine: mapped where they lie or fetched once, proven once, and read before they are whole."""

import hashlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any

from stoker.storage.errors import CorruptShard
from stoker.storage.index import Places, ShardIndex
from stoker.storage.manifest import Shard
from stoker.storage.store import Store
from stoker.training.counters import Counters
from stoker.training.fetching import Fetch
from stoker.training.folder import Folder, default_folder
from stoker.training.samples import Group
from stoker.training.threads import Threads

MEGABYTES = 4096  # of a cache, unless another bound is given
_BULK = 4  # shards that are fetched at once
_QUICK = 8  # small reads at once
_PATIENCE_S = 0.2  # a batch waits so long for whole shards; if they take longer, its samples are read alone
_RATE = 50e6  # bytes a second that a store is taken to give, before any were counted
_COUNTED_S = 0.05  # before what was counted says anything
_INDEXES = 1024  # that are kept in memory: a few hundred bytes to a megabyte each

_Mark = tuple[str, str]
_Wanted = Sequence[tuple[Shard, Places, Places]]  # shard, rows, their places in the batch


@dataclass(frozen=True, eq=False)
class _Coming:
    """A shard that is on its way, or here."""

    fetch: Fetch
    view: "Future[memoryview]"


class Cache:
    """The shards of a store; ``tars``: the store of the tars if they lie elsewhere than their indexes.

    A tar that is a file on this machine is mapped where it lies. Others are files of ``folder``, named by their
    SHA-256, there only whole and proven, shared by all processes; the least recently used go when ``megabytes`` are
    exceeded. What the disk will not have is held in memory as long as it is in use. Samples that are wanted before
    their shard is whole are read alone, and ``settle`` tells when they are proven.
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
        self._lock = Lock()
        self._open: dict[_Mark, _Coming] = {}  # the least recently used first
        self._indexes: dict[_Mark, Future[ShardIndex]] = {}
        self._unproven: dict[_Mark, _Coming] = {}  # of which samples were given before they were whole
        self._reset()

    def _reset(self) -> None:
        self._bulk: Threads | None = None
        self._quick: Threads | None = None
        self._stopped = Event()
        self._busy_since: float | None = None
        self._active = 0  # shards that are on their way

    def __getstate__(self) -> dict[str, Any]:  # Any: what pickle wants
        return {"store": self._store, "folder": self._folder.path, **self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        # Another process has connections and threads of its own.
        self.__init__(state.pop("store"), state.pop("folder"), **state)  # type: ignore[misc]  # no subclass has another

    def groups(self, wanted: _Wanted) -> list[Group]:
        """Of each shard the samples of these rows, which are at those places of a batch.

        Raises CorruptShard, also of a shard whose samples were given before; StorageError.
        """
        self._check_unproven()
        indexes = [one.result() for one in [self._index(shard) for shard, _, _ in wanted]]
        coming = [self._opened(shard) for shard, _, _ in wanted]
        found = []
        direct: list[tuple[list[memoryview | None], int, Future[bytes]]] = []
        for (shard, rows, places), one, known in zip(wanted, coming, indexes, strict=True):
            starts, stops = known.starts[rows].tolist(), known.stops[rows].tolist()
            if self._is_here(one):
                view = self._view(shard, one)
                regions: list[Any] = [view[start:stop] for start, stop in zip(starts, stops, strict=True)]
            else:
                regions = [one.fetch.read(start, stop) for start, stop in zip(starts, stops, strict=True)]
                self._unproven[_mark(shard)] = one
                for place, region in enumerate(regions):
                    if region is None:
                        ask = partial(self._read, shard, starts[place], stops[place])
                        direct.append((regions, place, self._threads("_quick", _QUICK).call(ask)))
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
            self._index(shard)
            self._opened(shard)

    def settle(self) -> None:
        """Wait until all shards whose samples were given before they were whole are proven. Raises CorruptShard."""
        for one in list(self._unproven.values()):
            one.view.exception()
        self._check_unproven()

    def count_into(self, counters: Counters) -> None:
        """Count into other counters from now on."""
        self._options["counters"] = self._counters = counters

    def hold(self, shards: int) -> None:
        """Keep at least so many shards open."""
        self._held = max(self._held, shards)

    def close(self) -> None:
        """End the threads; what is on disk stays for the next run."""
        self._stopped.set()
        with self._lock:
            pools = [self._bulk, self._quick]
            self._open.clear()
            self._indexes.clear()
            self._unproven.clear()
            self._reset()
        for pool in pools:
            if pool is not None:
                pool.close()

    def _opened(self, shard: Shard) -> _Coming:
        """The shard, on its way at least."""
        mark = _mark(shard)
        with self._lock:
            found = self._open.pop(mark, None)
            if found is None or (found.view.done() and (found.view.cancelled() or found.view.exception())):
                fetch = Fetch(self._tars, shard, self._folder, self._stopped)
                self._active += 1
                self._busy_since = self._busy_since or time.monotonic()
                view: Future[memoryview] = self._threads("_bulk", _BULK, locked=True).call(partial(self._fetch, fetch))
                found = _Coming(fetch, view)
            self._open[mark] = found  # the newest
            while len(self._open) > self._held and self._open[next(iter(self._open))].view.done():
                self._open.pop(next(iter(self._open)))
        return found

    def _fetch(self, fetch: Fetch) -> memoryview:
        try:
            return fetch.run()
        finally:
            name = "misses" if fetch.fetched else "hits"
            self._counters.add(**{name: 1}, fetched=fetch.fetched, through=int(fetch.through))
            with self._lock:
                self._active -= 1
                self._busy_since = self._busy_since if self._active > 0 else None

    def _is_here(self, one: _Coming) -> bool:
        """Whether to take the whole shard: it is here, or will be before single samples were read."""
        if one.view.done():
            return True
        with self._lock:
            ahead = [other.fetch for other in self._open.values() if not other.view.done()]
            passed = time.monotonic() - (self._busy_since or time.monotonic())
        got = sum(fetch.got for fetch in ahead)
        left = sum(fetch.shard.size for fetch in ahead) - got
        rate = got / passed if passed > _COUNTED_S and got else _RATE
        return left / rate <= _PATIENCE_S and not one.fetch.local

    def _view(self, shard: Shard, one: _Coming) -> memoryview:
        try:
            return one.view.result()
        except BaseException:
            with self._lock:  # the next one who wants it tries again
                if self._open.get(_mark(shard)) is one:
                    self._open.pop(_mark(shard))
            raise

    def _read(self, shard: Shard, start: int, stop: int) -> bytes:
        payload = self._tars.read(shard.key, start=start, size=stop - start)
        self._counters.add(direct=1, fetched=len(payload))
        if len(payload) != stop - start:
            raise CorruptShard(
                f"{self._tars.url}/{shard.key}: ends before byte {stop:,}, but the manifest says {shard.size:,} bytes; "
                "run `stoker verify`, then ingest the corpus again"
            )
        return payload

    def _check_unproven(self) -> None:
        for mark, one in list(self._unproven.items()):
            if one.view.done():
                self._unproven.pop(mark, None)
                if not one.view.cancelled() and isinstance(error := one.view.exception(), CorruptShard):
                    raise error

    def _index(self, shard: Shard) -> "Future[ShardIndex]":
        mark = _mark(shard)
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


def _mark(shard: Shard) -> _Mark:
    """Tells open shards apart: two tars of the same bytes may have keys of their own."""
    return shard.sha256, shard.index_sha256
