"""Storage: bytes, samples, shards, manifests, stores. Imports no other layer."""

from stoker.storage.stores.urls import open_store

__all__ = ["open_store"]
