"""Masks, or deletion vectors: which stored rows of a group of shards a version leaves out.

A mask has one bit a row: those of the group's shards in the order of the manifest, each shard's in stored order. It
always is over rows of tars and indexes as they are stored, never over another mask. The object is ``MAGIC``, the number
of rows (8 bytes, least significant first), and zstd of the bits as ``numpy.packbits`` has them.
"""

import hashlib
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.shards.row_checksum import REMEDY
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Mask, MaskPlace, Shard
from stoker.storage.versions.verified import put, verified_bytes

BoolArray = npt.NDArray[np.bool_]

MAGIC = b"stkmask\x01"  # its last byte is the format's version
MAX_ROWS = 2**28  # of a group: 32 MiB of bits
_HEAD = len(MAGIC) + 8  # bytes
_MAX_SIZE = MAX_ROWS // 8 + MAX_ROWS // 1024  # bytes of an object: bits that zstd could not make fewer
_KEPT = 64  # masks in memory
_LEVEL = 9  # of zstd: fixed, so that the same rows give the same object


def encode(masked: BoolArray) -> bytes:
    """The object of a mask. Raises ValueError for more than ``MAX_ROWS``."""
    if len(masked) > MAX_ROWS:
        raise ValueError(f"a mask of {len(masked):,} rows; expected {MAX_ROWS:,} at most")
    packed: bytes = pa.Codec("zstd", compression_level=_LEVEL).compress(np.packbits(masked).tobytes(), asbytes=True)
    return MAGIC + len(masked).to_bytes(8, "little") + packed


def decode(payload: bytes, rows: int) -> BoolArray:
    """Which rows are masked. Raises CorruptShard for what is no mask of so many rows."""
    if payload[: len(MAGIC)] != MAGIC:
        same = payload[: len(MAGIC) - 1] == MAGIC[:-1] and len(payload) >= len(MAGIC)
        what = f"a mask of format {payload[len(MAGIC) - 1]}; upgrade Stoker" if same else "no mask: it begins otherwise"
        raise CorruptShard(what)
    stated = int.from_bytes(payload[len(MAGIC) : _HEAD], "little")
    if len(payload) < _HEAD or stated != rows:
        raise CorruptShard(f"a mask of {stated:,} rows, but the shards of its group have {rows:,}")
    if rows > MAX_ROWS:
        raise CorruptShard(f"a mask of {rows:,} rows; expected {MAX_ROWS:,} at most")
    try:
        # Never more than was asked for, whatever the frame says of itself.
        packed = pa.Codec("zstd").decompress(payload[_HEAD:], decompressed_size=(rows + 7) // 8, asbytes=True)
    except (pa.ArrowException, OSError) as error:
        raise CorruptShard(f"a mask whose bits cannot be unpacked to {rows:,} ({error})") from error
    bits = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.bool_)
    if bits[rows:].any():
        raise CorruptShard(f"a mask with bits behind its {rows:,} rows")
    return bits[:rows]


def write(store: Store, corpus: str, group: str, masked: BoolArray) -> Mask:
    """Create the mask of a group, unless it is there."""
    payload = encode(masked)
    sha256 = hashlib.sha256(payload).hexdigest()
    mask = Mask(group, layout.mask(corpus, group, sha256), len(payload), sha256)
    put(store, mask.key, payload, sha256=sha256)
    return mask


def read(store: Store, mask: Mask) -> bytes:
    """The bytes of a mask. Raises CorruptObject where they differ from the checksum; StorageError."""
    if mask.size > _MAX_SIZE:
        raise CorruptObject(
            f"{store.url}/{mask.key}: {mask.size:,} bytes, but a mask has {_MAX_SIZE:,} at most", mask.key
        )
    return verified_bytes(store, mask.key, sha256=mask.sha256, size=mask.size)


class _Kept:
    """A mask that is read once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.masked: BoolArray | None = None


class Masks:
    """The masked rows of a store's shards. A mask is read when it is first asked for; the last few are kept.

    Safe to use from many threads. ``read``: gives the bytes of a mask, compared with its checksum.
    """

    def __init__(self, store: Store, read_bytes: Callable[[Mask], bytes] | None = None) -> None:
        self._store = store
        self._read = read_bytes or (lambda mask: read(store, mask))
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], _Kept] = {}  # by checksum and rows; the newest last

    def of(self, shard: Shard) -> BoolArray | None:
        """Which rows of a shard are masked; None: none. Raises CorruptObject, StorageError."""
        if shard.place is None:
            return None
        rows = self._of_group(shard.place)[shard.place.start : shard.place.start + shard.rows]
        if int(rows.sum()) != shard.masked:
            raise self._corrupt(
                shard.place.mask,
                f"it masks {int(rows.sum()):,} rows of {shard.key}, but the manifest says {shard.masked:,}",
            )
        return rows

    def live(self, shard: Shard, table: pa.Table) -> pa.Table:
        """A table of a shard's stored rows without those that are masked. Raises CorruptObject, StorageError."""
        masked = self.of(shard)
        if masked is None:
            return table
        if table.num_rows != len(masked):
            raise CorruptShard(
                f"{self._store.url}/{shard.index}: {table.num_rows:,} rows, but the manifest says {len(masked):,}"
            )
        return table.filter(pa.array(~masked))

    def _of_group(self, place: MaskPlace) -> BoolArray:
        key = place.mask.sha256, place.rows
        with self._lock:
            kept = self._kept.pop(key, _Kept())
            self._kept[key] = kept
            while len(self._kept) > _KEPT:
                self._kept.pop(next(iter(self._kept)))
        with kept.lock:  # others wait for the thread that reads it
            if kept.masked is None:
                kept.masked = self._load(place)
            return kept.masked

    def _load(self, place: MaskPlace) -> BoolArray:
        try:
            payload = self._read(place.mask)
        except NotFound as error:
            raise NotFound(f"{error}; {REMEDY}") from error
        try:
            return decode(payload, place.rows)
        except CorruptShard as error:
            raise self._corrupt(place.mask, str(error)) from error

    def _corrupt(self, mask: Mask, finding: str) -> CorruptObject:
        return CorruptObject(f"{self._store.url}/{mask.key}: {finding}; {REMEDY}", mask.key)
