"""The store that holds a version's tars."""

import os
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import open_store
from stoker.storage.versions.manifest import Manifest


def store_of_tars(store: Store, manifest: Manifest) -> Store:
    """The store of a version's tars: the corpus's ``store``, or another one, opened with the same credentials."""
    return store if manifest.tars is None else open_tars(manifest.tars, store)


def open_tars(url: str, beside: Store) -> Store:
    """The store at a URL; one in S3 uses the endpoint and credentials of the store ``beside``.

    Links to files are followed, also out of the folder: downloads from the Hugging Face hub are such links. Opens no
    connection. Raises StorageRefused for a URL of an unknown kind.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and isinstance(beside, S3Store):
        open_store(url)  # raises for an invalid URL
        return replace(beside, bucket=parts.netloc, prefix=unquote(parts.path).strip("/"))
    s3 = beside.s3 if isinstance(beside, DirectoryStore) else None
    if s3 is None:
        store = open_store(url)
    else:
        store = open_store(
            url, endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, region=s3.region
        )
    return replace(store, links=True) if isinstance(store, DirectoryStore) else store


def keys_of_tars(store: Store, manifest: Manifest) -> set[str]:
    """The keys of those of a version's tars that lie in ``store``, by whatever path, URL or links it leads to them."""
    keys = [shard.key for shard in manifest.shards]
    if manifest.tars is None:
        return set(keys)
    named = _below(f"{store.url}/", (f"{manifest.tars}/{key}" for key in keys))
    return named | _keys_by_address(store, manifest, keys)


def _keys_by_address(store: Store, manifest: Manifest, keys: Iterable[str]) -> set[str]:
    """The keys in ``store`` of external tars, found by where they really are: a folder has many names."""
    if isinstance(store, DirectoryStore):
        tars = store_of_tars(store, manifest)
        if isinstance(tars, DirectoryStore):
            root = os.path.join(os.path.realpath(store.root), "")
            return _below(root, (os.path.realpath(tars.root / key) for key in keys))
    elif isinstance(store, S3Store):
        tars = store_of_tars(store, manifest)
        if isinstance(tars, S3Store) and tars.bucket == store.bucket:  # its endpoint may have several names
            prefix = f"{store.prefix}/" if store.prefix else ""
            return _below(prefix, (f"{tars.prefix}/{key}".removeprefix("/") for key in keys))
    return set()


def _below(root: str, addresses: Iterable[str]) -> set[str]:
    return {address[len(root) :] for address in addresses if address.startswith(root)}
