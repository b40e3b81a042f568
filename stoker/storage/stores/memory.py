"""A store in memory, for tests and examples; it ends with its process."""

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stoker.storage.errors import AlreadyExists, NotFound
from stoker.storage.stores.deprecated import DeprecatedNames
from stoker.storage.stores.key import check_key, check_prefix
from stoker.storage.stores.payload import read_payload
from stoker.storage.stores.probe import check_create_only
from stoker.storage.stores.store import Payload, PendingUpload, StoredObject

_CHUNK = 2**20  # bytes


class MemoryStore(DeprecatedNames):
    """Objects in a dictionary. Pickling it to another process copies it: each copy is then independent."""

    url = "memory:"

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._modified: dict[str, float] = {}  # seconds since 1970, by key
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:  # Any: what pickle wants
        with self._lock:
            return {"_objects": dict(self._objects), "_modified": dict(self._modified)}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        self._objects, self._modified = state["_objects"], state["_modified"]
        self._lock = threading.Lock()

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from ``start``, at most ``size`` of them. Raises NotFound."""
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"read from {start}, size {size}: expected none below 0")
        payload = self._get(key)
        return payload[start:] if size is None else payload[start : start + size]

    def iter_bytes(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``start`` to its end, a megabyte at a time. Raises NotFound."""
        payload = self._get(key)
        for offset in range(start, len(payload), _CHUNK):
            yield payload[offset : offset + _CHUNK]

    def path(self, key: str) -> Path | None:
        """None: no object is a file."""
        return None

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        return len(self._get(key))

    def write(self, key: str, payload: Payload) -> None:
        """Put the object there, in place of any other."""
        check_key(key)
        content = read_payload(payload)
        with self._lock:
            self._objects[key] = content
            self._modified[key] = time.time()

    def create(self, key: str, payload: Payload) -> None:
        """Put the object there if the key is free. Raises AlreadyExists."""
        check_key(key)
        content = read_payload(payload)
        with self._lock:
            if key in self._objects:
                raise AlreadyExists(f"{self.url}{key}: it is there already and is never overwritten")
            self._objects[key] = content
            self._modified[key] = time.time()

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects whose keys begin with the prefix, in order of their keys."""
        check_prefix(prefix)
        with self._lock:
            listed = [
                StoredObject(key, len(payload), _change_token(payload), self._modified[key])
                for key, payload in self._objects.items()
                if key.startswith(prefix)
            ]
        return iter(sorted(listed, key=lambda stored: stored.key.encode()))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The folders right under a prefix."""
        check_prefix(prefix)
        with self._lock:
            relative = [key[len(prefix) :] for key in self._objects if key.startswith(prefix)]
        names = {key.split("/")[0] for key in relative if "/" in key}
        return iter(sorted(names, key=lambda name: f"{name}/".encode()))

    def delete(self, key: str) -> None:
        """Remove the object; does nothing if there is none."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)
            self._modified.pop(key, None)

    def pending_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Always empty: a write to memory is complete at once."""
        check_prefix(prefix)
        return iter(())

    def abort(self, upload: PendingUpload) -> None:
        """Does nothing: there are no incomplete uploads."""

    def reopen(self) -> "MemoryStore":
        """This store: a forked process has a copy of the objects."""
        return self

    def probe(self) -> None:
        """Check create-only writes."""
        check_create_only(self)

    def _get(self, key: str) -> bytes:
        payload = self._objects.get(check_key(key))
        if payload is None:
            raise NotFound(f"{self.url}{key}: no such object")
        return payload


def _change_token(payload: bytes) -> str:
    """What S3 calls an entity tag."""
    return hashlib.md5(payload, usedforsecurity=False).hexdigest()
