"""An indexed version proven: each tar is read again as it was when it was indexed, and both are compared."""

from collections.abc import Callable

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.indexed.indexer import tar_name
from stoker.storage.indexed.scan import scan
from stoker.storage.statistics.summary import Summary
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.verification.reread import Reading
from stoker.storage.versions.manifest import Manifest, Shard

_COMPARED = ("start", "stop", "members")


def verify_indexed(
    store: Store, tars: Store, manifest: Manifest, progress: Callable[[int, int], None] | None
) -> tuple[int, Reading]:
    """The samples found, and what was read and found wrong. Raises StorageUnavailable."""
    whole = sum(shard.size + shard.index_size for shard in manifest.shards)
    objects = Reading(store, whole, progress)
    samples = 0
    held: dict[str, str] = {}  # key → its tar
    for shard in manifest.shards:
        index = objects.table(shard.index, shard.index_sha256, shard.index_size)
        found = _read_again(objects, tars, shard, manifest)
        if index is None or found is None:
            continue
        samples += found.num_rows
        if (found.num_rows, index.num_rows) != (shard.samples, shard.samples):
            objects.tell(
                shard.key,
                f"holds {found.num_rows} samples and its index {index.num_rows}, but the manifest says {shard.samples}",
            )
            continue
        _compare(objects, shard, manifest, index, found)
        keys = index["key"].to_pylist()
        twice = next((key for key in keys if key in held), None)
        if twice is not None:
            objects.tell(shard.index, f"sample {twice!r} is in {held[twice]} too")
        held.update(dict.fromkeys(keys, shard.key))
    for what, counted in (
        ("licences", sum(manifest.licences.values())),
        ("statistics", sum(Summary.from_json(one).samples for one in manifest.statistics.values())),
    ):
        if counted != manifest.samples:
            objects.tell(manifest.reference, f"{what} of {counted} samples, but its tars hold {manifest.samples}")
    return samples, objects


def _read_again(objects: Reading, tars: Store, shard: Shard, manifest: Manifest) -> pa.Table | None:
    def count(size: int) -> bool:
        objects.count(size)
        return True

    try:
        size = tars.size(shard.key)
        if size != shard.size:
            objects.tell(shard.key, f"has {size} bytes, but the manifest says {shard.size}")
            return None
        scanned = scan(tars, StoredObject(shard.key, shard.size), read=count)
    except NotFound:
        objects.tell(shard.key, f"is missing in {tars.url}")
        return None
    except (CorruptShard, StorageRefused) as error:
        objects.tell(shard.key, str(error).removeprefix(f"{tars.url}/{shard.key}: "))
        return None
    if scanned is None:  # ``count`` never stops it
        return None
    if scanned.sha256 != shard.sha256:
        objects.tell(
            shard.key,
            f"sha256 {scanned.sha256[:12]}, but the manifest says {shard.sha256[:12]}: it was written again; "
            f"`stoker index` makes a version of {manifest.corpus} that has it",
        )
        return None
    return scanned.index


def _compare(objects: Reading, shard: Shard, manifest: Manifest, index: pa.Table, found: pa.Table) -> None:
    missing = {"key", *_COMPARED} - set(index.column_names)
    if missing:
        objects.tell(shard.index, f"lacks the columns {', '.join(sorted(missing))}")
        return
    own, said = found["key"].to_pylist(), index["key"].to_pylist()
    # A tar in the corpus's own store has more before its name than when it was indexed.
    prefixed = bool(said) and said[0] != own[0]
    name = said[0].removesuffix(f"/{own[0]}") if prefixed else ""
    if prefixed and not f"/{tar_name(shard.key)}".endswith(f"/{name}"):
        objects.tell(shard.index, f"says {said[0]!r} of the first sample, but the tar has {own[0]!r}")
        return
    keys = [f"{name}/{key}" for key in own] if prefixed else own
    for row, (a, b) in enumerate(zip(said, keys, strict=True)):
        if a != b:
            objects.tell(shard.index, f"row {row} says {a!r}, but the tar has {b!r}")
            return
    for column in _COMPARED:
        if index[column].to_pylist() != found[column].to_pylist():
            objects.tell(shard.index, f"does not say where the samples of {shard.key} lie (column {column})")
            return
