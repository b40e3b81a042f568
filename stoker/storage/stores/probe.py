"""Checks that a store honours create-only writes. Every other guarantee depends on it."""

import contextlib
import uuid

from stoker.storage.errors import AlreadyExists, StorageError, StorageRefused
from stoker.storage.stores.store import Store


def check_create_only(store: Store) -> None:
    """Create a small object, try to create it again with other bytes, read it and delete it.

    Raises StorageRefused when the second write succeeds or the bytes differ, and whatever error the store raises.
    """
    key = f"_probe/{uuid.uuid4().hex}"
    store.create(key, b"first")
    try:
        try:
            store.create(key, b"second")
        except AlreadyExists:
            pass
        else:
            raise StorageRefused(
                f"{store.url}: it ignores create-only writes (If-None-Match: *), so two ingests could overwrite "
                "each other's versions; use a server that honours them (AWS S3, SeaweedFS 4, MinIO, R2) or a directory"
            )
        content = store.read(key)
        if content != b"first":
            raise StorageRefused(f"{store.url}: returned other bytes than were written ({content[:40]!r}); not usable")
    finally:
        with contextlib.suppress(StorageError):
            store.delete(key)
