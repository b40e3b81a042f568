"""Elders: the samples that the parent version holds. Each stays in its split, and newcomers are placed by them.

What a version holds is read from the indexes of its shards, which tell the split that training saw, whatever recipe and
release gave it. Price: an ingest that finds other parts than its parent reads those indexes once.
"""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.rule import numbered
from stoker.pipelines.stages.measure import hash_of_content
from stoker.pipelines.stages.splits import split_of
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.kinds import PACKED_INDEX
from stoker.storage.shards.shard import iter_samples
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Shard, load_manifest
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.memory.outcomes import hashes_of
from stoker.storage.versions.verified import verified_table, verified_view

_log = logging.getLogger(__name__)

HELD = pa.schema([(name, pa.string()) for name in ("key", "group", "content_sha256", "split")])
_THREADS = 8  # that read indexes
UNKNOWN = -1  # of a split: the recipe has none of that name

Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Placed:
    """The samples of a corpus with unique keys, before any rule: elders first, then those whose keys are known.

    Args:
        samples: as they were given, in this order.
        repeated: those whose keys others have, too.
        is_elder: the parent holds the same content under the same key, or did so under one that is gone.
        is_bound: the parent holds other content under this key: it keeps the split, and is judged as a newcomer.
        split: index in the recipe's splits.
        by_name: the split that the hash of the group's name gives.
        former: of an elder under a new key, the key that is gone; "" of others.
        held: what the parent holds: HELD, with the column ``code`` of splits; those whose split is UNKNOWN left out.
    """

    samples: pa.Table
    repeated: pa.Table
    is_elder: Flags
    is_bound: Flags
    split: Codes
    by_name: Codes
    former: pa.ChunkedArray
    held: pa.Table


def held_by(store: Store, manifest: Manifest | None) -> pa.Table:
    """The samples of a version: HELD. None of external tars, whose keys no source gave. Raises StorageError."""
    if manifest is None or manifest.is_indexed:
        return HELD.empty_table()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="stoker-elders") as threads:
        tables = list(threads.map(partial(_held_in, store), manifest.shards))
    return pa.concat_tables([HELD.empty_table(), *tables])


def _held_in(store: Store, shard: Shard) -> pa.Table:
    """The samples of one shard. Where its index is damaged, its tar tells them; where both are, nothing does."""
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
    index = Masks(store).live(shard, index)
    columns = [
        index[name].cast(pa.string()) if name in index.column_names else pa.nulls(index.num_rows, pa.string())
        for name in HELD.names[:-1]
    ]
    return pa.table([*columns, pa.repeat(shard.split, index.num_rows)], schema=HELD)


def place(samples: pa.Table, held: pa.Table, splits: Mapping[str, float]) -> Placed:
    """Where samples are before rules: an elder in its split, any other with its group. The first of a key counts.

    Args:
        samples: with key, group, content_sha256.
        held: what the parent holds, from ``held_by``.
        splits: the recipe's.
    """
    names = pa.array(list(splits), pa.string())
    held = held.append_column("code", pc.fill_null(pc.index_in(held["split"], value_set=names), UNKNOWN))
    held = held.filter(pc.greater_equal(held["code"], 0))
    place_in_held = pc.index_in(samples["key"], value_set=held["key"])
    known = pc.is_valid(place_in_held).to_numpy()
    same = pc.equal(held["content_sha256"].take(place_in_held), samples["content_sha256"])
    is_elder = pc.fill_null(same, False).to_numpy()
    # Of one key the elder, or else the first.
    numbers, _ = numbered(samples["key"])
    by_claim = np.argsort(~is_elder, kind="stable")
    chosen = by_claim[np.unique(numbers[by_claim], return_index=True)[1]]
    is_chosen = np.zeros(samples.num_rows, np.bool_)
    is_chosen[chosen] = True
    repeated = samples.filter(pa.array(~is_chosen))
    origin = pc.fill_null(place_in_held, -1).to_numpy().astype(np.int64)
    origin[~is_elder] = -1
    _add_renamed(origin, samples, held, is_chosen)
    is_elder = origin >= 0
    rank = np.where(is_elder, 0, np.where(known, 1, 2))
    order = np.argsort(rank, kind="stable")
    order = order[is_chosen[order]]
    by_name, split = _by_group(samples, held, splits)
    codes = held["code"].to_numpy()
    before = np.where(is_elder, origin, pc.fill_null(place_in_held, -1).to_numpy())
    split = np.where(before >= 0, codes[before] if len(codes) else split, split)
    former = pc.if_else(
        pa.array(is_elder & ~known), held["key"].take(pa.array(origin, pa.int64(), mask=origin < 0)), ""
    )
    return Placed(
        samples=_taken(samples, order),
        repeated=repeated,
        is_elder=is_elder[order],
        is_bound=(known & ~is_elder)[order],
        split=split[order],
        by_name=by_name[order],
        former=pc.fill_null(former, "").take(pa.array(order)),
        held=held,
    )


def _taken(samples: pa.Table, order: Codes) -> pa.Table:
    """The rows in this order; not copied where they are all the rows as they are."""
    if len(order) == samples.num_rows and bool((order == np.arange(len(order))).all()):
        return samples
    return samples.take(pa.array(order))


def _add_renamed(origin: Codes, samples: pa.Table, held: pa.Table, is_chosen: Flags) -> None:
    """Give samples whose content the parent holds under a key that is gone the place of that one in ``held``.

    Of several of one content the first by key is the first one's, whatever the order of the source.
    """
    there = np.zeros(held.num_rows, np.bool_)
    there[origin[is_chosen & (origin >= 0)]] = True
    gone = np.flatnonzero(~there & pc.is_valid(held["content_sha256"]).to_numpy())
    if not gone.size:
        return
    contents = held["content_sha256"].take(pa.array(gone)).unique()
    own = pc.fill_null(pc.index_in(samples["content_sha256"], value_set=contents), -1).to_numpy()
    claims = np.flatnonzero(is_chosen & (origin < 0) & (own >= 0))
    numbers = pc.index_in(held["content_sha256"].take(pa.array(gone)), value_set=contents).to_numpy()
    gone, numbers = _by_key(gone, numbers, held)
    claims, wanted = _by_key(claims, own[claims], samples)
    width = max(len(gone), len(claims)) + 1
    _, ours, theirs = np.intersect1d(
        numbers * width + _rank(numbers), wanted * width + _rank(wanted), assume_unique=True, return_indices=True
    )
    origin[claims[theirs]] = gone[ours]


def _by_key(rows: Codes, numbers: Codes, table: pa.Table) -> tuple[Codes, Codes]:
    """Rows of a table and their numbers, sorted by number and key."""
    keys = pa.table({"number": numbers, "key": table["key"].take(pa.array(rows))})
    order = pc.sort_indices(keys, [("number", "ascending"), ("key", "ascending")]).to_numpy()
    return rows[order], numbers[order].astype(np.int64)


def _rank(numbers: Codes) -> Codes:
    """The place of each among its equals; equal numbers lie together."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    lengths = np.diff(np.append(starts, len(numbers)))
    return np.arange(len(numbers)) - np.repeat(starts, lengths)


def _by_group(samples: pa.Table, held: pa.Table, splits: Mapping[str, float]) -> tuple[Codes, Codes]:
    """Of each sample the split by its group's name, and that of the group's elders, where it has any."""
    numbers, count = numbered(samples["group"])
    codes = {name: code for code, name in enumerate(splits)}
    groups = samples["group"].unique()
    by_name = np.array([codes[split_of(group, splits)] for group in groups.to_pylist()], np.int64)
    own = pc.fill_null(pc.index_in(held["group"], value_set=groups), -1).to_numpy()
    of_elders = by_name.copy()
    # Written last to first, so that the first elder's is what remains.
    members = np.flatnonzero(own >= 0)[::-1]
    of_elders[own[members]] = held["code"].to_numpy()[members]
    return (by_name[numbers], of_elders[numbers]) if count else (numbers, numbers)


def sorted_by_age(placed: Placed, store: Store, corpus: str) -> Placed:
    """The same, elders in the order of the first version that held them, then of a hash of the key.

    Reads the keys of every shard of every version once. Versions that were deleted, or are damaged, are not asked.
    """
    elders = int(placed.is_elder.sum())
    keys = placed.samples["key"].slice(0, elders)
    since = np.full(elders, np.iinfo(np.int64).max)
    columns = {"key": keys, "content_sha256": placed.samples["content_sha256"].slice(0, elders)}
    for version, held in _history(store, corpus):
        for name, column in columns.items():
            there = pc.and_(pc.is_in(column, value_set=held[name]), pc.is_valid(column)).to_numpy()
            since[there] = np.minimum(since[there], version)
    order = np.lexsort((hashes_of("", keys.to_pylist()), since))
    order = np.concatenate([order, np.arange(elders, placed.samples.num_rows)])
    return replace(
        placed,
        samples=_taken(placed.samples, order),
        is_elder=placed.is_elder[order],
        is_bound=placed.is_bound[order],
        split=placed.split[order],
        by_name=placed.by_name[order],
        former=placed.former.take(pa.array(order)),
    )


def _history(store: Store, corpus: str) -> Iterator[tuple[int, pa.Table]]:
    """Each version, oldest first, with the samples of its shards that no older version has."""
    seen: set[str] = set()
    for version in catalog.versions(store, corpus):
        try:
            manifest = load_manifest(store, corpus, version)
            shards = [shard for shard in manifest.shards if shard.identity not in seen]
        except (CorruptShard, NotFound) as error:
            _log.warning("%s; the ages of its samples are those of later versions", error)
            continue
        seen.update(shard.identity for shard in shards)
        if not manifest.is_indexed:
            yield version, pa.concat_tables([HELD.empty_table(), *(_held_in(store, shard) for shard in shards)])
