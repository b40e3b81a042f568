"""Storage: bytes, samples, shards, manifests, stores. Imports no other layer, and its stores when they are used."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["open_store"]

if TYPE_CHECKING:
    from stoker.storage.stores.urls import open_store

# Every layer imports this one: the package is silent, unless a program sets up its logging.
logging.getLogger("stoker").addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    if name != "open_store":
        raise AttributeError(f"module 'stoker.storage' has no attribute {name!r}")
    value = import_module("stoker.storage.stores.urls").open_store
    globals()[name] = value
    return value
