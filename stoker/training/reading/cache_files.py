"""The files of a cache folder: a content-addressed LRU cache on disk, shared by all processes of a machine.

``<sha256>`` is a whole file of that content; ``<sha256>.proven`` records that a file was hashed and found right, and
which file that was; ``<sha256>.index`` is a shard's index. A file that is being written is ``coming-<sha256>-<size>``;
its writer holds a lock (flock) on it, so what a dead process left can be told from what a living one writes. Price: to
make room, the whole folder is listed.
"""

import errno
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stoker.storage.boot import boot_id

# Names on disk, which other versions of this package read and write too.
_INCOMPLETE = "coming-"  # prefix of a file that is being written
_SMALL_INCOMPLETE = f"{_INCOMPLETE}note-"
_SMALL_WRITTEN_S = 60.0  # after which nobody writes a small file any more
_LOCK = ".stoker-lock"
_VERIFIED = ".proven"  # suffix of a record about a file, which may be outside this folder
_INDEX = ".index"
# The folder may hold files of other programs, which are not touched.
_OWN_NAME = re.compile(r"([0-9a-f]{64})(\.proven|\.index)?")
_INCOMPLETE_NAME = re.compile(rf"{_INCOMPLETE}[0-9a-f]{{64}}-([0-9]+)|{_SMALL_INCOMPLETE}\w+")
_WRITES_PER_CLEANUP = 256  # small files written before the folder's size is looked at again

Identity = tuple[str | int, ...]


class CacheFull(Exception):
    """The files that are being written already need all the room that the folder may have."""


def default_folder() -> Path:
    """A folder of this user's under the system's folder for temporary files."""
    return Path(tempfile.gettempdir()) / f"stoker-cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


class CacheFiles:
    """The files in the folder ``path``, ``limit`` bytes at most. Raises OSError where the folder cannot be used.

    Any process may remove a file at any time; who has it mapped keeps its bytes. A file is verified once: when it was
    written, or at its first use after the machine was started, because bytes that had not reached the disk are lost
    then. Other users may write into a shared folder: a link there is never written through.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit  # bytes
        self._writes = 0  # of small files
        self._owner_checked = path != default_folder()

    def open(self, sha256: str, size: int) -> BinaryIO | None:
        """The file of this content, marked as used now; None if it is not here. See ``is_verified``."""
        try:
            self._check_owner()
            file = (self.path / sha256).open("rb")
        except OSError:
            return None  # not here, or not readable: the caller fetches it, and then learns what is wrong
        try:
            stat = os.fstat(file.fileno())
            if stat.st_size == size:
                _mark_used(file.fileno(), stat)
                return file
        except OSError:
            pass  # as above
        file.close()
        return None

    def start_write(self, sha256: str, size: int) -> int | None:
        """A locked, empty file to write this content to; None while another process or thread writes it.

        Raises CacheFull.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_owner()
        with self._folder_lock():  # else writers that start together would each find the room taken by the others
            return self._lock_incomplete(sha256, size)

    def _lock_incomplete(self, sha256: str, size: int) -> int | None:
        path = self._incomplete_path(sha256, size)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The previous holder of the lock may have removed or renamed it: then the name is of another file now.
                if path.stat().st_ino == os.fstat(file).st_ino:
                    break
            except BlockingIOError:
                os.close(file)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        try:
            os.ftruncate(file, 0)  # bytes that a dead process left
            if not self._make_room(size, path.name):
                raise CacheFull
        except BaseException:
            self.discard(sha256, size)
            os.close(file)
            raise
        return file

    def commit(self, sha256: str, size: int, file: int) -> None:
        """Give a verified file its name. Close it after that: a process that waits for the lock then finds it."""
        if not boot_id():
            os.fsync(file)
        os.replace(self._incomplete_path(sha256, size), self.path / sha256)
        self.mark_verified(sha256, self.identity_of(sha256, os.fstat(file)))

    def discard(self, sha256: str, size: int) -> None:
        """Remove an incomplete file. Close it after that."""
        with suppress(FileNotFoundError):
            os.unlink(self._incomplete_path(sha256, size))

    def remove(self, sha256: str) -> None:
        """Remove a file whose content is not what its name says."""
        for suffix in (_VERIFIED, ""):
            with suppress(OSError):
                os.unlink(self.path / (sha256 + suffix))

    def bytes_written(self, sha256: str, size: int) -> int:
        """Bytes so far of a file that another process is writing."""
        with suppress(OSError):
            return self._incomplete_path(sha256, size).stat().st_size
        return 0

    def identity_of(self, sha256: str, stat: os.stat_result) -> Identity:
        """Identity of a file of this folder, in this run of the machine."""
        return (*identity(self.path / sha256, stat), boot_id())

    def is_verified(self, sha256: str, file: Identity) -> bool:
        """Whether a file was found to have this content, and was not touched since."""
        with suppress(OSError, ValueError):
            self._check_owner()
            with (self.path / (sha256 + _VERIFIED)).open("rb") as record:
                _mark_used(record.fileno(), os.fstat(record.fileno()))
                return bool(json.load(record) == list(file))
        return False

    def mark_verified(self, sha256: str, file: Identity) -> None:
        """Record that a file was found to have this content."""
        self._write_small(sha256 + _VERIFIED, json.dumps(file).encode())

    def read_index(self, sha256: str) -> bytes | None:
        """The shard index of this content, not verified; None if it is not here."""
        with suppress(OSError):
            self._check_owner()
            with (self.path / (sha256 + _INDEX)).open("rb") as file:
                _mark_used(file.fileno(), os.fstat(file.fileno()))
                return file.read()
        return None

    def write_index(self, sha256: str, payload: bytes) -> None:
        """Store a shard index."""
        self._write_small(sha256 + _INDEX, payload)

    @contextmanager
    def _folder_lock(self) -> Iterator[None]:
        file = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _incomplete_path(self, sha256: str, size: int) -> Path:
        return self.path / f"{_INCOMPLETE}{sha256}-{size}"

    def _check_owner(self) -> None:
        """Raise PermissionError if another user made the default folder: any user can create folders in /tmp."""
        if not self._owner_checked and hasattr(os, "getuid"):
            with suppress(FileNotFoundError):
                if self.path.lstat().st_uid != os.getuid():
                    raise PermissionError(errno.EACCES, "belongs to another user", str(self.path))
                self._owner_checked = True

    def _write_small(self, name: str, payload: bytes) -> None:
        """Write a small file whole, or not at all: without it the next run takes longer, and nothing else."""
        with suppress(OSError):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            self._writes += 1
            if self._writes % _WRITES_PER_CLEANUP == 0:
                self._make_room(len(payload), "")
            handle, temporary = tempfile.mkstemp(prefix=_SMALL_INCOMPLETE, dir=self.path)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(payload)
                os.replace(temporary, self.path / name)
            except OSError:
                os.unlink(temporary)
                raise

    def _make_room(self, size: int, own_name: str) -> bool:
        """Whether ``size`` more bytes fit, after removing the least recently used files and those of dead writers.

        ``own_name``: the incomplete file that the room is for.
        """
        files: dict[str, tuple[int, int, list[str]]] = {}  # by SHA-256: last use, bytes, paths
        total = size
        with os.scandir(self.path) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if match := _OWN_NAME.fullmatch(entry.name):
                        stat = entry.stat(follow_symlinks=False)
                        last_use, held, paths = files.get(match[1], (0, 0, []))
                        last_use = max(last_use, stat.st_atime_ns, stat.st_mtime_ns)
                        files[match[1]] = (last_use, held + stat.st_size, [*paths, entry.path])
                        total += stat.st_size
                    elif (match := _INCOMPLETE_NAME.fullmatch(entry.name)) and entry.name != own_name:
                        # Small ones are not locked, but written in a moment.
                        written = (
                            not match[1] and entry.stat(follow_symlinks=False).st_mtime > time.time() - _SMALL_WRITTEN_S
                        )
                        total += 0 if written or _remove_if_abandoned(Path(entry.path)) else int(match[1] or 0)
        for _, held, paths in sorted(files.values()):
            if total <= self.limit:
                break
            for path in paths:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            total -= held
        return total <= self.limit


def identity(path: Path, stat: os.stat_result) -> Identity:
    """Path, inode, size and time of change: one of them differs when a file was replaced or written to."""
    return str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns


def _mark_used(file: int, stat: os.stat_result) -> None:
    """Set a file's time of access to now; its time of change, a part of its identity, stays."""
    with suppress(OSError):  # the file is another user's
        os.utime(file, ns=(time.time_ns(), stat.st_mtime_ns))


def _remove_if_abandoned(path: Path) -> bool:
    """Remove an incomplete file whose writer is dead, which its lock tells. Returns whether it was removed."""
    with suppress(OSError):
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
            if path.stat().st_ino == os.fstat(file).st_ino:
                path.unlink()
                return True
        finally:
            os.close(file)
    return False
