"""One shard on its way to this machine: hashed as it comes, and readable as far as it has come."""

import errno
import hashlib
import mmap
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import BinaryIO

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.manifest import Shard
from stoker.storage.store import Store
from stoker.training.folder import Folder, Identity, identity

# What a disk says that is full, or not ours. The shard is then held in memory instead.
_NO_ROOM = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EIO,
    errno.ENOLCK,
}
_OTHERS_S = 60.0  # without progress, after which another process's fetch is not waited for
_LOOK_S = 0.02
_PIECE = 2**20


class Stopped(Exception):
    """Nobody wants the shard any more."""


class Fetch:
    """Brings one shard here. ``got``: bytes that ``read`` has."""

    def __init__(self, tars: Store, shard: Shard, folder: Folder, stopped: Event) -> None:
        self.shard = shard
        self.got = 0
        self.fetched = 0  # bytes that this one brought from the store
        self.through = False  # held in memory, because the disk would not have it
        self.local = tars.path(shard.key)  # the file, if it is one on this machine
        self._tars, self._folder, self._stopped = tars, folder, stopped
        self._file: int | None = None
        self._memory: bytearray | None = None
        self._mapped: memoryview | None = None  # a file on this machine, before it is proven
        self._identity: Identity = ()
        self._where = f"{tars.url}/{shard.key}"

    def run(self) -> memoryview:
        """The whole, proven shard. Raises CorruptShard, StorageError, Stopped."""
        if self.local is not None:
            return self._local(self.local)
        try:
            return self._cached()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            warnings.warn(
                f"{self._folder.path}: {error.strerror}; shards are held in memory instead, and fetched again when "
                "they are needed again",
                stacklevel=2,
            )
        return self._in_memory()

    def read(self, start: int, stop: int) -> memoryview | None:
        """The bytes [start, stop) if they have come: not proven before all have."""
        if self.local is not None:
            return self._map_local(self.local)[start:stop]
        if stop > self.got:
            return None
        if self._memory is not None:
            return memoryview(self._memory)[start:stop]
        file = self._file
        if file is None:
            return None
        try:
            payload = os.pread(file, stop - start, start)
        except OSError:
            return None  # just closed: it is whole now, or has failed
        return memoryview(payload) if len(payload) == stop - start else None

    def _local(self, path: Path) -> memoryview:
        """A file is mapped where it lies, and proven once."""
        view = self._map_local(path)
        if not self._folder.is_proven(self.shard.sha256, self._identity):
            seen = hashlib.sha256()
            for start in range(0, len(view), 8 * _PIECE):
                self._check_stopped()
                seen.update(view[start : start + 8 * _PIECE])
            self._prove(seen.hexdigest())
            self._folder.prove(self.shard.sha256, self._identity)
        return view

    def _map_local(self, path: Path) -> memoryview:
        if self._mapped is None:
            try:
                with path.open("rb") as file:
                    # Of the file that is open: another may take its name before this one is proven.
                    self._identity = identity(path, os.fstat(file.fileno()))
                    view = _map(file)
            except FileNotFoundError:
                raise NotFound(f"{self._where}: no such object") from None
            except OSError as error:
                raise StorageRefused(f"{self._where}: {error.strerror}") from error
            if len(view) != self.shard.size:
                raise self._corrupt(f"{len(view):,} bytes, but the manifest says {self.shard.size:,}")
            self._mapped = view
        return self._mapped

    def _cached(self) -> memoryview:
        """A file of the cache, written by this process or another."""
        sha256, size = self.shard.sha256, self.shard.size
        seen_at, seen = time.monotonic(), -1
        while True:
            found = self._folder.whole(sha256, size)
            if found is not None:
                return _mapped(found)
            file = self._folder.begin(sha256, size) if size <= self._folder.limit else None
            if file is not None:
                break
            if size > self._folder.limit:
                return self._in_memory()
            self._check_stopped()
            progress = self._folder.progress(sha256)
            if progress != seen:
                seen_at, seen = time.monotonic(), progress
            if time.monotonic() - seen_at > _OTHERS_S:
                return self._in_memory()
            time.sleep(_LOOK_S)
        if (found := self._folder.whole(sha256, size)) is not None:  # it ended between the look and the lock
            self._folder.drop(sha256, file)
            return _mapped(found)
        return self._written(file)

    def _written(self, file: int) -> memoryview:
        self._file = file
        kept = False
        try:

            def write(piece: bytes) -> None:
                view = memoryview(piece)
                while view:
                    view = view[os.write(file, view) :]

            self._download(write)
            path = self._folder.end(self.shard.sha256, file)
            kept = True
            return _mapped(path)
        finally:
            self._file = None
            if not kept:
                self.got = 0
                self._folder.drop(self.shard.sha256, file)

    def _in_memory(self) -> memoryview:
        self.through = True
        self._memory = memory = bytearray()
        self._download(memory.extend)
        self._memory = None
        return memoryview(memory).toreadonly()

    def _download(self, keep: Callable[[bytes], None]) -> None:
        seen = hashlib.sha256()
        self.got = 0
        for piece in self._tars.pieces(self.shard.key):
            self._check_stopped()
            keep(piece)
            seen.update(piece)
            self.got += len(piece)
            self.fetched += len(piece)
            if self.got > self.shard.size:
                raise self._corrupt(f"more than the {self.shard.size:,} bytes that the manifest says")
        if self.got != self.shard.size:
            raise self._corrupt(f"{self.got:,} bytes, but the manifest says {self.shard.size:,}")
        self._prove(seen.hexdigest())

    def _prove(self, found: str) -> None:
        if found != self.shard.sha256:
            raise self._corrupt(f"sha256 {found[:12]}, but the manifest says {self.shard.sha256[:12]}")

    def _corrupt(self, what: str) -> CorruptShard:
        return CorruptShard(f"{self._where}: {what}; run `stoker verify`, then ingest the corpus again")

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Stopped(self.shard.key)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return _map(file)


def _map(file: BinaryIO) -> memoryview:
    if os.fstat(file.fileno()).st_size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
