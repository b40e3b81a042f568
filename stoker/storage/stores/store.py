"""What every object store offers, and how to open one by its URL."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Payload = bytes | bytearray | memoryview | Path  # a Path is uploaded without being held in memory


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in a listing."""

    key: str
    size: int  # bytes
    # Another one means that other bytes may be there: S3's entity tag, a file's time of change; "" if not known.
    mark: str = field(default="", compare=False)
    modified: float | None = field(
        default=None, compare=False
    )  # seconds since 1970 by the store's clock; None: unknown


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A write that has not ended: under way, or left by a process that died. Nobody sees it, but it takes room."""

    key: str  # of the object that it was to become; "" if nobody knows
    size: int  # bytes that are there
    modified: float  # seconds since 1970 by the store's clock
    name: str  # by which ``abandon`` finds it


class Store(Protocol):
    """Named bytes. Keys are slash-separated, relative, without ``.`` or ``..`` parts.

    Every implementation is safe to use from many threads, can be pickled to another process, opens no connection
    in its constructor, and passes ``tests/storage/contract.py``. Errors are those of ``stoker.storage.errors``
    alone; transient ones were already retried, bounded, before ``StorageUnavailable`` is raised.
    """

    @property
    def url(self) -> str:
        """What ``open_store`` was given; holds no secret."""

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from ``start``, at most ``size`` of them. Raises NotFound."""

    def pieces(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``start`` to its end, about a megabyte at a time. Raises NotFound.

        A stream that is cut goes on where it was cut, in the same object: StorageUnavailable if it was replaced.
        """

    def path(self, key: str) -> Path | None:
        """The file that holds the object, if it is one on this machine that may be mapped; None if it is none."""

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""

    def write(self, key: str, payload: Payload) -> None:
        """Put the object there whole or not at all, in place of any other."""

    def create(self, key: str, payload: Payload) -> None:
        """Put the object there whole, if there is none: raises AlreadyExists, also for a racing writer."""

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The objects whose keys begin with the prefix, in order of their keys (as UTF-8 bytes)."""

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The next parts of the keys under a prefix that ends with a slash (or is empty), in order, each once."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens if there is none."""

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """The writes under a prefix that have not ended; those whose keys nobody knows under the empty one."""

    def abandon(self, unfinished: Unfinished) -> None:
        """Remove what is there of it; nothing happens if it has ended. If somebody still writes it, that fails."""

    def probe(self) -> None:
        """Check once that the store can be reached and written, and honours create-only writes.

        Raises StorageRefused or StorageUnavailable with what to do about it.
        """
