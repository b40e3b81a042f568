"""Tombstones: what the owner of a corpus took out and keeps out, as hashes alone.

A tombstone is a kind and the SHA-256 of kind and value; it holds no content. It counts as soon as its file is there,
and files are never changed or removed. Values are compared as they are: the caller brings URLs, hosts and pages into
the form in which they are asked for.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.errors import CorruptShard, StorageRefused, StorageUnavailable
from stoker.storage.shards.blank import is_blank
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.memory import numbered, sealed_parquet, sealed_writer
from stoker.storage.versions.memory.sealed_parquet import SealedReader, StoredTable
from stoker.storage.versions.memory.sealed_writer import Written
from stoker.storage.versions.memory.witness import newest_witness, write_witness
from stoker.storage.versions.verified import second_read

KINDS = ("url", "key", "page", "host", "author", "sha256")
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("sha256", pa.binary(32)),  # of kind, a zero byte, and value
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)
_REMEDY = "restore it from a copy: what it takes out is not known otherwise"


def hash_of(kind: str, value: str) -> bytes:
    """What a tombstone holds of a value.

    >>> hash_of("host", "example.org").hex()[:16]
    '9bfa252657d5689f'
    """
    return hashlib.sha256(f"{kind}\0{value}".encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Tombstones:
    """All tombstones of a corpus.

    Args:
        hashes: (n, 32) of uint8 in ascending order.
        places: their first 8 bytes.
        kinds: those of which there is any.
        number: of the newest file that was read; 0 if there was none.
    """

    hashes: npt.NDArray[np.uint8]
    places: npt.NDArray[np.uint64]
    kinds: frozenset[str]
    number: int = 0

    @classmethod
    def of(cls, tables: Iterable[pa.Table], number: int = 0) -> "Tombstones":
        """Those in tables of the columns SCHEMA."""
        tables = list(tables)
        known = sorted({digest for table in tables for digest in table["sha256"].to_pylist()})
        hashes = np.frombuffer(b"".join(known), np.uint8).reshape(-1, 32)
        kinds = frozenset(kind for table in tables for kind in table["kind"].unique().to_pylist())
        kinds |= {"key"} if kinds else set()  # in any case: a purge tells by it which rows are blank
        return cls(hashes, _places(b"".join(digest[:8] for digest in known)), kinds, number)

    def __len__(self) -> int:
        return len(self.places)

    def is_withdrawn(self, kind: str, values: Sequence[str | None]) -> npt.NDArray[np.bool_]:
        """Whether each value was taken out, also the key of a blank row; None never is. One binary search for each."""
        if kind not in KINDS:
            raise ValueError(f"tombstones of {kind!r}: expected one of {', '.join(KINDS)}")
        if kind not in self.kinds:
            return np.zeros(len(values), dtype=bool)
        digests = [b"" if value is None else hash_of(kind, value) for value in values]
        wanted = _places(b"".join(digest[:8].ljust(8, b"\0") for digest in digests))
        found = np.searchsorted(self.places, wanted)
        # Of hashes that begin alike, as chance makes none, all are compared.
        ends = np.searchsorted(self.places, wanted, side="right")
        result = np.zeros(len(values), dtype=bool)
        for index in np.flatnonzero(ends > found):
            alike = self.hashes[found[index] : ends[index]]
            result[index] = any(known.tobytes() == digests[index] for known in alike)
        if kind == "key":
            result |= np.fromiter(map(is_blank, values), np.bool_, len(values))
        return result


def add_tombstones(
    store: Store, corpus: str, values: Iterable[tuple[str, str]], *, at: datetime, reason: str = ""
) -> StoredTable:
    """Take values (kind, value) out, in a file of the next free number, for a reason. Raises StorageError.

    Raises ValueError for an unknown kind.
    """
    payload, written = encode(to_table(values, at=at))
    number = numbered.create_next(
        store,
        layout.tombstones_folder(corpus),
        lambda number: layout.tombstones(corpus, number),
        lambda _: payload,
    )
    try:
        write_witness(store, corpus, number, reason=reason)
    except (StorageRefused, StorageUnavailable) as error:  # such as a full disk; the file counts already
        raise type(error)(
            f"{error}; what was named is remembered and no reader gets it any more, but its witness, and a version "
            "without it, are not there yet: the same command goes on"
        ) from error
    return written.stored_as(layout.tombstones(corpus, number))


def load_tombstones(store: Store, corpus: str) -> Tombstones:
    """All tombstones of a corpus. Raises CorruptShard: nobody may go on without one; StorageRefused, StorageError."""
    keys = {stored.key for stored in store.list(layout.tombstones_folder(corpus))}
    last = max((number for number in map(layout.number_of, keys) if number is not None), default=0)
    witness = newest_witness(store, corpus, last) if last else None
    numbers = range(1, max(last, *witness.files if witness else (0,)) + 1)
    # None is ever removed: without one that was lost, what it takes out would come back.
    if lost := next((number for number in numbers if layout.tombstones(corpus, number) not in keys), None):
        raise CorruptShard(
            f"{store.url}/{layout.tombstones(corpus, lost)}: it is lost, and there is something of {numbers[-1]}; "
            f"{_REMEDY}"
        )
    files = witness.files if witness else {}
    return Tombstones.of(
        (load_file(store, corpus, one, sha256=files.get(one)) for one in numbers), max(numbers, default=0)
    )


def newest_number(store: Store, corpus: str) -> int:
    """The number of the newest file of tombstones; 0 if there is none. Raises StorageError."""
    return max(numbered.numbers(store, layout.tombstones_folder(corpus)), default=0)


def load_file(store: Store, corpus: str, number: int, *, sha256: str | None = None) -> pa.Table:
    """The tombstones of one file, which has this checksum if it is known.

    Raises NotFound, CorruptShard, StorageRefused.
    """
    key = layout.tombstones(corpus, number)

    def read() -> pa.Table:
        payload = store.read(key)
        table = decode(payload, f"{store.url}/{key}")
        if sha256 not in (None, hashlib.sha256(payload).hexdigest()):
            raise CorruptShard(f"{store.url}/{key}: it is another file than was written; {_REMEDY}")
        return table

    return second_read(read)


def open_file(store: Store, stored: StoredTable) -> SealedReader:
    """A file of tombstones, to be read some rows at a time. Reads nothing yet."""
    return SealedReader.of_object(store, stored, schema=SCHEMA, remedy=_REMEDY)


def to_table(values: Iterable[tuple[str, str]], *, at: datetime) -> pa.Table:
    """Tombstones of values (kind, value), each once, sorted. Raises ValueError for an unknown kind."""
    unique = dict.fromkeys(values)
    unknown = next((kind for kind, _ in unique if kind not in KINDS), None)
    if unknown is not None:
        raise ValueError(f"tombstones of {unknown!r}: expected one of {', '.join(KINDS)}")
    rows = sorted((hash_of(kind, value), kind) for kind, value in unique)
    return pa.table(
        {"kind": [kind for _, kind in rows], "sha256": [digest for digest, _ in rows], "at": [at] * len(rows)},
        schema=SCHEMA,
    )


def encode(table: pa.Table) -> tuple[bytes, Written]:
    """The file of a table of ``to_table``."""
    return sealed_writer.encode(table, dictionaries=("kind", "at"))


def decode(payload: bytes, where: str) -> pa.Table:
    """The rows of a file. Raises CorruptShard, StorageRefused for one of a newer Stoker."""
    return sealed_parquet.decode(payload, schema=SCHEMA, where=where, remedy=_REMEDY)


def _places(payload: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(payload, dtype=">u8").astype(np.uint64)
