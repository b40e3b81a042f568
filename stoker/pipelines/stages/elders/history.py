"""What the versions of a corpus held: the samples, their splits, and since when.

Price: an ingest that finds other parts than its parent reads five columns of the indexes of all versions, each once.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from stoker.pipelines.rule import numbered
from stoker.pipelines.stages.measure import hash_of_content
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.kinds import PACKED_INDEX
from stoker.storage.shards.shard import iter_samples
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Shard, load_manifest
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.verified import read_side_by_side, verified_table, verified_view

_log = logging.getLogger(__name__)

HELD = pa.schema([(name, pa.string()) for name in ("key", "group", "content_sha256", "sha256", "split")])
REMEMBERED = pa.schema([*HELD, ("is_held", pa.bool_()), ("since", pa.int64())])


def remembered(store: Store, parent: Manifest | None) -> pa.Table:
    """REMEMBERED: what a version holds (``is_held``), and then what only versions before it held, each key once.

    Of those the last split counts; ``since`` is the first version that held the key. Versions that were deleted, or are
    damaged, are not asked; of external tars none, whose keys no source gave. Raises StorageError.
    """
    if parent is None or parent.is_indexed:
        return REMEMBERED.empty_table()
    tables: dict[str, pa.Table] = {}  # by the identity of a shard
    own = [shard.identity for shard in parent.shards]
    held = set(own)
    found = [(version, one) for version, news in _new_shards(store, parent) for one in _read(store, news, held, tables)]
    first = {one: version for version, one in found[::-1]}  # version with a shard
    # The parent's rows come first, then those of later versions before those of earlier ones.
    others = [(version, tables[one]) for version, one in found[::-1] if one not in held]
    rows_of = [(first.get(one, parent.version), tables[one]) for one in own] + others
    rows = np.repeat(np.array([version for version, _ in rows_of], np.int64), [table.num_rows for _, table in rows_of])
    is_held = np.zeros(len(rows), np.bool_)
    is_held[: sum(tables[one].num_rows for one in own)] = True
    all_rows = pa.concat_tables([HELD.empty_table(), *(table for _, table in rows_of)])
    if not others:  # a version has each key once
        columns = [*all_rows.columns, pa.array(is_held), pa.array(rows)]
        return pa.table(columns, schema=REMEMBERED)
    numbers, count = numbered(all_rows["key"])
    since = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(since, numbers, rows)
    # Numbers rise from the first row on: a key's first row is where its number is greater than all before it.
    firsts = np.flatnonzero(np.diff(np.maximum.accumulate(numbers), prepend=-1) > 0)
    if count < len(rows):
        all_rows = all_rows.take(pa.array(firsts))
    columns = [*all_rows.columns, pa.array(is_held[firsts]), pa.array(since[numbers[firsts]])]
    return pa.table(columns, schema=REMEMBERED)


def _new_shards(store: Store, parent: Manifest) -> Iterator[tuple[int, list[Shard]]]:
    """The versions up to the parent, oldest first, each with its shards that the one before it has not."""
    before: set[str] = set()
    earlier = (version for version in catalog.versions(store, parent.corpus) if version < parent.version)
    for version in (*earlier, parent.version):  # the parent also where it was deleted since it was loaded
        try:
            manifest = parent if version == parent.version else load_manifest(store, parent.corpus, version)
            shards = [] if manifest.is_indexed else list(manifest.shards)
        except (CorruptShard, NotFound) as error:
            _log.warning("%s; the ages of its samples are those of later versions", error)
            continue
        yield version, [shard for shard in shards if shard.identity not in before]
        before = {shard.identity for shard in shards}


def _read(store: Store, shards: Sequence[Shard], own: Collection[str], tables: dict[str, pa.Table]) -> list[str]:
    """Read what shards hold, as far as it is not read yet; their identities. ``own``: those of the parent's shards."""
    wanted = [shard for shard in shards if shard.identity not in tables]
    found = read_side_by_side(store, wanted, lambda shard: shard.index, partial(_held_in, store, own))
    tables.update(zip((shard.identity for shard in wanted), found, strict=True))
    return [shard.identity for shard in shards]


def _held_in(store: Store, own: Collection[str], shard: Shard) -> pa.Table:
    """The samples of one shard. Where its index is damaged, its tar tells them; where both are, nothing does.

    Where the mask of an older version is, all of its rows count: some version held each of them in this split. What the
    parent holds, whose shards are ``own``, is to be known: raises CorruptShard, NotFound where its mask is damaged.
    """
    try:
        index = verified_table(store, shard.index, PACKED_INDEX, sha256=shard.index_sha256, columns=HELD.names[:-1])
    except (CorruptShard, NotFound) as error:
        _log.warning("%s; what it holds is read from %s", error, shard.key)
        try:
            samples = list(iter_samples(verified_view(store, shard.key, sha256=shard.sha256, size=shard.size)))
        except (CorruptShard, NotFound) as damage:
            _log.warning("%s; its samples are judged as new ones", damage)
            return HELD.empty_table()
        rows = [{"key": one.key, "content_sha256": hash_of_content(one)} for one in samples]
        index = pa.Table.from_pylist(rows, schema=HELD)
    try:
        index = Masks(store).live(shard, index)
    except (CorruptShard, NotFound) as error:
        if shard.identity in own:
            raise
        _log.warning("%s; all rows of %s count as what an older version held", error, shard.key)
    columns = [
        index[name].cast(pa.string()) if name in index.column_names else pa.nulls(index.num_rows, pa.string())
        for name in HELD.names[:-1]
    ]
    return pa.table([*columns, pa.repeat(shard.split, index.num_rows)], schema=HELD)
