"""Objects of a store read and written by their checksum: whole, as a table, or as memory-mapped bytes.

To be mapped, an object that is a file here stays where it lies; another is downloaded to an unnamed temporary file.
One that differs from its checksum is read once more before it is called corrupt: bytes may be altered or cut off on
the way. Price: the whole object is read and hashed, also for a few bytes of it.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar

import pyarrow as pa

from stoker.storage.errors import AlreadyExists, CorruptObject, CorruptShard, NotFound, StorageRefused
from stoker.storage.plain_file import open_plain
from stoker.storage.shards import records
from stoker.storage.shards.index import Region, ShardIndex
from stoker.storage.shards.kinds import Kind
from stoker.storage.shards.mapped import map_file
from stoker.storage.shards.row_checksum import REMEDY
from stoker.storage.stores.store import Payload, Store

S = TypeVar("S")
T = TypeVar("T")
_log = logging.getLogger(__name__)

_CHUNK = 2**20  # bytes hashed at a time
_READS = 8  # at once, each of which waits for a server


def second_read(read: Callable[[], T]) -> T:
    """The result of a read that compares a checksum; it is made once more where it raises CorruptShard."""
    try:
        return read()
    except CorruptShard as error:
        _log.info("%s; read once more", error)
        return read()


def read_side_by_side(
    store: Store, items: Sequence[S], key_of: Callable[[S], str], read: Callable[[S], T]
) -> Iterator[T]:
    """What ``read`` makes of each item, whose object ``key_of`` names, in their order; several are read at a time.

    As many as there are cores where the objects are files here, since no more is gained.
    """
    if not items:
        return
    at_once = _READS if store.path(key_of(items[0])) is None else min(_READS, os.cpu_count() or 1)
    with ThreadPoolExecutor(at_once, thread_name_prefix="stoker-reads") as threads:
        yield from threads.map(read, items)


def verified_view(store: Store, key: str, *, sha256: str, size: int) -> memoryview:
    """The bytes of an object, mapped as long as the view is held.

    Raises CorruptObject where they differ from the checksum; StorageError.
    """
    return second_read(lambda: _view(store, key, sha256, size))


def _view(store: Store, key: str, sha256: str, size: int) -> memoryview:
    path = store.path(key)
    try:
        if path is not None:
            with open_plain(path) as file:
                view = map_file(file.fileno(), f"{store.url}/{key}")
            digest = hashlib.sha256()
            for start in range(0, len(view), _CHUNK):
                digest.update(view[start : start + _CHUNK])
            actual = digest.hexdigest()
        else:
            with tempfile.TemporaryFile(prefix="stoker-") as file:
                actual = _download(store, key, file)
                view = map_file(file.fileno(), f"{store.url}/{key}")
    except FileNotFoundError as error:
        raise NotFound(f"{store.url}/{key}: no such object") from error
    except OSError as error:
        raise StorageRefused(
            f"{store.url}/{key}: {error.strerror or error}; reading it needs {size:,} bytes"
        ) from error
    check(store, key, actual, sha256)
    return view


def verified_bytes(store: Store, key: str, *, sha256: str, size: int | None = None) -> bytes:
    """The bytes of a small object; of one that is longer than ``size`` no more than tells that.

    Raises CorruptObject where they differ from the checksum; StorageError.
    """

    def read() -> bytes:
        payload = store.read(key, size=None if size is None else size + 1)
        check(store, key, hashlib.sha256(payload).hexdigest(), sha256)
        return payload

    return second_read(read)


def verified_table(
    store: Store, key: str, kind: Kind, *, sha256: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of a Parquet object of a kind; only those of ``columns`` that it has, if given.

    Raises CorruptObject where its bytes differ from the checksum, or are no table of that kind; StorageError.
    """
    payload = verified_bytes(store, key, sha256=sha256)
    try:
        return kind.check(records.decode(payload, columns=columns), columns)
    except CorruptShard as error:
        raise CorruptObject(f"{store.url}/{key}: {error}; {REMEDY}", key) from error


def verified_sample(store: Store, key: str, index: ShardIndex, row: int) -> Region:
    """A sample's bytes of a tar, read by range and compared with its checksum, where its index has one.

    Raises CorruptShard naming tar and sample; StorageError.
    """

    def read() -> Region:
        spans = index.ranges(row)
        pieces = [memoryview(store.read(key, start=start, size=stop - start)) for start, stop in spans]
        region = index.region(row, pieces)
        index.check(row, region, f"{store.url}/{key}")
        return region

    return second_read(read)


def checksum(store: Store, key: str) -> str:
    """The SHA-256 of an object, read a megabyte at a time. Raises NotFound."""
    digest = hashlib.sha256()
    for chunk in store.iter_bytes(key):
        digest.update(chunk)
    return digest.hexdigest()


def put(store: Store, key: str, payload: Payload, *, sha256: str) -> None:
    """Create an object of known bytes, or put it in the place of one that differs from them."""
    try:
        store.create(key, payload)
    except AlreadyExists:
        if checksum(store, key) != sha256:
            store.write(key, payload)


def check(store: Store, key: str, actual: str, sha256: str) -> None:
    """Raise CorruptObject if the SHA-256 of an object is not that of the manifest."""
    if actual != sha256:
        raise CorruptObject(
            f"{store.url}/{key}: sha256 {actual[:12]}, but the manifest says {sha256[:12]}; {REMEDY}", key
        )


def _download(store: Store, key: str, file: BinaryIO) -> str:
    """The SHA-256 of an object that is written to a file."""
    digest = hashlib.sha256()
    for chunk in store.iter_bytes(key):
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    return digest.hexdigest()
