"""Objects of a store as memory-mapped bytes that were compared with their checksum.

An object that is a file here is mapped where it lies; another is downloaded to an unnamed temporary file. Price: the
whole object is read and hashed, also for a few bytes of it.
"""

import hashlib
import mmap
import tempfile
from typing import BinaryIO

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.store import Store

_CHUNK = 2**20  # bytes hashed at a time


def verified_view(store: Store, key: str, *, sha256: str, size: int) -> memoryview:
    """The bytes of an object, mapped as long as the view is held.

    Raises CorruptShard where they differ from the checksum; StorageError.
    """
    path = store.path(key)
    try:
        if path is not None:
            with path.open("rb") as file:
                view = _mapped(file)
            digest = hashlib.sha256()
            for start in range(0, len(view), _CHUNK):
                digest.update(view[start : start + _CHUNK])
            actual = digest.hexdigest()
        else:
            with tempfile.TemporaryFile(prefix="stoker-") as file:
                actual = _download(store, key, file)
                view = _mapped(file)
    except FileNotFoundError as error:
        raise NotFound(f"{store.url}/{key}: no such object") from error
    except OSError as error:
        raise StorageRefused(
            f"{store.url}/{key}: {error.strerror or error}; reading it needs {size:,} bytes"
        ) from error
    check(store, key, actual, sha256)
    return view


def verified_bytes(store: Store, key: str, *, sha256: str) -> bytes:
    """The bytes of a small object. Raises CorruptShard where they differ from the checksum; StorageError."""
    payload = store.read(key)
    check(store, key, hashlib.sha256(payload).hexdigest(), sha256)
    return payload


def check(store: Store, key: str, actual: str, sha256: str) -> None:
    """Raise CorruptShard if the SHA-256 of an object is not that of the manifest."""
    if actual != sha256:
        raise CorruptShard(
            f"{store.url}/{key}: sha256 {actual[:12]}, but the manifest says {sha256[:12]}; run `stoker verify`, then "
            "ingest the corpus again"
        )


def _mapped(file: BinaryIO) -> memoryview:
    file.seek(0, 2)
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b"")


def _download(store: Store, key: str, file: BinaryIO) -> str:
    """The SHA-256 of an object that is written to a file."""
    digest = hashlib.sha256()
    for chunk in store.iter_bytes(key):
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    return digest.hexdigest()
