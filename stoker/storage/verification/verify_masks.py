"""Verifies the masks of a version: each is there, as the manifest says, and masks as many rows as it counts."""

from collections.abc import Mapping

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.verification.reread import ObjectChecker
from stoker.storage.versions.manifest import Manifest, Mask, Shard
from stoker.storage.versions.masks.mask import BoolArray, Masks, read

_Masked = Mapping[str, BoolArray | None]


def read_masks(objects: ObjectChecker, manifest: Manifest) -> _Masked:
    """The masked rows of each shard that has any, by its key; None where its mask is damaged, which is reported."""

    def read_whole(mask: Mask) -> bytes:
        payload = read(objects.store, mask)
        objects.count(len(payload))
        if len(payload) != mask.size:
            raise CorruptShard(f"has {len(payload)} bytes, but the manifest says {mask.size}")
        return payload

    masks, masked = Masks(objects.store, read_whole), dict[str, BoolArray | None]()
    told: set[tuple[str, str]] = set()
    for shard in manifest.shards:
        if shard.place is None:
            continue
        key = shard.place.mask.key
        try:
            masked[shard.key] = masks.of(shard)
        except (CorruptShard, NotFound) as error:
            masked[shard.key] = None
            text = str(error).removeprefix(f"{objects.store.url}/{key}: ")
            problem = "is missing" if isinstance(error, NotFound) else text
            if (key, problem) not in told:
                objects.add_problem(key, problem)
            told.add((key, problem))
    return masked


def without_masked(masked: _Masked, shard: Shard, index: pa.Table) -> pa.Table | None:
    """A shard's index without masked rows; None if they are not known. One of other rows stays as it is."""
    if shard.key not in masked:
        return index
    rows = masked[shard.key]
    return None if rows is None else index.filter(pa.array(~rows)) if len(rows) == index.num_rows else index
