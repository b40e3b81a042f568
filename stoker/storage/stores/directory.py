"""A store in a directory of a local or shared file system."""

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.storage.errors import AlreadyExists, NotFound, StorageError, StorageRefused, StorageUnavailable
from stoker.storage.stores.key import check_key, check_prefix, is_key
from stoker.storage.stores.payload import unreadable
from stoker.storage.stores.probe import prove_create_only
from stoker.storage.stores.s3_client import Access
from stoker.storage.stores.store import Payload, Stored, Unfinished

# Half-written files wait here, on the same file system as their place; a name with a dot is no key's.
_HIDDEN = ".stoker"
_ABANDONED_S = 24 * 3600.0
_RACES = 100
_PIECE = 2**20  # bytes
_BUSY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENFILE, errno.EMFILE}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NEXT = {
    errno.EACCES: "check who owns the folder and its permissions",
    errno.EPERM: "check who owns the folder and its permissions",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the quota is used up; free some space and run again",
    errno.ENOTDIR: "a file lies where a folder is needed",
    errno.EEXIST: "a folder lies where a file is needed",
}


@dataclass(frozen=True)
class DirectoryStore:
    """Objects are files below ``root``, which is made by the first write.

    A file appears whole, flushed to disk, under its name or not at all. Links that lead out of ``root`` are not
    followed unless ``links`` says so; files and folders whose names are no keys (hidden ones, say) are not listed.
    ``s3``: how a store in S3 is reached that a manifest here names.
    """

    root: Path
    links: bool = False
    s3: Access | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.expanduser().absolute())

    @property
    def url(self) -> str:
        """The directory's path."""
        return str(self.root)

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from ``start``, at most ``size`` of them. Raises NotFound."""
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"read from {start}, size {size}: expected none below 0")
        path = self._path(key)
        with self._told(key), _found(), path.open("rb", buffering=0) as file:
            left = max(0, os.fstat(file.fileno()).st_size - start)
            wanted = left if size is None else min(size, left)
            payload = os.pread(file.fileno(), wanted, start)
            while len(payload) < wanted:  # Linux reads at most 2 GiB at a time
                more = os.pread(file.fileno(), wanted - len(payload), start + len(payload))
                if not more:
                    break
                payload += more
            return payload

    def pieces(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``start`` on, piece by piece. Raises NotFound."""
        path = self._path(key)
        with self._told(key), _found(), path.open("rb", buffering=0) as file:
            file.seek(start)
            while piece := file.read(_PIECE):
                yield piece

    def path(self, key: str) -> Path | None:
        """The object's file: what replaces the object replaces the file, whose bytes never change."""
        path = self._path(key)
        return path if path.is_file() else None

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        path = self._path(key)
        with self._told(key), _found():
            if path.is_dir():
                raise FileNotFoundError(errno.ENOENT, "a folder")
            return path.stat().st_size

    def write(self, key: str, payload: Payload) -> None:
        """Put the object there whole or not at all, in place of any other."""
        path = self._path(key)
        with self._told(key), self._written(payload) as whole:
            self._place(path, lambda: os.replace(whole, path))

    def create(self, key: str, payload: Payload) -> None:
        """Put the object there whole, if there is none. Raises AlreadyExists."""
        path = self._path(key)
        exists = AlreadyExists(f"{self.url}/{key}: it is there already and is never overwritten")
        if path.is_dir():
            raise StorageRefused(f"{self.url}/{key}: a folder lies where a file is needed")
        if os.path.lexists(path):
            raise exists
        with self._told(key), self._written(payload) as whole:
            try:
                # A link, not a rename: it fails when the name is taken, whoever took it.
                self._place(path, lambda: os.link(whole, path))
            except FileExistsError:
                raise exists from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StorageRefused(
                    f"{self.url}: this file system has no hard links ({error.strerror}), so create-only writes are not "
                    "safe on it; choose another folder or an S3 store"
                ) from error

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The objects whose keys begin with the prefix, in order of their keys."""
        check_prefix(prefix)
        folder, _, beginning = prefix.rpartition("/")
        yield from self._walk(folder, beginning)

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The folders right under a prefix that hold any object."""
        folder = check_prefix(prefix).removesuffix("/")
        for entry in self._entries(folder):
            if entry.is_dir(follow_symlinks=False):
                inside = f"{folder}/{entry.name}" if folder else entry.name
                if next(self._walk(inside, ""), None) is not None:
                    yield entry.name

    def delete(self, key: str) -> None:
        """Remove the object, and the folders that it leaves empty; nothing happens if there is none."""
        path = self._path(key)
        with self._told(key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            except (IsADirectoryError, PermissionError):
                if path.is_dir():
                    return
                raise
            for folder in path.parents:
                if folder == self.root:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break  # not empty, or another writer was faster

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """The half-written files, which do not tell what they were to become."""
        if check_prefix(prefix):
            return
        hidden = self.root / _HIDDEN
        with self._told(_HIDDEN), contextlib.suppress(FileNotFoundError), os.scandir(hidden) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    yield Unfinished("", found.st_size, found.st_mtime, entry.name)

    def abandon(self, unfinished: Unfinished) -> None:
        """Remove a half-written file; nothing happens if it is gone."""
        with self._told(_HIDDEN), contextlib.suppress(FileNotFoundError):
            (self.root / _HIDDEN / check_key(unfinished.name)).unlink()

    def probe(self) -> None:
        """Check that the directory takes create-only writes; clear away old half-written files."""
        prove_create_only(self)
        oldest = time.time() - _ABANDONED_S
        with contextlib.suppress(StorageError):
            for left in self.unfinished():
                if left.modified < oldest:
                    self.abandon(left)

    def _path(self, key: str) -> Path:
        """Where the object lies; refused when a link on the way leads out of the directory."""
        path = self.root / check_key(key)
        if self.links:
            return path
        real = os.path.realpath(self.root)
        if not os.path.realpath(path).startswith(os.path.join(real, "")):
            raise StorageRefused(f"{self.url}/{key}: a link leads out of the store; it is not followed")
        return path

    def _walk(self, folder: str, beginning: str) -> Iterator[Stored]:
        for entry in self._entries(folder):
            if not entry.name.startswith(beginning):
                continue
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key, "")
            elif entry.is_file():
                with contextlib.suppress(FileNotFoundError, StorageRefused):  # deleted since, or leads out
                    self._path(key)
                    found = entry.stat()
                    yield Stored(key, found.st_size, str(found.st_mtime_ns), found.st_mtime)

    def _entries(self, folder: str) -> Sequence[os.DirEntry[str]]:
        try:
            with self._told(folder), _found(), os.scandir(self.root / folder) as entries:
                found = [entry for entry in entries if is_key(entry.name)]
        except NotFound:
            return []
        # A folder sorts as its keys do, by what follows its name: "a-b" comes before "a/b".
        return sorted(found, key=lambda entry: (entry.name + "/" * entry.is_dir(follow_symlinks=False)).encode())

    @contextlib.contextmanager
    def _written(self, payload: Payload) -> Iterator[Path]:
        """The payload in a hidden file, flushed to disk, gone at the end."""
        hidden = self.root / _HIDDEN
        self._make(hidden)
        path = hidden / uuid.uuid4().hex
        try:
            with path.open("xb", buffering=0) as file:
                if isinstance(payload, Path):
                    try:
                        source = payload.open("rb")
                    except OSError as error:
                        raise unreadable(payload, error) from error
                    with source:
                        shutil.copyfileobj(source, file, 2**22)
                else:
                    left = memoryview(payload).cast("B")
                    while left:
                        left = left[file.write(left) :]
                os.fsync(file.fileno())
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _place(self, path: Path, put: Callable[[], None]) -> None:
        """Give the hidden file its name, and flush that to disk too."""
        for attempt in range(_RACES):
            try:
                self._make(path.parent)
                put()
                break
            except FileNotFoundError:  # a deleting process took away the folder just made
                if attempt + 1 == _RACES:
                    raise OSError(errno.EBUSY, "its folder keeps vanishing") from None
            except IsADirectoryError as error:
                raise OSError(errno.EEXIST, "a folder lies there") from error
        with contextlib.suppress(FileNotFoundError):  # deleted again already
            _flush(path.parent)

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self.root:
            self._make(folder.parent)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError as error:
            with contextlib.suppress(FileNotFoundError):  # a deleting process took it away again
                if not stat.S_ISDIR(folder.stat().st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        _flush(folder.parent)

    @contextlib.contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Say what the operating system refused, in our words."""
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFound(f"{self.url}/{key}: no such object") from error
        except OSError as error:
            said = f"{self.url}/{key}: {error.strerror or error}"
            if error.errno in _BUSY:
                raise StorageUnavailable(f"{said}; try again") from error
            raise StorageRefused(f"{said}; {_NEXT.get(error.errno or 0, 'choose another folder')}") from error


@contextlib.contextmanager
def _found() -> Iterator[None]:
    """To a reader, a file on the way to an object means that there is no such object."""
    try:
        yield
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error


def _flush(folder: Path) -> None:
    """Flush a folder's names to disk, so that a file just placed there survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
