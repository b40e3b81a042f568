"""Verifies an indexed version: scans each external tar again and compares the result with its index and marker."""

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.indexed.indexer import MOVED_TO, IndexedTar, tar_name
from stoker.storage.indexed.scan import Scanned, scan
from stoker.storage.indexed.tars import command_again, recipe_digest
from stoker.storage.shards.blank import blank_rows_of
from stoker.storage.shards.kinds import DECISIONS, INDEX
from stoker.storage.shards.row_checksum import MEMBERS_CRC32C, has_checksums
from stoker.storage.statistics.summary import Summary
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.verification.reread import ObjectChecker
from stoker.storage.verification.verify_masks import read_masks, without_masked
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, Shard
from stoker.storage.versions.sealed import CHECKSUM
from stoker.storage.versions.verified import second_read

_COMPARED = ("start", "stop", "members")


def verify_indexed(
    store: Store, tars: Store, manifest: Manifest, progress: Callable[[int, int], None] | None
) -> tuple[int, ObjectChecker]:
    """The number of samples, and the checker with bytes read and problems. Raises StorageUnavailable."""
    total = sum(shard.size + shard.index_size for shard in manifest.shards) + manifest.decisions.size
    objects = ObjectChecker(store, total, progress)
    objects.table(manifest.decisions.key, manifest.decisions.sha256, manifest.decisions.size, DECISIONS)
    masks = read_masks(objects, manifest)
    samples = 0
    tar_of: dict[str, str] = {}  # by sample key
    for shard in manifest.shards:
        _check_marker(objects, manifest, shard)
        index = objects.table(shard.index, shard.index_sha256, shard.index_size, INDEX)
        scanned = _scan_again(objects, tars, shard, manifest)
        if index is None or scanned is None:
            continue
        blank = blank_rows_of(index)
        count = scanned.num_rows + int(blank.sum())
        samples += max(0, count - shard.masked)
        if (count, index.num_rows) != (shard.rows, shard.rows):
            objects.add_problem(
                shard.key,
                f"holds {count} samples and its index {index.num_rows}, but the manifest says {shard.rows}",
            )
            continue
        _compare(objects, shard, index.filter(pa.array(~blank)), scanned)
        live = without_masked(masks, shard, index)
        keys = [] if live is None else live["key"].to_pylist()
        repeated = next((key for key in keys if key in tar_of), None)
        if repeated is not None:
            objects.add_problem(shard.index, f"sample {repeated!r} is in {tar_of[repeated]} too")
        tar_of.update(dict.fromkeys(keys, shard.key))
    # That of an ingested version is of the code versions of its source and steps, too, which no manifest says.
    if "source" in manifest.recipe and recipe_digest(manifest.recipe) != manifest.recipe_digest:
        objects.add_problem(manifest.reference, "its recipe is another one than its recipe_digest says")
    for what, counted in (
        ("licences", sum(manifest.licences.values())),
        ("statistics", sum(Summary.from_json(content).samples for content in manifest.statistics.values())),
    ):
        if counted != manifest.samples:
            objects.add_problem(
                manifest.reference, f"{what} of {counted} samples, but its tars hold {manifest.samples}"
            )
    return samples, objects


def _check_marker(objects: ObjectChecker, manifest: Manifest, shard: Shard) -> None:
    """The marker of a tar, where it is: a lost one costs the next `stoker index` reading its tar, no more."""
    key = layout.group(manifest.corpus, shard.group)
    marker = objects.json_object(key)
    if marker is None or MOVED_TO in marker:  # of a tar that has this name and time now: it has a marker of its own
        return
    try:
        stated = IndexedTar.from_json(marker, manifest.corpus, shard.group).shard
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        objects.add_problem(key, f"is not its tar's marker ({error})")
        return
    # A tar in the corpus's own store has a longer key than when it was indexed. Another checksum, in a marker that has
    # its own: the tar was read again since.
    same = shard.key.endswith(stated.key) and replace(stated, key=shard.key) == shard.stored()
    if not same and (stated.sha256 == shard.sha256 or CHECKSUM not in marker):
        objects.add_problem(key, "does not say of its tar what the manifest says")


def scan_as_indexed(
    tars: Store, manifest: Manifest, shard: Shard, *, read: Callable[[int], bool] = lambda size: True
) -> Scanned | None:
    """A tar of a version, read again by its rules. Raises CorruptShard, NotFound, StorageRefused.

    Older releases kept the last sample of a tar that was cut between members: their versions hold one sample more.
    """
    tar = StoredObject(shard.key, shard.size)
    rule = manifest.recipe.get("source", {}).get("key", "first")
    scanned = scan(tars, tar, read=read, rule=rule, damaged=True)
    if scanned is not None and scanned.index.num_rows + 1 == shard.rows:
        scanned = scan(tars, tar, read=read, rule=rule, damaged=True, keep_cut=True)
    return scanned


def _scan_again(objects: ObjectChecker, tars: Store, shard: Shard, manifest: Manifest) -> pa.Table | None:
    def count(size: int) -> bool:
        objects.count(size)
        return True

    try:
        size = tars.size(shard.key)
        if size != shard.size:
            objects.add_problem(shard.key, f"has {size} bytes, but the manifest says {shard.size}")
            return None
        scanned = second_read(lambda: scan_as_indexed(tars, manifest, shard, read=count))
        if scanned is not None and scanned.sha256 != shard.sha256:  # altered on the way?
            scanned = scan_as_indexed(tars, manifest, shard, read=count)
    except NotFound as error:
        more = str(error).partition("no such object")[2]  # what lies there in its place
        objects.add_problem(shard.key, f"is missing in {tars.url}{more}")
        return None
    except (CorruptShard, StorageRefused) as error:
        objects.add_problem(shard.key, str(error).removeprefix(f"{tars.url}/{shard.key}: "))
        return None
    if scanned is None:  # ``count`` never stops it
        return None
    if scanned.sha256 != shard.sha256:
        objects.add_problem(
            shard.key,
            f"sha256 {scanned.sha256[:12]}, but the manifest says {shard.sha256[:12]}: it was written again or "
            f"altered; `{command_again(manifest)}` makes a version that has it",
        )
        return None
    return scanned.index


def _compare(objects: ObjectChecker, shard: Shard, index: pa.Table, scanned: pa.Table) -> None:
    scanned_keys, indexed_keys = scanned["key"].to_pylist(), index["key"].to_pylist()
    # A tar in the corpus's own store has a longer key than when it was indexed.
    prefixed = bool(indexed_keys) and indexed_keys[0] != scanned_keys[0]
    name = indexed_keys[0].removesuffix(f"/{scanned_keys[0]}") if prefixed else ""
    if prefixed and not f"/{tar_name(shard.key)}".endswith(f"/{name}"):
        objects.add_problem(
            shard.index, f"says {indexed_keys[0]!r} of the first sample, but the tar has {scanned_keys[0]!r}"
        )
        return
    expected_keys = [f"{name}/{key}" for key in scanned_keys] if prefixed else scanned_keys
    for row, (key, expected) in enumerate(zip(indexed_keys, expected_keys, strict=True)):
        if key != expected:
            objects.add_problem(shard.index, f"row {row} says {key!r}, but the tar has {expected!r}")
            return
    for column in _COMPARED:
        if index[column].to_pylist() != scanned[column].to_pylist():
            objects.add_problem(shard.index, f"does not say where the samples of {shard.key} lie (column {column})")
            return
    if has_checksums(index, MEMBERS_CRC32C):  # else an older release wrote it
        pairs = zip(index[MEMBERS_CRC32C].to_pylist(), scanned[MEMBERS_CRC32C].to_pylist(), strict=True)
        wrong = next((row for row, (stated, actual) in enumerate(pairs) if stated != actual), None)
        if wrong is not None:
            objects.add_problem(shard.index, f"row {wrong} has not the checksum of {indexed_keys[wrong]!r} in the tar")
