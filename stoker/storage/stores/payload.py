"""Payloads of writes: bytes in memory, or a local file."""

from pathlib import Path

from stoker.storage.errors import StorageRefused
from stoker.storage.stores.store import Payload


def read_payload(payload: Payload) -> bytes:
    """The whole payload, in memory. Raises StorageRefused for a file that cannot be read."""
    if isinstance(payload, Path):
        try:
            return payload.read_bytes()
        except OSError as error:
            raise unreadable_file(payload, error) from error
    return bytes(payload)


def size_of(payload: Payload) -> int:
    """The payload's size in bytes. Raises StorageRefused for a file that cannot be read."""
    if isinstance(payload, Path):
        try:
            return payload.stat().st_size
        except OSError as error:
            raise unreadable_file(payload, error) from error
    return payload.nbytes if isinstance(payload, memoryview) else len(payload)


def unreadable_file(path: Path, error: OSError) -> StorageRefused:
    """The error for a local file that cannot be uploaded."""
    return StorageRefused(f"{path}: cannot be read to be stored: {error.strerror or error}")


def read_slice(payload: Payload, start: int, size: int) -> bytes:
    """At most ``size`` bytes from offset ``start``. Raises StorageRefused for a file that cannot be read."""
    if not isinstance(payload, Path):
        return bytes(memoryview(payload).cast("B")[start : start + size])
    try:
        with payload.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise unreadable_file(payload, error) from error
