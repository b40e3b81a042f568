"""Shards of which only some samples are read, and the indexes of shards as bytes that were verified."""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Int64Array
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Mask, Shard
from stoker.storage.versions.masks.mask import Masks, read
from stoker.storage.versions.verified import verified_bytes
from stoker.training.reading.cache_files import CacheFiles


@dataclass(frozen=True, slots=True)
class PartialShard(Shard):
    """A shard that is read as if its tar held some of its samples alone: ``samples`` is their number."""

    selected: bytes = b""  # one bit a sample of the tar, as numpy.packbits has them
    selection: str = ""  # digest of ``selected``


def is_whole(shard: Shard) -> bool:
    """Whether a shard stands for all samples of its tar."""
    return shard.place is None and not isinstance(shard, PartialShard)


def rows_of(shard: Shard, masks: Masks) -> Int64Array:
    """The rows of the tar's index that a shard stands for, ascending. Raises CorruptShard, StorageError of its mask."""
    if isinstance(shard, PartialShard):
        return np.flatnonzero(np.unpackbits(np.frombuffer(shard.selected, np.uint8))).astype(np.int64)
    masked = masks.of(shard)
    return np.arange(shard.rows, dtype=np.int64) if masked is None else np.flatnonzero(~masked).astype(np.int64)


def masks_of(store: Store, files: CacheFiles) -> Masks:
    """The masks of a store, of which those from elsewhere are kept in the cache folder too."""

    def read_bytes(mask: Mask) -> bytes:
        payload = files.read_index(mask.sha256)
        if payload is None or hashlib.sha256(payload).hexdigest() != mask.sha256:
            payload = read(store, mask)
            if store.path(mask.key) is None:
                files.write_index(mask.sha256, payload)
        return payload

    return Masks(store, read_bytes)


def part_of(shard: Shard, kept: npt.NDArray[np.bool_], masks: Masks, split: str | None = None) -> Shard:
    """The shard with those of its samples alone that are ``kept``, in another split if one is named."""
    values = {field.name: getattr(shard, field.name) for field in fields(Shard)}
    split = split or shard.split
    if kept.all() and not isinstance(shard, PartialShard):
        return Shard(**values | {"split": split})
    rows = rows_of(shard, masks)[kept]
    bits = np.zeros(int(rows.max(initial=-1)) + 1, np.uint8)
    bits[rows] = 1
    selected = np.packbits(bits).tobytes()
    selection = hashlib.sha256(selected).hexdigest()[:16]
    return PartialShard(
        **values | {"split": split, "samples": len(rows), "masked": shard.rows - len(rows)},
        selected=selected,
        selection=selection,
    )


def index_bytes(store: Store, shard: Shard, files: CacheFiles) -> bytes:
    """A shard's index file, from the cache folder or the store. Raises CorruptShard, StorageError."""
    payload = files.read_index(shard.index_sha256)
    if payload is None or hashlib.sha256(payload).hexdigest() != shard.index_sha256:
        payload = verified_bytes(store, shard.index, sha256=shard.index_sha256)
        if store.path(shard.index) is None:
            files.write_index(shard.index_sha256, payload)
    return payload
