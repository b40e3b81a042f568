"""Digests of JSON values, and of what a version contains."""

import hashlib
import json
from collections.abc import Iterable

from stoker.storage.versions import layout
from stoker.storage.versions.listed.named import Mask, Part, Shard


def content_of(shards: Iterable[Shard], masks: Iterable[Mask] = ()) -> str:
    """A digest of a version's samples and splits, independent of who made it and when.

    Of the tars in their order, which hold all that a sample has: two versions of one content are the same to a stream.
    """
    # Also of shards that a purge wrote anew: those that were published.
    content: dict[str, object] = {"shards": [(shard.split, (shard.before or shard).sha256) for shard in shards]}
    if masked := sorted((mask.group, mask.sha256) for mask in masks):
        content["masks"] = masked
    return checksum_of(content)[: layout.DIGEST]


def content_with_rejects(shards: Iterable[Shard], parts: Iterable[Part], decisions_sha256: str) -> str:
    """The digest that manifests of schema 1 and 2 have: of what was rejected too."""
    content = {
        "shards": [(shard.split, shard.sha256) for shard in shards],
        "parts": [(part.digest, part.tar_sha256, sorted(part.rejected.items())) for part in parts],
        "decisions": decisions_sha256,
    }
    return checksum_of(content)[: layout.DIGEST]


def checksum_of(content: object) -> str:
    """The SHA-256 of JSON values in their one canonical form.

    Keys of raw parts and groups are made of it: other than in ``sealed``, half a surrogate pair of a file's name is
    hashed as it is, and what is no JSON raises TypeError.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
