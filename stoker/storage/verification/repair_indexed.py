"""Repair of an indexed version: lost and damaged indexes are made again from tars that are as they were.

An index is written only if it has the bytes that the version names, and so are decisions. A damaged marker of a tar is
removed: the next `stoker index` reads the tar and writes it again. Tars are others' and are never written.
"""

import logging
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.indexed.indexer import with_names
from stoker.storage.indexed.indexing import has_decisions
from stoker.storage.indexed.tars import command_again
from stoker.storage.shards import records
from stoker.storage.shards.row_checksum import MEMBERS_CRC32C
from stoker.storage.stores.store import Store
from stoker.storage.verification.repair_masks import repair_masks
from stoker.storage.verification.verify_indexed import scan_as_indexed
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import TAR, Manifest, Shard
from stoker.storage.versions.verified import put
from stoker.storage.versions.work import ingest_lease

_log = logging.getLogger(__name__)


def repair_indexed(store: Store, tars: Store, manifest: Manifest, damaged: Collection[str]) -> list[str]:
    """Write the damaged indexes of a version again, as far as their tars allow; what to do about the others.

    Args:
        store: of the indexes.
        tars: of the tars.
        manifest: the version.
        damaged: keys of objects, from ``Verified.damaged``.
    """
    with ingest_lease(store, manifest.corpus):
        advice = repair_masks(store, manifest, damaged)
        if manifest.decisions.key in damaged and not has_decisions(store, manifest):
            advice.append(
                f"{store.url}/{manifest.decisions.key}: this release makes other bytes of decisions, of which there "
                f"are none; `{command_again(manifest)}` makes a version with new ones"
            )
        for shard in manifest.shards:
            marker = layout.group(manifest.corpus, shard.group)
            if marker in damaged:
                store.delete(marker)
            if shard.key in damaged:
                advice.append(
                    f"{tars.url}/{shard.key}: Stoker did not write it; put back the file whose SHA-256 is "
                    f"{shard.sha256}, or `{command_again(manifest)}` makes a version of the tars as they are "
                    "now (with --skip-damaged also of those that cannot be read to their end)"
                )
            elif shard.index in damaged and not _index_again(store, tars, manifest, shard):
                advice.append(
                    f"{store.url}/{shard.index}: this release makes other bytes of its tar; "
                    f"`{command_again(manifest)}` reads the tars again and makes a version with a new index"
                )
    return advice


def _index_again(store: Store, tars: Store, manifest: Manifest, shard: Shard) -> bool:
    """Whether the index has its old bytes again."""
    try:
        scanned = scan_as_indexed(tars, manifest, shard)
    except (CorruptShard, NotFound, StorageRefused) as error:
        _log.warning("%s/%s: %s", tars.url, shard.key, error)
        return False
    if scanned is None or scanned.sha256 != shard.sha256:
        return False
    for table in _tables(scanned.index, shard):
        payload = records.encode(table)
        if records.sha256(payload) == shard.index_sha256:
            put(store, shard.index, payload, sha256=shard.index_sha256)
            return True
    return False


def _tables(index: pa.Table, shard: Shard) -> Iterator[pa.Table]:
    """The index with keys as in the tar, and with the tar's name before them, of which folders may be the store's.

    Each also without checksums, as older releases wrote it.
    """
    whole = index.append_column("split", pa.array([shard.split] * index.num_rows, pa.string()))
    parts = PurePosixPath(shard.key).parts
    names = ["/".join(parts[first:]) for first in range(len(parts)) if parts[-1].endswith(TAR)]
    for table in (whole, whole.drop_columns([MEMBERS_CRC32C])):
        yield table
        yield from (with_names(table, name) for name in names)
