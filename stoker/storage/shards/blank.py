"""What stands in the place of a sample that a purge took out: a filler in its tar, a blank row in its tables.

The filler has the length of the sample's members, so that no other sample moves, and a name without a dot: WebDataset's
readers pass over it. The row keeps its place and says nothing but that: its key is a hash of the key that was there.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.shards.row_checksum import CRC32C, crc32c, has_checksums
from stoker.storage.shards.tar import BLOCK, header

FILLER = "withdrawn"  # name of the member
_KEY = ".withdrawn/"  # no sample has such a key: names in tars that begin with a dot and no folder are none
_DIGITS = 32  # of the hash in a key
# Columns of a blank row that stay as they are. Positions in streams of texts depend on the sizes of all members.
_KEPT = frozenset({"reason", "start", "stop", "members", "split", "part"})
_CHUNK = 2**20  # bytes


def blank_key(key: str) -> str:
    """The key of the blank row in the place of a sample's; of a blank one itself.

    >>> blank_key("cat"), blank_key(blank_key("cat")) == blank_key("cat")
    ('.withdrawn/02501453022ed4d693925118545bf253', True)
    """
    if is_blank(key):
        return key
    return _KEY + hashlib.sha256(f"key\0{key}".encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def is_blank(key: str | None) -> bool:
    """Whether a row with this key is blank."""
    return key is not None and key.startswith(_KEY)


def blank_rows_of(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows of a table with keys are blank."""
    return np.fromiter(map(is_blank, table["key"].to_pylist()), np.bool_, table.num_rows)


def iter_filler(size: int) -> Iterator[bytes]:
    """The bytes of a filler of ``size`` bytes, a multiple of 512."""
    yield header(FILLER, size - BLOCK)
    for start in range(BLOCK, size, _CHUNK):
        yield bytes(min(_CHUNK, size - start))


@lru_cache(2**16)
def filler_crc32c(size: int) -> int:
    """The CRC-32C of a filler."""
    checksum = 0
    for chunk in iter_filler(size):
        checksum = crc32c(chunk, checksum)
    return checksum


def with_blanks(table: pa.Table, blank: npt.NDArray[np.bool_]) -> pa.Table:
    """An index, or the records of a raw part, in which these rows are blank."""
    import pyarrow.compute as pc  # not with this module: readers of a first batch need it not

    flags = pa.array(blank)
    placed = pc.and_(flags, pc.is_valid(table["start"]))  # in the tar: not those that were rejected
    keys = [blank_key(key) if gone else key for key, gone in zip(table["key"].to_pylist(), blank, strict=True)]
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for field in table.schema:
        column = table[field.name]
        if field.name == "key":
            column = pa.array(keys, pa.string())
        elif field.name == "group" and pa.types.is_string(field.type):  # never null: splits are told by it
            column = pc.if_else(pc.and_(flags, pc.is_valid(column)), pa.array(keys, pa.string()), column)
        elif field.name == CRC32C and has_checksums(table.filter(pc.is_valid(table["start"]))):
            column = pc.if_else(placed, _checksums(table, placed), column)
        elif field.name not in _KEPT:
            column = pc.if_else(flags, pa.scalar(None, field.type), column)
        columns[field.name] = column
    return pa.table(columns)


def _checksums(table: pa.Table, placed: pa.ChunkedArray) -> pa.Array:
    """The checksum of a filler in each of these rows; null in others."""
    rows = zip(placed.to_pylist(), table["start"].to_pylist(), table["stop"].to_pylist(), strict=True)
    return pa.array([filler_crc32c(stop - start) if there else None for there, start, stop in rows], pa.uint32())
