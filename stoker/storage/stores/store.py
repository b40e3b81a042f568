"""The interface of an object store, and what its listings hold."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Payload = bytes | bytearray | memoryview | Path  # a Path is uploaded without being held in memory


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a listing."""

    key: str
    size: int  # bytes
    # Changes when the object's bytes may have changed: S3's entity tag, a file's time of change; "" if unknown.
    change_token: str = field(default="", compare=False)
    # Seconds since 1970 by the store's clock; None if unknown.
    modified: float | None = field(default=None, compare=False)
    # Of a file: when its bytes, name or rights last changed, which no program can set back, as it can the time that is
    # in ``change_token``; "" in other stores, whose tokens cannot be set.
    file_changed: str = field(default="", compare=False)

    @property
    def mark(self) -> str:
        """Old name of ``change_token``."""
        warnings.warn("StoredObject.mark is now called change_token", DeprecationWarning, stacklevel=2)
        return self.change_token


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload that is not complete: under way, or left by a process that died. No reader sees it; it takes space."""

    key: str  # of the object that it will become; "" if unknown
    size: int  # bytes uploaded so far
    modified: float  # seconds since 1970 by the store's clock
    upload_id: str  # by which ``abort`` finds it


class Store(Protocol):
    """An object store: bytes under keys, in a directory, in S3 or in memory. ``open_store`` opens one by its URL.

    Keys are slash-separated and relative, without ``.`` or ``..`` parts. Every implementation can be used from many
    threads, can be pickled to another process, opens no connection in its constructor, and passes
    ``stoker.testing.StoreContract``. It raises the errors of ``stoker.storage.errors`` alone. Transient errors were
    already retried, a bounded number of times, before StorageUnavailable is raised.

    >>> from stoker import open_store
    >>> store = open_store("memory:")
    >>> store.create("digits/readme.txt", b"ten digits")
    >>> store.read("digits/readme.txt", start=4, size=6)
    b'digits'
    >>> [(stored.key, stored.size) for stored in store.list("digits/")]
    [('digits/readme.txt', 10)]
    """

    @property
    def url(self) -> str:
        """The URL by which ``open_store`` opens it; holds no secret."""

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from offset ``start``, at most ``size`` of them (None: to its end). Raises NotFound."""

    def iter_bytes(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from offset ``start`` to its end, about a megabyte at a time. Raises NotFound.

        A broken connection is resumed where it broke, in the same object: StorageUnavailable if it was replaced.
        """

    def path(self, key: str) -> Path | None:
        """The local file that holds the object and may be memory-mapped; None if there is none."""

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""

    def write(self, key: str, payload: Payload) -> None:
        """Put the whole object there or nothing, in place of any other."""

    def create(self, key: str, payload: Payload) -> None:
        """Put the whole object there if the key is free. Raises AlreadyExists, also when another writer is faster."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects whose keys begin with the prefix, in order of their keys (as UTF-8 bytes)."""

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The next parts of the keys under a prefix that ends with a slash (or is empty), in order, without repeats."""

    def delete(self, key: str) -> None:
        """Remove the object; does nothing if there is none."""

    def pending_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        """The incomplete uploads under a prefix; those whose keys are unknown under the empty prefix."""

    def abort(self, upload: PendingUpload) -> None:
        """Remove an incomplete upload; does nothing if it has ended. A writer that is still active fails."""

    def reopen(self) -> "Store":
        """The same store with connections and locks of its own: for a process that was forked."""
        return self

    def probe(self) -> None:
        """Check once that the store can be reached and written, and honours create-only writes.

        Raises StorageRefused or StorageUnavailable with what to do about it.
        """
