"""What is written to a store: bytes in memory, or a file."""

from pathlib import Path

from stoker.storage.errors import StorageRefused
from stoker.storage.stores.store import Payload


def read_whole(payload: Payload) -> bytes:
    """All of it, in memory. Raises StorageRefused for a file that cannot be read."""
    if isinstance(payload, Path):
        try:
            return payload.read_bytes()
        except OSError as error:
            raise unreadable(payload, error) from error
    return bytes(payload)


def size_of(payload: Payload) -> int:
    """Its size in bytes. Raises StorageRefused for a file that cannot be read."""
    if isinstance(payload, Path):
        try:
            return payload.stat().st_size
        except OSError as error:
            raise unreadable(payload, error) from error
    return payload.nbytes if isinstance(payload, memoryview) else len(payload)


def unreadable(path: Path, error: OSError) -> StorageRefused:
    """What to say of a local file that was to be stored."""
    return StorageRefused(f"{path}: cannot be read to be stored: {error.strerror or error}")


def read_piece(payload: Payload, start: int, size: int) -> bytes:
    """At most ``size`` bytes of it from ``start``. Raises StorageRefused for a file that cannot be read."""
    if not isinstance(payload, Path):
        return bytes(memoryview(payload).cast("B")[start : start + size])
    try:
        with payload.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise unreadable(payload, error) from error
