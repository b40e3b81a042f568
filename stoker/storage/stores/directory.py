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
from stoker.storage.plain_file import NotPlain, check_plain, open_plain
from stoker.storage.stores.deprecated import DeprecatedNames
from stoker.storage.stores.key import check_key, check_prefix, is_key
from stoker.storage.stores.payload import unreadable_file
from stoker.storage.stores.probe import check_create_only
from stoker.storage.stores.s3_client import S3Connection
from stoker.storage.stores.store import Payload, PendingUpload, StoredObject

# Files are written here first, on the same file system as their final path. No key has a part that begins with a dot.
_PENDING = ".stoker"
_ABANDONED_S = 24 * 3600.0  # an incomplete file of this age has no writer any more
_MAX_RACES = 100  # times that another process removed a folder just made
_CHUNK = 2**20  # bytes
_BUSY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENFILE, errno.EMFILE}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_REMEDIES = {
    errno.EACCES: "check who owns the folder and its permissions",
    errno.EPERM: "check who owns the folder and its permissions",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the quota is used up; free some space and run again",
    errno.ENOTDIR: "a file lies where a folder is needed",
    errno.EEXIST: "a folder lies where a file is needed",
}


@dataclass(frozen=True)
class DirectoryStore(DeprecatedNames):
    """Objects are files below a directory.

    Writes are atomic and durable: a file appears complete and flushed to disk, or not at all. Files and folders whose
    names are not valid keys (hidden files, for example) are not listed. A link that leads out of the directory, or to
    nothing, is refused, also in a listing: that there is no such object must never be concluded from it. A link to a
    folder within is followed where a key or a prefix leads through it.
    """

    root: Path  # made by the first write
    links: bool = False  # follow symbolic links that lead out of ``root``
    s3: S3Connection | None = None  # for tars in S3 that a manifest in this store refers to

    def __post_init__(self) -> None:
        root = self.root.expanduser().absolute()
        # One folder has one URL, wherever a command that names it with .. is typed; versions of external tars hold it.
        object.__setattr__(self, "root", Path(os.path.realpath(root)) if ".." in root.parts else root)

    @property
    def url(self) -> str:
        """The directory's path."""
        return str(self.root)

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from ``start``, at most ``size`` of them. Raises NotFound."""
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"read from {start}, size {size}: expected none below 0")
        path = self._path(key)
        with self._translated_errors(key), _missing_below_file(), open_plain(path) as file:
            left = max(0, os.fstat(file.fileno()).st_size - start)
            wanted = left if size is None else min(size, left)
            payload = os.pread(file.fileno(), wanted, start)
            while len(payload) < wanted:  # Linux reads at most 2 GiB at a time
                more = os.pread(file.fileno(), wanted - len(payload), start + len(payload))
                if not more:
                    break
                payload += more
            return payload

    def iter_bytes(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``start`` to its end, a megabyte at a time. Raises NotFound."""
        path = self._path(key)
        with self._translated_errors(key), _missing_below_file(), open_plain(path) as file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                yield chunk

    def path(self, key: str) -> Path | None:
        """The object's file. Its bytes never change: a new object under the key is a new file."""
        path = self._path(key)
        return path if path.is_file() else None

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        path = self._path(key)
        with self._translated_errors(key), _missing_below_file():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder")
            check_plain(path)
            return path.stat().st_size

    def write(self, key: str, payload: Payload) -> None:
        """Put the whole object there or nothing, in place of any other."""
        path = self._path(key)
        with self._translated_errors(key), self._temporary_file(payload) as temporary:
            self._move_into_place(path, lambda: os.replace(temporary, path))

    def create(self, key: str, payload: Payload) -> None:
        """Put the whole object there if the key is free. Raises AlreadyExists."""
        path = self._path(key)
        exists = AlreadyExists(f"{self.url}/{key}: it is there already and is never overwritten")
        if path.is_dir():
            raise StorageRefused(f"{self.url}/{key}: a folder lies where a file is needed")
        if os.path.lexists(path):
            raise exists
        with self._translated_errors(key), self._temporary_file(payload) as temporary:
            try:
                # A link, not a rename: it fails when the name is taken, by any process.
                self._move_into_place(path, lambda: os.link(temporary, path))
            except FileExistsError:
                raise exists from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StorageRefused(
                    f"{self.url}: this file system has no hard links ({error.strerror}), so create-only writes are not "
                    "safe on it; choose another folder or an S3 store"
                ) from error

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects whose keys begin with the prefix, in order of their keys."""
        check_prefix(prefix)
        folder, _, beginning = prefix.rpartition("/")
        self._check_way(folder)
        yield from self._walk(folder, beginning)

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The folders right under a prefix that hold any object, and those that may: which cannot be listed."""
        folder = check_prefix(prefix).removesuffix("/")
        self._check_way(folder)
        for entry in self._entries(folder):
            if entry.is_symlink():
                if self._hides_folder(entry.path):
                    yield entry.name
            elif entry.is_dir(follow_symlinks=False):
                inside = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    listed = next(self._walk(inside, ""), None)
                except StorageRefused:
                    yield entry.name
                else:
                    if listed is not None:
                        yield entry.name

    def delete(self, key: str) -> None:
        """Remove the object, and the folders that it leaves empty; does nothing if there is no such object."""
        path = self._path(key)
        with self._translated_errors(key):
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

    def pending_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        """The incomplete files. Their keys are unknown."""
        if check_prefix(prefix):
            return
        pending = self._pending_folder()
        with self._translated_errors(_PENDING), contextlib.suppress(FileNotFoundError), os.scandir(pending) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield PendingUpload("", status.st_size, status.st_mtime, entry.name)

    def abort(self, upload: PendingUpload) -> None:
        """Remove an incomplete file; does nothing if it is gone."""
        with self._translated_errors(_PENDING), contextlib.suppress(FileNotFoundError):
            (self._pending_folder() / check_key(upload.upload_id)).unlink()

    def reopen(self) -> "DirectoryStore":
        """This store: it holds no connection."""
        return self

    def probe(self) -> None:
        """Check that the directory takes create-only writes; remove old incomplete files."""
        check_create_only(self)
        oldest = time.time() - _ABANDONED_S
        with contextlib.suppress(StorageError):
            for upload in self.pending_uploads():
                if upload.modified < oldest:
                    self.abort(upload)

    def _path(self, key: str) -> Path:
        """The object's path. Raises StorageRefused when a link on the way leads out of the directory."""
        path = self.root / check_key(key)
        if self.links:
            return path
        real = os.path.realpath(self.root)
        if not os.path.realpath(path).startswith(os.path.join(real, "")):
            raise StorageRefused(
                f"{self.url}/{key}: a link leads out of the store; it is not followed. Put there what it leads to, or "
                "remove it"
            )
        return path

    def _check_way(self, folder: str) -> None:
        """Raise StorageRefused for a folder to which a link out of the directory leads, or a link to nothing."""
        if not folder or self.links:
            return
        path = self._path(folder)
        if not path.exists():
            for key in (folder, *map(str, Path(folder).parents[:-1])):
                self._check_target(key)

    def _check_target(self, key: str) -> None:
        """Raise StorageRefused for a link to nothing."""
        path = self.root / key
        if path.is_symlink() and not path.exists() and path.is_symlink():  # twice: it may have been removed since
            raise StorageRefused(f"{self.url}/{key}: a link to nothing; put there what it should lead to, or remove it")

    def _hides_folder(self, path: str) -> bool:
        """Whether a link may lead to objects that no listing shows under another name beside it."""
        if self.links or (os.path.exists(path) and not os.path.isdir(path)):
            return False
        beside = os.path.dirname(os.path.realpath(path)) == os.path.realpath(os.path.dirname(path))
        return not (beside and os.path.isdir(path) and is_key(os.path.basename(os.path.realpath(path))))

    def _pending_folder(self, *, make: bool = False) -> Path:
        """The folder of incomplete files. Raises StorageRefused for a link: what it leads to is not ours."""
        pending = self.root / _PENDING
        try:
            status = os.lstat(pending)
        except (FileNotFoundError, NotADirectoryError):
            status = None
        if status is not None and stat.S_ISLNK(status.st_mode):
            raise StorageRefused(f"{pending}: a link where a folder is needed; remove it, or choose another folder")
        if make and (status is None or not stat.S_ISDIR(status.st_mode)):
            self._make_folder(pending)
        return pending

    def _walk(self, folder: str, beginning: str) -> Iterator[StoredObject]:
        for entry in self._entries(folder):
            if not entry.name.startswith(beginning):
                continue
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink() and not self.links:
                self._path(key)
                self._check_target(key)
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key, "")
            elif _is_file(entry):
                with contextlib.suppress(NotFound), self._translated_errors(key):  # deleted since
                    status = entry.stat()
                    token, changed = str(status.st_mtime_ns), str(status.st_ctime_ns)
                    yield StoredObject(key, status.st_size, token, status.st_mtime, changed)

    def _entries(self, folder: str) -> Sequence[os.DirEntry[str]]:
        try:
            with self._translated_errors(folder), _missing_below_file(), os.scandir(self.root / folder) as entries:
                named = [entry for entry in entries if is_key(entry.name)]
        except NotFound:
            return []
        # A folder sorts like its keys, with the slash after its name: "a-b" comes before "a/b".
        return sorted(named, key=lambda entry: f"{entry.name}{'/' * _is_folder(entry)}".encode())

    @contextlib.contextmanager
    def _temporary_file(self, payload: Payload) -> Iterator[Path]:
        """The payload in a hidden file, flushed to disk; the file is removed at the end."""
        pending = self._pending_folder(make=True)
        path = pending / uuid.uuid4().hex
        try:
            with path.open("xb", buffering=0) as file:
                if isinstance(payload, Path):
                    try:
                        source = payload.open("rb")
                    except OSError as error:
                        raise unreadable_file(payload, error) from error
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

    def _move_into_place(self, path: Path, move: Callable[[], None]) -> None:
        """Give the temporary file its name with ``move``, and flush the name to disk too."""
        for attempt in range(_MAX_RACES):
            try:
                self._make_folder(path.parent)
                move()
                break
            except FileNotFoundError:  # another process removed the folder just made
                if attempt + 1 == _MAX_RACES:
                    raise OSError(errno.EBUSY, "its folder keeps vanishing") from None
            except IsADirectoryError as error:
                raise OSError(errno.EEXIST, "a folder lies there") from error
        with contextlib.suppress(FileNotFoundError):  # deleted again already
            _flush(path.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self.root:
            self._make_folder(folder.parent)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError as error:
            with contextlib.suppress(FileNotFoundError):  # another process removed it again
                if not stat.S_ISDIR(folder.stat().st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        _flush(folder.parent)

    @contextlib.contextmanager
    def _translated_errors(self, key: str) -> Iterator[None]:
        """Raises StorageError in place of what the operating system raises."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"{self.url}/{key}: no such object") from error
        except IsADirectoryError as error:
            raise NotFound(f"{self.url}/{key}: no such object; a folder lies there") from error
        except NotPlain as error:
            raise StorageRefused(f"{self.url}/{key}: {error.strerror}; put the file back, or remove it") from error
        except OSError as error:
            message = f"{self.url}/{key}: {error.strerror or error}"
            if error.errno in _BUSY:
                raise StorageUnavailable(f"{message}; try again") from error
            raise StorageRefused(f"{message}; {_REMEDIES.get(error.errno or 0, 'choose another folder')}") from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file(follow_symlinks=False)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


@contextlib.contextmanager
def _missing_below_file() -> Iterator[None]:
    """Treats a file in place of a folder on the key's path as a missing object, which it is to a reader."""
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
