"""One shard on its way to this machine: hashed as it comes, and readable as far as it has come."""

import hashlib
import mmap
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from stoker.storage.errors import CorruptShard, NotFound, StokerError, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Shard
from stoker.training.errors import TrainingError
from stoker.training.reading.cache_files import Folder, Full, Identity, identity

_OTHERS_S = 60.0  # without progress, after which another process's fetch is not waited for
_LOOK_S = 0.02
_PIECE = 8 * 2**20

Mark = tuple[str, str]


class Stopped(TrainingError):
    """The stream was closed while a shard was on its way."""


class Fetch:
    """Brings one shard here. ``got``: bytes that ``read`` has."""

    def __init__(self, tars: Store, shard: Shard, folder: Folder, stopped: Event) -> None:
        self.shard = shard
        self.got = 0
        self.fetched = 0  # bytes that this one brought from the store
        self.through = False  # held in memory, because the disk would not have it
        self.local = tars.path(shard.key)  # the file, if it is one on this machine
        self._tars, self._folder, self._stopped = tars, folder, stopped
        self._guard = Lock()  # or a file could be read that is closed, and its number another's
        self._file: int | None = None
        self._memory: memoryview | None = None
        self._whole: memoryview | None = None  # of a file on this machine: mapped, and perhaps not proven
        self._identity: Identity = ()  # of a file on this machine
        self.where = f"{tars.url}/{shard.key}"

    def at_once(self) -> memoryview | None:
        """The whole shard, if it is on this machine and is proven."""
        try:
            if self.local is None:
                return self._kept(proven=True)
            view = self._map_local(self.local)
            return view if self._folder.is_proven(self.shard.sha256, self._identity) else None
        except (StokerError, OSError):
            return None  # ``run`` says what is wrong

    def run(self) -> memoryview:
        """The whole, proven shard. Raises CorruptShard, StorageError, Stopped."""
        if self.local is not None:
            return self._local(self.local)
        try:
            view = self._cached()
        except OSError as error:  # of the folder: a store's are StorageErrors
            warnings.warn(
                f"{self._folder.path}: {error.strerror}; shards are held in memory instead, and fetched again when "
                "they are needed again",
                stacklevel=2,
            )
            view = None
        if view is None:
            view = self._in_memory()
        with self._guard:
            self._whole = view
        return view

    def read(self, start: int, stop: int) -> memoryview | None:
        """The bytes [start, stop) if they have come: not proven before all have."""
        if self.local is not None:
            return self._map_local(self.local)[start:stop]
        with self._guard:
            if self._whole is not None:
                return self._whole[start:stop]
            if stop > self.got:
                return None
            if self._memory is not None:
                return self._memory[start:stop].toreadonly()
            payload = b"" if self._file is None else os.pread(self._file, stop - start, start)
        return memoryview(payload) if len(payload) == stop - start else None

    def forget(self) -> None:
        """In a process that was forked: close the file that is the other's to write."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _local(self, path: Path) -> memoryview:
        """A file is mapped where it lies, and proven once."""
        view = self._map_local(path)
        if not self._folder.is_proven(self.shard.sha256, self._identity):
            self._prove(self._hashed(view))
            self._folder.prove(self.shard.sha256, self._identity)
        return view

    def _map_local(self, path: Path) -> memoryview:
        with self._guard:
            if self._whole is not None:
                return self._whole
            try:
                file = os.open(path, os.O_RDONLY)
                try:
                    # Of the file that is open: another may take its name before this one is proven.
                    self._identity = identity(path, os.fstat(file))
                    view = _map(file)
                finally:
                    os.close(file)
            except FileNotFoundError:
                raise NotFound(f"{self.where}: no such object") from None
            except OSError as error:
                raise StorageRefused(f"{self.where}: {error.strerror}") from error
            if len(view) != self.shard.size:
                raise self._corrupt(f"{len(view):,} bytes, but the manifest says {self.shard.size:,}")
            self._whole = view
        return view

    def _kept(self, *, proven: bool) -> memoryview | None:
        """A file of the cache; one that is not proven since the machine was started: None, or it is proven now."""
        sha256 = self.shard.sha256
        file = self._folder.open(sha256, self.shard.size)
        if file is None:
            return None
        with file:
            known = self._folder.kept(sha256, os.fstat(file.fileno()))
            view = _map(file.fileno())
        if self._folder.is_proven(sha256, known):
            return view
        if proven:
            return None
        if self._hashed(view) == sha256:
            self._folder.prove(sha256, known)
            return view
        warnings.warn(f"{self._folder.path}/{sha256}: is not what was written there; fetched again", stacklevel=2)
        self._folder.remove(sha256)
        return None

    def _cached(self) -> memoryview | None:
        """A file of the cache, written by this process or another; None if there is no room for it."""
        sha256, size = self.shard.sha256, self.shard.size
        seen_at, seen = time.monotonic(), -1
        while True:
            view = self._kept(proven=False)
            if view is not None:
                return view
            if size > self._folder.limit:
                return None
            try:
                file = self._folder.begin(sha256, size)
            except Full:
                return None
            if file is not None:
                return self._begun(file)
            self._check_stopped()
            progress = self._folder.progress(sha256, size)
            if progress != seen:
                seen_at, seen = time.monotonic(), progress
            if time.monotonic() - seen_at > _OTHERS_S:
                return None
            time.sleep(_LOOK_S)

    def _begun(self, file: int) -> memoryview:
        """Write what was begun, unless another process ended it between the look and the lock."""
        ended = False
        try:
            view = self._kept(proven=False)
            if view is None:
                view = self._written(file)
                self._folder.end(self.shard.sha256, self.shard.size, file)
                ended = True
            return view
        finally:
            with self._guard:
                self._file = None
                self.got = self.got if ended else 0
            if not ended:
                self._folder.drop(self.shard.sha256, self.shard.size)
            os.close(file)

    def _written(self, file: int) -> memoryview:
        with self._guard:
            self._file = file

        def write(piece: bytes) -> None:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]

        self._download(write)
        return _map(file)

    def _in_memory(self) -> memoryview:
        self.through = True
        memory = memoryview(bytearray(self.shard.size))
        with self._guard:
            self.got, self._memory = 0, memory

        def write(piece: bytes) -> None:
            memory[self.got : self.got + len(piece)] = piece

        try:
            self._download(write)
        except BaseException:
            with self._guard:
                self.got, self._memory = 0, None
            raise
        return memory.toreadonly()

    def _download(self, keep: Callable[[bytes], None]) -> None:
        seen = hashlib.sha256()
        self.got = 0
        for piece in self._tars.iter_bytes(self.shard.key):
            self._check_stopped()
            self.fetched += len(piece)
            if self.got + len(piece) > self.shard.size:
                raise self._corrupt(f"more than the {self.shard.size:,} bytes that the manifest says")
            keep(piece)
            seen.update(piece)
            self.got += len(piece)
        if self.got != self.shard.size:
            raise self._corrupt(f"{self.got:,} bytes, but the manifest says {self.shard.size:,}")
        self._prove(seen.hexdigest())

    def _hashed(self, view: memoryview) -> str:
        seen = hashlib.sha256()
        for start in range(0, len(view), _PIECE):
            self._check_stopped()
            seen.update(view[start : start + _PIECE])
        return seen.hexdigest()

    def _prove(self, found: str) -> None:
        if found != self.shard.sha256:
            raise self._corrupt(f"sha256 {found[:12]}, but the manifest says {self.shard.sha256[:12]}")

    def _corrupt(self, what: str) -> CorruptShard:
        return CorruptShard(f"{self.where}: {what}; run `stoker verify`, then ingest the corpus again")

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Stopped(f"{self.where}: the stream was closed before it was here")


@dataclass(frozen=True, eq=False)
class Coming:
    """A shard that is on its way, or here."""

    fetch: Fetch
    view: "Future[memoryview]"

    @property
    def failed(self) -> bool:
        """Whether it will not come."""
        return self.view.done() and (self.view.cancelled() or self.view.exception() is not None)

    @property
    def corrupt(self) -> bool:
        """Whether it came, and is not what it should be."""
        return self.view.done() and not self.view.cancelled() and isinstance(self.view.exception(), CorruptShard)


def mark_of(shard: Shard) -> Mark:
    """Tells open shards apart: two tars of the same bytes may have keys of their own."""
    return shard.sha256, shard.index_sha256


def _map(file: int) -> memoryview:
    if os.fstat(file).st_size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
