"""Storage: bytes, samples, shards, manifests, stores. Knows nobody above it."""

from stoker.storage.stores.urls import open_store

__all__ = ["open_store"]
