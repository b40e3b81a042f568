"""The store at a URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from stoker.storage.errors import StorageRefused
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.s3_client import Access
from stoker.storage.stores.store import Store


def open_store(
    url: str,
    *,
    endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    region: str | None = None,
) -> Store:
    """The store at a URL: ``s3://bucket/prefix``, ``file:///folder``, a folder's path, or ``memory:``.

    Opens no connection. The keywords are for S3, also for tars there that a corpus in a folder names: without keys,
    boto3's own chain finds them. Raises StorageRefused for a URL of no known kind.

    >>> open_store("/data/corpora").url
    '/data/corpora'
    """
    if url == "memory:":
        return MemoryStore()
    access = Access(endpoint or None, access_key or None, secret_key or None, region or None)
    if "://" not in url:
        if not url or "\0" in url:
            raise StorageRefused(f"store {url!r}: expected s3://bucket/prefix or a folder")
        return DirectoryStore(Path(url), s3=access)
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StorageRefused(f"store {url}: expected three slashes, as in file:///folder")
        return DirectoryStore(Path(unquote(parts.path)), s3=access)
    if parts.scheme == "s3":
        if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise StorageRefused(f"store s3://{parts.hostname or ''}: expected s3://bucket/prefix and nothing else")
        return S3Store(
            bucket=parts.netloc,
            prefix=unquote(parts.path).strip("/"),
            endpoint=access.endpoint,
            access_key=access.access_key,
            secret_key=access.secret_key,
            region=access.region,
        )
    raise StorageRefused(f"store {parts.scheme}://...: no such kind; expected s3://bucket/prefix or a folder")
