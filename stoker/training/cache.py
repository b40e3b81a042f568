"""Shards on the local disk: fetched once, proven once, shared by the processes of a machine, bounded."""

import hashlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from stoker.storage.errors import CorruptShard
from stoker.storage.index import Places, ShardIndex
from stoker.storage.manifest import Shard
from stoker.storage.store import Store
from stoker.training.counters import Counters
from stoker.training.samples import Group

_PIECE = 8 * 2**20  # bytes asked for at a time
MEGABYTES = 4096  # of a cache, unless another bound is given


def default_folder() -> Path:
    """A folder of this user's under the system's folder for temporary files."""
    return Path(tempfile.gettempdir()) / f"stoker-cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


@dataclass(frozen=True, eq=False)
class OpenShard:
    """A shard whose samples can be had by their row: the tar mapped into memory, its index in arrays."""

    shard: Shard
    index: ShardIndex
    view: memoryview  # of the whole tar

    def regions(self, rows: Places) -> list[memoryview]:
        """The bytes [start, stop) of each row."""
        starts, stops = self.index.starts[rows].tolist(), self.index.stops[rows].tolist()
        return [self.view[start:stop] for start, stop in zip(starts, stops, strict=True)]


def opened(shard: Shard, path: Path, index: ShardIndex) -> OpenShard:
    """The shard in a file, mapped."""
    with path.open("rb") as file:
        return OpenShard(shard, index, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


class Cache:
    """The shards of a store as files named by their SHA-256; ``tars``: the store of the tars if they lie elsewhere.

    A file is there only whole and proven: it is written under another name first. The least recently used go when
    ``megabytes`` are exceeded.
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
        self._counters = counters or Counters()
        self._store = store
        self._tars = tars or store
        self._folder = folder or default_folder()
        self._limit = megabytes * 10**6
        self._held = held  # open shards
        self._open: dict[tuple[str, str], OpenShard] = {}
        self._coming: dict[tuple[str, str], Future[OpenShard]] = {}
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:  # Any: what pickle wants
        return {
            "store": self._store,
            "folder": self._folder,
            "limit": self._limit,
            "held": self._held,
            "counters": self._counters,
            "tars": self._tars,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        # Another process has connections and threads of its own.
        self.__init__(  # type: ignore[misc]  # no subclass has another constructor
            state["store"],
            state["folder"],
            megabytes=state["limit"] // 10**6,
            held=state["held"],
            counters=state["counters"],
            tars=state["tars"],
        )

    def open(self, shard: Shard) -> OpenShard:
        """The shard, fetched if it is not here. Raises CorruptShard, StorageError."""
        with self._lock:
            found = self._open.pop(_mark(shard), None)
            if found is not None:
                self._open[_mark(shard)] = found  # the newest
                return found
            coming = self._coming.pop(_mark(shard), None)
        opened = coming.result() if coming is not None else self._fetch(shard)
        with self._lock:
            self._open[_mark(shard)] = opened
            while len(self._open) > self._held:
                self._open.pop(next(iter(self._open)))
        return opened

    def groups(self, wanted: Sequence[tuple[Shard, Places, Places]]) -> list[Group]:
        """Of each shard the samples of these rows, which are at those places of a batch."""
        found = []
        for shard, rows, places in wanted:
            one = self.open(shard)
            found.append(Group(f"{self._tars.url}/{shard.key}", one.index, rows, places, one.regions(rows)))
        return found

    def index(self, shard: Shard) -> ShardIndex:
        """A shard's index alone. Raises CorruptShard, StorageError."""
        return self.open(shard).index

    def expect(self, shards: Sequence[Shard]) -> None:
        """Begin to fetch shards that will be opened soon."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(2, thread_name_prefix="stoker-ahead")
            for shard in shards:
                if _mark(shard) not in self._open and _mark(shard) not in self._coming:
                    self._coming[_mark(shard)] = self._pool.submit(self._fetch, shard)

    def hold(self, shards: int) -> None:
        """Keep at least so many shards open."""
        self._held = max(self._held, shards)

    def close(self) -> None:
        """End the threads; what is on disk stays for the next run."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._open.clear()
            self._coming.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, shard: Shard) -> OpenShard:
        payload = self._store.read(shard.index)
        if hashlib.sha256(payload).hexdigest() != shard.index_sha256:
            raise _altered(self._store, shard.index, payload, shard.index_sha256)
        index = ShardIndex.decode(payload, f"{self._store.url}/{shard.index}", size=shard.size)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / shard.sha256
        if not (path.is_file() and path.stat().st_size == shard.size):
            self._download(shard, path)
        with suppress(OSError):
            os.utime(path)  # recently used
        return opened(shard, path, index)

    def _download(self, shard: Shard, path: Path) -> None:
        self._make_room(shard.size)
        seen = hashlib.sha256()
        handle, name = tempfile.mkstemp(prefix="coming-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                for start in range(0, shard.size, _PIECE):
                    piece = self._tars.read(shard.key, start=start, size=_PIECE)
                    seen.update(piece)
                    file.write(piece)
            if seen.hexdigest() != shard.sha256:
                raise CorruptShard(
                    f"{self._tars.url}/{shard.key}: sha256 {seen.hexdigest()[:12]}, but the manifest says "
                    f"{shard.sha256[:12]}; run `stoker verify`, then ingest the corpus again"
                )
            os.replace(name, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)

    def _make_room(self, size: int) -> None:
        files = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        total = sum(file[1] for file in files) + size
        for _, held, path in sorted(files):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)  # who has it mapped keeps it
            total -= held


def _mark(shard: Shard) -> tuple[str, str]:
    """Tells open shards apart: two tars of the same bytes may have keys of their own."""
    return shard.sha256, shard.index_sha256


def _altered(store: Store, key: str, payload: bytes, expected: str) -> CorruptShard:
    found = hashlib.sha256(payload).hexdigest()
    return CorruptShard(
        f"{store.url}/{key}: sha256 {found[:12]}, but the manifest says {expected[:12]}; run `stoker verify`, then "
        "ingest the corpus again"
    )
