"""Digests of JSON values, and of what a version contains."""

import hashlib
import json
from collections.abc import Sequence

from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Mask, Part, Shard


def content_of(
    shards: Sequence[Shard], parts: Sequence[Part], decisions_sha256: str, masks: Sequence[Mask] = ()
) -> str:
    """A digest of all that a version contains and rejected, independent of who made it and when."""
    content: dict[str, object] = {
        "shards": [(shard.split, shard.sha256) for shard in shards],
        "parts": [(part.digest, part.tar_sha256, sorted(part.rejected.items())) for part in parts],
        "decisions": decisions_sha256,
    }
    if masks:
        content["masks"] = sorted((mask.group, mask.sha256) for mask in masks)
    return checksum_of(content)[: layout.DIGEST]


def checksum_of(content: object) -> str:
    """The SHA-256 of JSON values in their one canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
