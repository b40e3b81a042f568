"""CRC-32C (Castagnoli) of a sample's bytes in its tar: what is read by range is compared with it.

``crc32c``, in indexes of shards and in records of raw parts: of the bytes [start, stop), with headers and padding.

``members_crc32c``, in indexes of external tars, where links put members anywhere: of the CRC-32Cs of the members'
payloads in order of their extensions, each as four bytes, the least significant first.

Both are uint32. What older releases wrote has neither, and is read without; a column of another type is a user's.
"""

from collections.abc import Iterable

import google_crc32c
import numpy as np
import pyarrow as pa

from stoker.storage.errors import CorruptShard

CRC32C, MEMBERS_CRC32C = "crc32c", "members_crc32c"
CHECKSUMS = (CRC32C, MEMBERS_CRC32C)  # columns of tables
REMEDY = "`stoker verify --repair` of its version heals it, or says what does"


def crc32c(payload: bytes | memoryview, before: int = 0) -> int:
    """The CRC-32C of bytes; with ``before``, that of other bytes, of both one after the other.

    >>> f"{crc32c(b'123456789'):08x}", crc32c(b"6789", crc32c(b"12345")) == crc32c(memoryview(b"123456789"))
    ('e3069283', True)
    """
    # It takes no memoryviews, but arrays of their bytes: nothing is copied.
    checksum: int = google_crc32c.extend(
        before, payload if type(payload) is bytes else np.frombuffer(payload, np.uint8)
    )
    return checksum


def members_crc32c(checksums: Iterable[int]) -> int:
    """The checksum of a sample by those of its members' payloads, in order of the members' extensions."""
    return crc32c(b"".join(checksum.to_bytes(4, "little") for checksum in checksums))


def has_checksums(table: pa.Table, name: str = CRC32C) -> bool:
    """Whether each row has a checksum in this column."""
    return name in table.column_names and table.schema.field(name).type == pa.uint32() and not table[name].null_count


def check(stated: int | None, actual: int, key: str, tar: str, *, remedy: str = REMEDY) -> None:
    """Raise CorruptShard, naming tar and sample, where a sample's checksum is not the stated one, if there is one."""
    if stated is not None and stated != actual:
        raise CorruptShard(
            f"{tar}: sample {key!r}: CRC-32C {actual:08x} of its bytes, but its index says {stated:08x}; {remedy}"
        )
