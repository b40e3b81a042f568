"""How much of a version's tars it leaves out by masks, in words."""

from stoker.flows.report.format import number_text, percent_text, size_text
from stoker.storage.versions.manifest import Manifest

_ADVISED = 0.2  # share of masked samples from which packing again is worth its time


def masked_share(manifest: Manifest) -> float:
    """The share of the samples in its tars that the version leaves out; 0 for a packed version."""
    return manifest.masked / max(1, manifest.samples + manifest.masked)


def masked_text(manifest: Manifest) -> str:
    """A sentence about the masks of a view, and from 20 % on what packing would free; "" for a packed version."""
    if manifest.is_packed:
        return ""
    stored = manifest.samples + manifest.masked
    text = (
        f"{percent_text(masked_share(manifest))} masked: {number_text(manifest.masked)} of the {number_text(stored)} "
        "samples in its tars are left out"
    )
    if masked_share(manifest) < _ADVISED or manifest.is_indexed:  # external tars are not ours to pack
        return text
    freed = sum(shard.size * shard.masked // shard.rows for shard in manifest.shards if shard.masked)
    return f"{text}; `stoker pack {manifest.corpus}` would spare readers about {size_text(freed)}"
