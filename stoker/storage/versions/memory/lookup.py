"""Lookups: where the row of a value lies, for values by which outcomes are not sorted, such as keys and pages.

A narrow table (hash, file, row), sorted by the hash of kind and value. A row of it is a hint: hashes may be equal by
chance, and the row that it names says what it holds.
"""

from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa

from stoker.storage.stores.store import Store
from stoker.storage.versions.memory import sealed_parquet, sealed_writer
from stoker.storage.versions.memory.outcomes import hash_of
from stoker.storage.versions.memory.sealed_parquet import SealedReader, StoredTable
from stoker.storage.versions.memory.sealed_writer import SealedWriter, Written

_REMEDY = "restore it from a copy; without it `stoker why` finds candidates by their identity alone"
SCHEMA = pa.schema(
    [
        ("hash", pa.uint64()),  # of kind and value, see ``hash_of``
        ("file", pa.string()),  # key of a Parquet object: outcomes, or records of a raw part
        ("row", pa.int64()),  # in that file, from 0
    ]
)


def to_table(entries: Iterable[tuple[str, str, str, int]]) -> pa.Table:
    """Entries (kind, value, file, row) as a table; a kind is the name of a column, such as ``key``."""
    rows = [{"hash": hash_of(kind, value), "file": file, "row": row} for kind, value, file, row in entries]
    return merge(pa.Table.from_pylist(rows, schema=SCHEMA))


def merge(table: pa.Table, *others: pa.Table) -> pa.Table:
    """The rows of several tables, sorted, each once."""
    joined = pa.concat_tables([table, *others])
    return joined.group_by(SCHEMA.names).aggregate([]).sort_by([(name, "ascending") for name in SCHEMA.names])


def writer(file: BinaryIO) -> SealedWriter:
    """Writes a lookup to a file, for ``merge_files``."""
    return SealedWriter(file, SCHEMA, dictionaries=("file",), statistics=("hash",))


def encode(table: pa.Table) -> tuple[bytes, Written]:
    """The file of a table that ``merge`` or ``to_table`` made, and what to name it by."""
    return sealed_writer.encode(table, dictionaries=("file",), statistics=("hash",))


def decode(payload: bytes, where: str) -> pa.Table:
    """The rows of a file. Raises CorruptShard, StorageRefused for one of a newer Stoker."""
    return sealed_parquet.decode(payload, schema=SCHEMA, where=where, remedy=_REMEDY)


def open_lookup(store: Store, stored: StoredTable) -> SealedReader:
    """A lookup, to be read in part. Reads nothing yet."""
    return SealedReader.of_object(store, stored, schema=SCHEMA, remedy=_REMEDY)


def places(lookup: SealedReader, kind: str, value: str) -> list[tuple[str, int]]:
    """Files and rows that may hold the value: two reads, one if the lookup was asked before. Raises CorruptShard."""
    found = lookup.with_hash(hash_of(kind, value))
    return list(zip(found["file"].to_pylist(), found["row"].to_pylist(), strict=True))
