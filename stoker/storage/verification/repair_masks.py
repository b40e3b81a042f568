"""Repair of a view: a lost or damaged mask is made again of the samples that the version's decisions drop."""

import hashlib
from collections.abc import Collection

import numpy as np

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.kinds import DECISIONS, PACKED_INDEX
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Mask, load_manifest
from stoker.storage.versions.masks.mask import encode
from stoker.storage.versions.verified import put, verified_table


def repair_masks(store: Store, manifest: Manifest, damaged: Collection[str]) -> list[str]:
    """Write the damaged masks of a version again, where that gives the old bytes; what to do about the others."""
    return [
        f"{store.url}/{mask.key}: it cannot be made again of what {manifest.reference} drops; put back the object "
        f"whose SHA-256 is {mask.sha256}{_without_masks(store, manifest)}"
        for mask in manifest.masks
        if mask.key in damaged and not _is_made_again(store, manifest, mask)
    ]


def packed_version(store: Store, manifest: Manifest) -> Manifest | None:
    """The newest version before a view whose tars hold its samples alone; None if there is none, or it is damaged."""
    for number in reversed(catalog.versions(store, manifest.corpus)):
        if number < manifest.version:
            try:
                older = load_manifest(store, manifest.corpus, number)
            except (CorruptShard, NotFound):
                return None
            if older.is_packed:
                return older
    return None


def _without_masks(store: Store, manifest: Manifest) -> str:
    older = packed_version(store, manifest)
    return "" if older is None else f", or use {older.reference}, which has no masks"


def _is_made_again(store: Store, manifest: Manifest, mask: Mask) -> bool:
    """Whether the mask has its old bytes again."""
    decisions = manifest.decisions
    try:
        names = ["key", "part", "action"]
        decided = verified_table(store, decisions.key, DECISIONS, sha256=decisions.sha256, columns=names)
        rows = zip(*(decided[name].to_pylist() for name in names), strict=True)
        dropped = {(key, part) for key, part, action in rows if action == "drop"}
        masked: list[bool] = []
        for shard in manifest.shards:
            if shard.group == mask.group:
                sha256 = shard.index_sha256
                index = verified_table(store, shard.index, PACKED_INDEX, sha256=sha256, columns=names[:2])
                pairs = zip(index["key"].to_pylist(), index["part"].to_pylist(), strict=True)
                masked += [pair in dropped for pair in pairs]
    except (CorruptShard, NotFound):  # the objects that it is made of are damaged
        return False
    payload = encode(np.array(masked, np.bool_))
    if hashlib.sha256(payload).hexdigest() != mask.sha256:
        return False
    put(store, mask.key, payload, sha256=mask.sha256)
    return True
