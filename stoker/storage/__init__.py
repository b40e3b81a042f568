"""Storage: bytes, samples, shards, manifests, stores. Imports no other layer, and its stores when they are used."""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["open_store"]

if TYPE_CHECKING:
    from stoker.storage.stores.urls import open_store


def __getattr__(name: str) -> object:
    if name != "open_store":
        raise AttributeError(f"module 'stoker.storage' has no attribute {name!r}")
    value = import_module("stoker.storage.stores.urls").open_store
    globals()[name] = value
    return value
