"""One shard on its way to this machine: hashed while it arrives, readable as far as it has arrived.

    FETCHING ──> COMPLETE ──> VERIFIED    its SHA-256 is the manifest's
        │            └──────> CORRUPT     it is not
        └───────────────────> FAILED      the store or the stream ended the fetch; the next use starts another one

In FETCHING the bytes [0, bytes_available) can be read, in COMPLETE and VERIFIED all of them. A file on this machine is
COMPLETE as soon as it is mapped, and is hashed then; a download is hashed while it arrives. What differs is downloaded
once more before it is CORRUPT, because bytes may be altered or cut off on the way.
"""

import hashlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum
from pathlib import Path
from threading import Event, Lock

from stoker.storage.errors import CorruptShard, NotFound, StokerError, StorageRefused
from stoker.storage.plain_file import open_plain
from stoker.storage.shards.mapped import map_file
from stoker.storage.shards.row_checksum import REMEDY
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Shard
from stoker.training.errors import TrainingError
from stoker.training.reading.cache_files import CacheFiles, CacheFull, Identity, identity
from stoker.training.reading.first_pieces import FirstPieces
from stoker.training.reading.partial import PartialShard

_log = logging.getLogger(__name__)

_STALLED_S = 60.0  # without progress of another process's download, after which it is not waited for
_POLL_S = 0.02
_HASH_BYTES = 8 * 2**20

FetchKey = tuple[str, str]


class FetchState(Enum):
    """Where a fetch is; the module's docstring draws the transitions."""

    FETCHING = 1
    COMPLETE = 2
    VERIFIED = 3
    CORRUPT = 4
    FAILED = 5


class StreamClosed(TrainingError):
    """The stream was closed while a shard was being fetched."""


class ShardFetch:
    """Brings one shard here: ``verified`` is the future of its bytes, ``read`` has those that have arrived.

    The error of that future is CorruptShard, StorageError or StreamClosed. Who creates a fetch sets ``verified``: to
    the future of ``run`` on a thread, unless ``verified_view`` had the bytes at once.
    """

    def __init__(
        self,
        tars: Store,
        shard: Shard,
        files: CacheFiles,
        stopped: Event,
        first_pieces: FirstPieces | None = None,
        lost: list[str] | None = None,
        *,
        beginning: int = 0,
    ) -> None:
        """``lost``: where a file's name is added whose bytes were gone when they were read; see ``mapped``.

        ``beginning``: bytes that a batch waits for, downloaded by a request of their own; 0: no such request.
        """
        self.shard = shard
        self.key = key_of(shard)
        self.url = f"{tars.url}/{shard.key}"
        self.verified: Future[memoryview] = Future()
        self.bytes_available = 0  # that ``read`` has, while it is downloaded
        self.bytes_downloaded = 0  # from the store, by this fetch
        self.in_memory = False  # held in memory, because the disk would not have it
        self.local = tars.path(shard.key)  # the file, if the tar is one on this machine
        self.beginning = beginning
        self._tars, self._files, self._stopped, self._lost = tars, files, stopped, lost
        self._first_pieces = first_pieces or FirstPieces()
        self._guard = Lock()  # else ``read`` could use a file that was closed, and whose number is another file's now
        self._file: int | None = None
        self._memory: memoryview | None = None
        self._whole: memoryview | None = None  # verified, or a file on this machine, which may not be verified yet
        self._identity: Identity = ()  # of a file on this machine

    @property
    def names(self) -> tuple[str, str]:
        """How its mapped bytes may be called in ``lost``: as a file of the store, and as one of the cache."""
        return self.url, f"{self._files.path}/{self.shard.sha256}"

    @property
    def state(self) -> FetchState:
        """Where the fetch is, read off the future: nothing else has to be kept up to date."""
        if not self.verified.done():
            return FetchState.FETCHING if self._whole is None else FetchState.COMPLETE
        if self.verified.cancelled():
            return FetchState.FAILED
        error = self.verified.exception()
        if error is None:
            return FetchState.VERIFIED
        return FetchState.CORRUPT if isinstance(error, CorruptShard) else FetchState.FAILED

    @property
    def ended(self) -> bool:
        """Whether it is VERIFIED, CORRUPT or FAILED."""
        return self.verified.done()

    def verified_view(self) -> memoryview | None:
        """The whole shard, if it is on this machine and was verified before."""
        try:
            if self.local is None:
                return self._open_cached(hash_if_needed=False)
            view = self._map_local(self.local)
            return view if self._files.is_verified(self.shard.sha256, self._identity) else None
        except (StokerError, OSError):
            return None  # ``run`` reports what is wrong

    def run(self) -> memoryview:
        """The whole, verified shard. Raises CorruptShard, StorageError, StreamClosed."""
        if self.local is not None:
            return self._verify_local(self.local)
        try:
            view = self._fetch_to_disk()
        except OSError as error:  # of the cache folder: those of a store are StorageErrors
            warnings.warn(
                f"{self._files.path}: {error.strerror}; shards are held in memory instead, and fetched again when "
                "they are needed again",
                stacklevel=2,
            )
            view = None
        if view is None:
            view = self._fetch_to_memory()
        with self._guard:
            self._whole = view
        return view

    def read(self, start: int, stop: int) -> memoryview | None:
        """The bytes [start, stop) if they have arrived; they may not be verified."""
        if self.local is not None:
            return self._map_local(self.local)[start:stop]
        with self._guard:
            if self._whole is not None:
                return self._whole[start:stop]
            if stop > self.bytes_available:
                return None
            if self._memory is not None:
                return self._memory[start:stop].toreadonly()
            payload = b"" if self._file is None else os.pread(self._file, stop - start, start)
        return memoryview(payload) if len(payload) == stop - start else None

    def has_shrunk(self) -> bool:
        """Whether the file on this machine has fewer bytes by now than were mapped; not if it is another file."""
        if self.local is None or self._whole is None:
            return False
        try:
            stat = os.stat(self.local)
        except OSError:
            return False  # what was mapped outlives its name
        return stat.st_ino == self._identity[1] and stat.st_size < self.shard.size

    def close_after_fork(self) -> None:
        """In a forked process: close the file that the parent writes."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _verify_local(self, path: Path) -> memoryview:
        """Map a file where it is, and hash it unless it was verified before."""
        view = self._map_local(path)
        if not self._files.is_verified(self.shard.sha256, self._identity):
            self._check_sha256(self._hash(view))
            self._files.mark_verified(self.shard.sha256, self._identity)
        return view

    def _map_local(self, path: Path) -> memoryview:
        with self._guard:
            if self._whole is not None:
                return self._whole
            try:
                with open_plain(path) as file:
                    # Of the open file: another one may take its name before this one is verified.
                    self._identity = identity(path, os.fstat(file.fileno()))
                    view = map_file(file.fileno(), self.url, self._lost)
            except FileNotFoundError:
                raise NotFound(f"{self.url}: no such object") from None
            except IsADirectoryError:
                raise NotFound(f"{self.url}: no such object; a folder lies there") from None
            except OSError as error:
                raise StorageRefused(f"{self.url}: {error.strerror}") from error
            if len(view) != self.shard.size:
                raise self._corrupt(f"{len(view):,} bytes, but the manifest says {self.shard.size:,}")
            self._whole = view
        return view

    def _open_cached(self, *, hash_if_needed: bool) -> memoryview | None:
        """The shard's file in the cache folder, verified.

        One that was not verified since the machine was started is hashed now, or is left alone: None.
        """
        sha256 = self.shard.sha256
        file = self._files.open(sha256, self.shard.size)
        if file is None:
            return None
        with file:
            cached = self._files.identity_of(sha256, os.fstat(file.fileno()))
            view = map_file(file.fileno(), self.names[1], self._lost)
        if self._files.is_verified(sha256, cached):
            return view
        if not hash_if_needed:
            return None
        if self._hash(view) == sha256:
            self._files.mark_verified(sha256, cached)
            return view
        warnings.warn(f"{self._files.path}/{sha256}: is not what was written there; fetched again", stacklevel=2)
        self._files.remove(sha256)
        return None

    def _fetch_to_disk(self) -> memoryview | None:
        """The shard as a cache file, written by this process or another; None if there is no room for it."""
        sha256, size = self.shard.sha256, self.shard.size
        progress_at, progress = time.monotonic(), -1
        while True:
            view = self._open_cached(hash_if_needed=True)
            if view is not None:
                return view
            if size > self._files.limit:
                return None
            try:
                file = self._files.start_write(sha256, size)
            except CacheFull:
                return None
            if file is not None:
                return self._write_and_commit(file)
            self._check_stopped()
            written = self._files.bytes_written(sha256, size)
            if written != progress:
                progress_at, progress = time.monotonic(), written
            if time.monotonic() - progress_at > _STALLED_S:
                return None
            time.sleep(_POLL_S)

    def _write_and_commit(self, file: int) -> memoryview:
        """Write the locked file, unless another process committed its own between our look and our lock."""
        committed = False
        try:
            view = self._open_cached(hash_if_needed=True)
            if view is None:
                view = self._write(file)
                self._files.commit(self.shard.sha256, self.shard.size, file)
                committed = True
            return view
        finally:
            with self._guard:
                self._file = None
                self.bytes_available = self.bytes_available if committed else 0
            if not committed:
                self._files.discard(self.shard.sha256, self.shard.size)
            os.close(file)

    def _write(self, file: int) -> memoryview:
        with self._guard:
            self._file = file

        def write(piece: bytes) -> None:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]

        def begin() -> None:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)

        self._download(write, begin)
        return map_file(file, self.names[1], self._lost)

    def _fetch_to_memory(self) -> memoryview:
        self.in_memory = True
        memory = memoryview(bytearray(self.shard.size))
        with self._guard:
            self.bytes_available, self._memory = 0, memory

        def write(piece: bytes) -> None:
            memory[self.bytes_available : self.bytes_available + len(piece)] = piece

        try:
            self._download(write, lambda: None)
        except BaseException:
            with self._guard:
                self.bytes_available, self._memory = 0, None
            raise
        return memory.toreadonly()

    def _download(self, write: Callable[[bytes], None], begin: Callable[[], None]) -> None:
        """Write and verify all pieces; from the beginning, which ``begin`` prepares, once more before it is corrupt."""
        try:
            self._download_once(write, begin)
        except CorruptShard as error:
            _log.info("%s; fetched once more", error)
            self._download_once(write, begin)

    def _download_once(self, write: Callable[[bytes], None], begin: Callable[[], None]) -> None:
        sha256 = hashlib.sha256()
        with self._guard:  # ``read`` must not see a mixture
            self.bytes_available = 0
            begin()
        with self._first_pieces.asked() as has_begun:
            for piece in self._pieces():
                self._check_stopped()
                self.bytes_downloaded += len(piece)
                if self.bytes_available + len(piece) > self.shard.size:
                    raise self._corrupt(f"more than the {self.shard.size:,} bytes that the manifest says")
                write(piece)
                sha256.update(piece)
                self.bytes_available += len(piece)
                has_begun()
        if self.bytes_available != self.shard.size:
            raise self._corrupt(f"{self.bytes_available:,} bytes, but the manifest says {self.shard.size:,}")
        self._check_sha256(sha256.hexdigest())

    def _pieces(self) -> Iterator[bytes]:
        """The shard as it is in the store, its beginning first.

        By a request for so many bytes: a server that is asked for all of several shards reads ahead in each, and the
        slowest first piece came three times as late.
        """
        if self.beginning:
            yield self._tars.read(self.shard.key, start=0, size=self.beginning)
        yield from self._tars.iter_bytes(self.shard.key, start=self.beginning)

    def _hash(self, view: memoryview) -> str:
        sha256 = hashlib.sha256()
        for start in range(0, len(view), _HASH_BYTES):
            self._check_stopped()
            sha256.update(view[start : start + _HASH_BYTES])
        return sha256.hexdigest()

    def _check_sha256(self, actual: str) -> None:
        if actual != self.shard.sha256:
            raise self._corrupt(f"sha256 {actual[:12]}, but the manifest says {self.shard.sha256[:12]}")

    def _corrupt(self, finding: str) -> CorruptShard:
        return CorruptShard(f"{self.url}: {finding}; {REMEDY}")

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise StreamClosed(f"{self.url}: the stream was closed before it was here")


def key_of(shard: Shard) -> FetchKey:
    """Identifies a fetch: its two checksums, because two tars of the same bytes may name their samples differently.

    Of a shard of which some samples are masked, or a PartialShard, also by what it holds.
    """
    if isinstance(shard, PartialShard):
        return shard.sha256, f"{shard.index_sha256} {shard.selection}"
    return shard.sha256, shard.identity
