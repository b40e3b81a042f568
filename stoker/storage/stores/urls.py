"""The store at a URL, and what is seen of it without a request."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stoker.storage.errors import StorageRefused
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.s3_client import S3Connection
from stoker.storage.stores.store import Store


def open_store(
    url: str,
    *,
    endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    region: str | None = None,
) -> Store:
    """The store at a URL. Opens no connection. Raises StorageRefused for a URL of an unknown kind.

    A store in a folder uses the S3 arguments too: for tars in S3 that its manifests refer to.

    Args:
        url: ``s3://bucket/prefix``, ``file:///folder``, a folder's path, or ``memory:`` for a new store in memory.
        endpoint: URL of the S3 server; without it AWS.
        access_key: of S3; without keys, boto3 looks for them in its usual places.
        secret_key: of S3.
        region: of S3; without it that of boto3's configuration, or us-east-1.

    >>> from stoker import open_store
    >>> open_store("/data/corpora").url
    '/data/corpora'
    >>> open_store("s3://corpora/images", endpoint="http://127.0.0.1:8333").url
    's3://corpora/images'
    """
    if url == "memory:":
        return MemoryStore()
    connection = S3Connection(endpoint or None, access_key or None, secret_key or None, region or None)
    if "://" not in url:
        if not url or "\0" in url:
            raise StorageRefused(f"store {url!r}: expected s3://bucket/prefix or a folder")
        return DirectoryStore(Path(url), s3=connection)
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StorageRefused(f"store {url}: expected three slashes, as in file:///folder")
        return DirectoryStore(Path(unquote(parts.path)), s3=connection)
    if parts.scheme == "s3":
        if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise StorageRefused(f"store s3://{parts.hostname or ''}: expected s3://bucket/prefix and nothing else")
        return S3Store(
            bucket=parts.netloc,
            prefix=unquote(parts.path).strip("/"),
            endpoint=connection.endpoint,
            access_key=connection.access_key,
            secret_key=connection.secret_key,
            region=connection.region,
        )
    raise StorageRefused(f"store {parts.scheme}://...: no such kind; expected s3://bucket/prefix or a folder")


def check_access(store: Store) -> None:
    """Raise StorageRefused for a store that cannot be written, as far as is seen without a request or a write.

    Of a folder that is its kind and permissions; of S3 whether there are credentials at all.
    """
    if isinstance(store, DirectoryStore):
        there = next(path for path in (store.root, *store.root.parents) if os.path.lexists(path))
        if not there.is_dir():
            raise StorageRefused(f"store {store.url}: {there} is no folder; choose another")
        if not os.access(there, os.W_OK | os.X_OK):
            raise StorageRefused(f"store {store.url}: {there} may not be written; check its owner, or choose another")
    elif isinstance(store, S3Store):
        S3Connection(store.endpoint, store.access_key, store.secret_key, store.region).check_credentials(store.url)
