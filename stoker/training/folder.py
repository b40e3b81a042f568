"""The folder of a cache: whole, proven files named by their SHA-256, shared by the processes of a machine, bounded."""

import fcntl
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

_COMING = "coming-"  # beginning of the name of a file that is not whole
_PROVEN = ".proven"  # end of the name of a note on a file that lies elsewhere
_INDEX = ".index"

Identity = tuple[str | int, ...]


def default_folder() -> Path:
    """A folder of this user's under the system's folder for temporary files."""
    return Path(tempfile.gettempdir()) / f"stoker-cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


class Folder:
    """Files that anyone may remove at any time: who has one mapped keeps it. Raises OSError where it cannot be used."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit  # bytes

    def whole(self, sha256: str, size: int) -> Path | None:
        """The file of this content, marked as used now; None if it is not here."""
        path = self.path / sha256
        try:
            if path.stat().st_size != size:
                return None
            os.utime(path)
        except OSError:
            return None  # not here, or not ours to read: it is fetched, and then told what is wrong
        return path

    def begin(self, sha256: str, size: int) -> int | None:
        """A file for this content to be written to, open; None while another process, or thread, writes it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path / (_COMING + sha256)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return None
            # The one who had it locked may have removed or renamed it meanwhile: then this is not the file of the name.
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(file).st_ino:
                    break
            os.close(file)
        os.ftruncate(file, 0)  # what a process that died left
        self._make_room(size)
        return file

    def end(self, sha256: str, file: int) -> Path:
        """Let what was written be there under its name."""
        os.replace(self.path / (_COMING + sha256), self.path / sha256)
        os.close(file)  # only now: who waits for the lock must find the file
        return self.path / sha256

    def drop(self, sha256: str, file: int) -> None:
        """Remove what was written."""
        with suppress(FileNotFoundError):
            os.unlink(self.path / (_COMING + sha256))
        os.close(file)

    def progress(self, sha256: str) -> int:
        """Bytes of a file that another process is writing."""
        with suppress(OSError):
            return (self.path / (_COMING + sha256)).stat().st_size
        return 0

    def is_proven(self, sha256: str, file: Identity) -> bool:
        """Whether a file that lies elsewhere was found to have this content, and was not touched since."""
        with suppress(OSError, ValueError):
            note = json.loads((self.path / (sha256 + _PROVEN)).read_bytes())
            return bool(note == list(file))
        return False

    def prove(self, sha256: str, file: Identity) -> None:
        """Note that it was."""
        self._put(sha256 + _PROVEN, json.dumps(file).encode())

    def index(self, sha256: str) -> bytes | None:
        """The index of this content, if it is here; not checked."""
        with suppress(OSError):
            return (self.path / (sha256 + _INDEX)).read_bytes()
        return None

    def keep_index(self, sha256: str, payload: bytes) -> None:
        """Keep an index."""
        self._put(sha256 + _INDEX, payload)

    def _put(self, name: str, payload: bytes) -> None:
        """Write a small file whole; a folder that cannot be written costs the next run some time, and no more."""
        with suppress(OSError):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, made = tempfile.mkstemp(prefix=_COMING, dir=self.path)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(payload)
                os.replace(made, self.path / name)
            except OSError:
                os.unlink(made)
                raise

    def _make_room(self, size: int) -> None:
        """Remove what was not used for longest until so many bytes fit, and what dead processes left unfinished."""
        files = []
        for path in self.path.iterdir():
            with suppress(FileNotFoundError):
                stat = path.stat()
                if path.name.startswith(_COMING):
                    _remove_if_dead(path)
                else:
                    files.append((stat.st_mtime, stat.st_size, path))
        total = sum(file[1] for file in files) + size
        for _, held, path in sorted(files):
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= held


def identity(path: Path, stat: os.stat_result) -> Identity:
    """What changes when a file is replaced or written to."""
    return str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns


def _remove_if_dead(path: Path) -> None:
    """Remove a half-written file that nobody has locked any more."""
    with suppress(OSError):
        file = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
            if path.stat().st_ino == os.fstat(file).st_ino:
                path.unlink()
        finally:
            os.close(file)
