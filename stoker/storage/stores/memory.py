"""A store in memory: for tests, and gone with its process."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stoker.storage.errors import AlreadyExists, NotFound
from stoker.storage.stores.key import check_key, check_prefix
from stoker.storage.stores.payload import read_whole
from stoker.storage.stores.probe import prove_create_only
from stoker.storage.stores.store import Payload, Stored, Unfinished

_PIECE = 2**20  # bytes


class MemoryStore:
    """Objects in a dictionary. Sent to another process, it is copied: the two then go their own ways."""

    url = "memory:"

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._written: dict[str, float] = {}  # when, by key
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:  # Any: what pickle wants
        with self._lock:
            return {"_objects": dict(self._objects), "_written": dict(self._written)}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        self._objects, self._written = state["_objects"], state["_written"]
        self._lock = threading.Lock()

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from ``start``, at most ``size`` of them. Raises NotFound."""
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"read from {start}, size {size}: expected none below 0")
        found = self._objects.get(check_key(key))
        if found is None:
            raise NotFound(f"{self.url}{key}: no such object")
        return found[start:] if size is None else found[start : start + size]

    def pieces(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``start`` on, piece by piece. Raises NotFound."""
        whole = self.read(key)
        for at in range(start, len(whole), _PIECE):
            yield whole[at : at + _PIECE]

    def path(self, key: str) -> Path | None:
        """None: no object is a file."""
        return None

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        found = self._objects.get(check_key(key))
        if found is None:
            raise NotFound(f"{self.url}{key}: no such object")
        return len(found)

    def write(self, key: str, payload: Payload) -> None:
        """Put the object there, in place of any other."""
        check_key(key)
        whole = read_whole(payload)
        with self._lock:
            self._objects[key] = whole
            self._written[key] = time.time()

    def create(self, key: str, payload: Payload) -> None:
        """Put the object there, if there is none. Raises AlreadyExists."""
        check_key(key)
        whole = read_whole(payload)
        with self._lock:
            if key in self._objects:
                raise AlreadyExists(f"{self.url}{key}: it is there already and is never overwritten")
            self._objects[key] = whole
            self._written[key] = time.time()

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The objects whose keys begin with the prefix, in order of their keys."""
        check_prefix(prefix)
        with self._lock:
            found = [
                Stored(key, len(payload), modified=self._written[key])
                for key, payload in self._objects.items()
                if key.startswith(prefix)
            ]
        return iter(sorted(found, key=lambda stored: stored.key.encode()))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The folders right under a prefix."""
        check_prefix(prefix)
        with self._lock:
            rests = [key[len(prefix) :] for key in self._objects if key.startswith(prefix)]
        return iter(
            sorted({rest.split("/")[0] for rest in rests if "/" in rest}, key=lambda name: (name + "/").encode())
        )

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens if there is none."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)
            self._written.pop(key, None)

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """None: a write here is at once."""
        check_prefix(prefix)
        return iter(())

    def abandon(self, unfinished: Unfinished) -> None:
        """Nothing to do."""

    def probe(self) -> None:
        """Check create-only writes."""
        prove_create_only(self)
