"""The folder of a cache: whole, proven files named by their SHA-256, shared by the processes of a machine, bounded."""

import errno
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

_COMING = "coming-"  # beginning of the name of a file that is not whole
_NOTE = f"{_COMING}note-"
_LOCK = ".stoker-lock"
_PROVEN = ".proven"  # end of the name of a note on a file, which may lie elsewhere
_INDEX = ".index"
# A folder may hold files of others, which are not touched.
_KEPT = re.compile(r"([0-9a-f]{64})(\.proven|\.index)?")
_UNFINISHED = re.compile(rf"{_COMING}[0-9a-f]{{64}}-([0-9]+)|{_NOTE}\w+")
_PUTS = 256  # small files between two looks at how much there is

Identity = tuple[str | int, ...]


class Full(Exception):
    """What is on its way already takes all the room that the folder may have."""


def default_folder() -> Path:
    """A folder of this user's under the system's folder for temporary files."""
    return Path(tempfile.gettempdir()) / f"stoker-cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


class Folder:
    """Files that anyone may remove at any time: who has one mapped keeps it. Raises OSError where it cannot be used.

    A file is proven once: when it was written, or before it is used for the first time after the machine was started,
    because what had not reached the disk then is lost.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit  # bytes
        self._puts = 0
        self._checked = path != default_folder()

    def open(self, sha256: str, size: int) -> BinaryIO | None:
        """The file of this content, marked as used now; None if it is not here. Whether it is proven: ``is_proven``."""
        try:
            self._check()
            file = (self.path / sha256).open("rb")
        except OSError:
            return None  # not here, or not ours to read: it is fetched, and then told what is wrong
        try:
            stat = os.fstat(file.fileno())
            if stat.st_size == size:
                _use(file.fileno(), stat)
                return file
        except OSError:
            pass  # as above
        file.close()
        return None

    def begin(self, sha256: str, size: int) -> int | None:
        """A file for this content to be written to, open; None while another process, or thread, writes it.

        Raises Full.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check()
        with self._alone():  # or of several that begin together each would find the room taken by the others
            return self._begin(sha256, size)

    def _begin(self, sha256: str, size: int) -> int | None:
        path = self._coming(sha256, size)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who had it locked may have removed or renamed it meanwhile: then this is not the file of the name.
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
            os.ftruncate(file, 0)  # what a process that died left
            if not self._make_room(size, path.name):
                raise Full
        except BaseException:
            self.drop(sha256, size)
            os.close(file)
            raise
        return file

    def end(self, sha256: str, size: int, file: int) -> None:
        """Let what was written and proven be there under its name. Close the file only then: who waits must find it."""
        if not _boot():
            os.fsync(file)
        os.replace(self._coming(sha256, size), self.path / sha256)
        self.prove(sha256, self.kept(sha256, os.fstat(file)))

    def drop(self, sha256: str, size: int) -> None:
        """Remove what was written. Close the file then."""
        with suppress(FileNotFoundError):
            os.unlink(self._coming(sha256, size))

    def remove(self, sha256: str) -> None:
        """Remove a file that is not what its name says."""
        for end in (_PROVEN, ""):
            with suppress(OSError):
                os.unlink(self.path / (sha256 + end))

    def progress(self, sha256: str, size: int) -> int:
        """Bytes of a file that another process is writing."""
        with suppress(OSError):
            return self._coming(sha256, size).stat().st_size
        return 0

    def kept(self, sha256: str, stat: os.stat_result) -> Identity:
        """Identity of a file of this folder."""
        return (*identity(self.path / sha256, stat), _boot())

    def is_proven(self, sha256: str, file: Identity) -> bool:
        """Whether a file was found to have this content, and was not touched since."""
        with suppress(OSError, ValueError):
            self._check()
            with (self.path / (sha256 + _PROVEN)).open("rb") as note:
                _use(note.fileno(), os.fstat(note.fileno()))
                return bool(json.load(note) == list(file))
        return False

    def prove(self, sha256: str, file: Identity) -> None:
        """Note that it was."""
        self._put(sha256 + _PROVEN, json.dumps(file).encode())

    def index(self, sha256: str) -> bytes | None:
        """The index of this content, if it is here; not checked."""
        with suppress(OSError):
            self._check()
            with (self.path / (sha256 + _INDEX)).open("rb") as file:
                _use(file.fileno(), os.fstat(file.fileno()))
                return file.read()
        return None

    def keep_index(self, sha256: str, payload: bytes) -> None:
        """Keep an index."""
        self._put(sha256 + _INDEX, payload)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        file = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _coming(self, sha256: str, size: int) -> Path:
        return self.path / f"{_COMING}{sha256}-{size}"

    def _check(self) -> None:
        """The folder that was not chosen lies where anyone may have made one of its name, with files of theirs."""
        if not self._checked and hasattr(os, "getuid"):
            with suppress(FileNotFoundError):
                if self.path.lstat().st_uid != os.getuid():
                    raise PermissionError(errno.EACCES, "belongs to another user", str(self.path))
                self._checked = True

    def _put(self, name: str, payload: bytes) -> None:
        """Write a small file whole; a folder that cannot be written costs the next run some time, and no more."""
        with suppress(OSError):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check()
            self._puts += 1
            if self._puts % _PUTS == 0:
                self._make_room(len(payload), "")
            handle, made = tempfile.mkstemp(prefix=_NOTE, dir=self.path)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(payload)
                os.replace(made, self.path / name)
            except OSError:
                os.unlink(made)
                raise

    def _make_room(self, size: int, own: str) -> bool:
        """Remove what was not used for longest until so many bytes fit, and what dead processes left unfinished."""
        files: dict[str, tuple[int, int, list[str]]] = {}  # by SHA-256: last use, bytes, paths
        total = size
        with os.scandir(self.path) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if found := _KEPT.fullmatch(entry.name):
                        stat = entry.stat(follow_symlinks=False)
                        used, held, paths = files.get(found[1], (0, 0, []))
                        used = max(used, stat.st_atime_ns, stat.st_mtime_ns)
                        files[found[1]] = (used, held + stat.st_size, [*paths, entry.path])
                        total += stat.st_size
                    elif (found := _UNFINISHED.fullmatch(entry.name)) and entry.name != own:
                        total += 0 if _removed_as_dead(Path(entry.path)) else int(found[1] or 0)
        for _, held, paths in sorted(files.values()):
            if total <= self.limit:
                break
            for path in paths:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            total -= held
        return total <= self.limit


def identity(path: Path, stat: os.stat_result) -> Identity:
    """What changes when a file is replaced or written to."""
    return str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns


def _use(file: int, stat: os.stat_result) -> None:
    """Mark a file as used now; its time of writing stays, by which it is known."""
    with suppress(OSError):  # not ours to mark
        os.utime(file, ns=(time.time_ns(), stat.st_mtime_ns))


def _removed_as_dead(path: Path) -> bool:
    """Remove a half-written file that nobody has locked any more."""
    with suppress(OSError):
        file = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
            if path.stat().st_ino == os.fstat(file).st_ino:
                path.unlink()
                return True
        finally:
            os.close(file)
    return False


@cache
def _boot() -> str:
    """Tells the runs of a machine apart; empty where the system does not."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
