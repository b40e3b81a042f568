"""The store at a URL, and what is seen of it without a request."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stoker.storage.errors import StorageRefused
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.s3_client import PATIENCE_S, S3Connection
from stoker.storage.stores.store import Store

_EXPECTED = "expected s3://bucket/prefix, file:///folder or a folder's path"
# What is surely meant as a URL, though it may lack a colon or a slash; any other text without :// is a folder's path.
_MISTYPED = re.compile(r"(s3[an]?|file|memory|gc?s|az|abfss?|wasbs?|https?|hdfs|s?ftp|ssh)(:/?/?|//)(.*)", re.I | re.S)
_KINDS = ("s3", "file")


def check_url(url: str) -> str:
    """A store's URL or a folder's path, the scheme in small letters. Raises StorageRefused for what can be neither.

    >>> check_url("S3://corpora/images"), check_url("./s3:/x")
    ('s3://corpora/images', './s3:/x')
    """
    if not url or "\0" in url:
        raise StorageRefused(f"store {url!r}: {_EXPECTED}")
    scheme, separator, rest = url.partition("://")
    if not separator and url != "memory:" and (match := _MISTYPED.fullmatch(url)):
        kind, path = match[1].lower(), match[3].lstrip("/").rpartition("@")[2]  # a password is not repeated
        meant = f"; did you mean {kind}://{'/' * (kind == 'file')}{path}?" if kind in _KINDS and path else ""
        raise StorageRefused(f"store {match[1]}{match[2]}{path}: no URL{meant or f'; {_EXPECTED}'}")
    if separator and scheme.lower() not in _KINDS:
        raise StorageRefused(f"store {scheme}://...: no such kind; {_EXPECTED}")
    return f"{scheme.lower()}://{rest}" if separator else url


def open_store(
    url: str,
    *,
    endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    region: str | None = None,
    patience_s: float | None = None,
) -> Store:
    """The store at a URL. Opens no connection. Raises StorageRefused for a URL of an unknown kind, or for a file.

    A store in a folder uses the S3 arguments too: for tars in S3 that its manifests refer to.

    Args:
        url: ``s3://bucket/prefix``, ``file:///folder``, a folder's path, or ``memory:`` for a new store in memory.
        endpoint: URL of the S3 server; without it AWS.
        access_key: of S3; without keys, boto3 looks for them in its usual places.
        secret_key: of S3.
        region: of S3; without it that of boto3's configuration, or us-east-1.
        patience_s: seconds that an S3 server which is busy or out of reach is waited for; without it a few, and 300 in
            streams and trainings. While it waits it logs a line now and then.

    >>> from stoker import open_store
    >>> open_store("/data/corpora").url
    '/data/corpora'
    >>> open_store("s3://corpora/images", endpoint="http://127.0.0.1:8333").url
    's3://corpora/images'
    """
    if url == "memory:":
        return MemoryStore()
    connection = S3Connection(endpoint or None, access_key or None, secret_key or None, region or None)
    url = check_url(url)
    if "://" not in url:
        return _folder(Path(url), connection)
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StorageRefused(f"store {url}: expected three slashes, as in file:///folder")
        return _folder(Path(unquote(parts.path)), connection)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise StorageRefused(f"store s3://{parts.hostname or ''}: expected s3://bucket/prefix and nothing else")
    return S3Store(
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        endpoint=connection.endpoint,
        access_key=connection.access_key,
        secret_key=connection.secret_key,
        region=connection.region,
        patience_s=patience_s,
    )


def with_patience(store: Store, seconds: float = PATIENCE_S) -> Store:
    """The same store, waiting so long for a server that is out of reach, unless its own patience was set."""
    return store.with_patience(seconds) if isinstance(store, S3Store) else store


def _folder(path: Path, s3: S3Connection) -> DirectoryStore:
    store = DirectoryStore(path, s3=s3)
    if store.root.is_file():
        raise StorageRefused(f"store {store.url}: a file; {_EXPECTED}")
    return store


def check_there(store: Store) -> None:
    """Raise StorageRefused for a folder that is not there, which to a reader of corpora is a wrong path."""
    if isinstance(store, DirectoryStore) and not store.root.is_dir():
        raise StorageRefused(f"store {store.url}: no such folder; check its path, and what STOKER_STORE says")


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
