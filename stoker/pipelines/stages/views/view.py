"""The view that decisions make of a version: masks over its shards, and new shards of the samples that it lacks.

A stored sample stays where its shard has it if it is kept in that split; all others of its shard are masked. What is
kept and lies nowhere is packed from the raw parts. Price: keys and parts of all indexes are read, and the tars of the
raw parts that hold what is packed.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.partition import cut
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.stages import group
from stoker.pipelines.stages.curate import Decided
from stoker.pipelines.stages.group import Packed
from stoker.pipelines.stages.pack import pack
from stoker.pipelines.tables.deciding.by_group import DECIDED, types_by_group, with_types
from stoker.storage.shards import records
from stoker.storage.shards.kinds import INDEX, PACKED_INDEX
from stoker.storage.statistics.licences import count_licences
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Mask, Shard
from stoker.storage.versions.masks import mask as masking
from stoker.storage.versions.masks.mask import BoolArray, Masks
from stoker.storage.versions.top_values import with_one_kind, with_top_values
from stoker.storage.versions.verified import read_side_by_side, verified_table

_PLACE = ("key", "part", "split")  # what a stored and a wanted sample are compared by


@dataclass(frozen=True, slots=True)
class Stored:
    """What of a version's shards is wanted, and what is wanted and not there.

    Args:
        masked: of each shard the rows that are not wanted, by its key.
        missing: the wanted samples that no shard has: key, part, group, split.
        masked_anew: samples of the version that are masked now.
        live_again: samples that the version masks, and which are wanted.
        moved: samples of the version that are masked now and wanted in another split: they neither leave nor come.
    """

    masked: Mapping[str, BoolArray]
    missing: pa.Table
    masked_anew: int
    live_again: int
    moved: int

    @property
    def leaving(self) -> int:
        """Samples of the version that are not wanted, in any split."""
        return self.masked_anew - self.moved

    @property
    def coming(self) -> int:
        """Wanted samples that the version does not hold, in any split."""
        return int(self.missing.num_rows) + self.live_again - self.moved

    @property
    def is_same(self) -> bool:
        """Whether the version holds the wanted samples, and no others."""
        return not (self.masked_anew or self.live_again or self.missing.num_rows)


def compare(store: Store, before: Manifest, kept: pa.Table) -> Stored:
    """Compare the samples that are kept with what the shards of a version store. Raises StorageError."""
    masks, taken = Masks(store), np.zeros(kept.num_rows, np.bool_)
    indexes = list(_indexes(store, before))
    stored = pa.concat_tables([kept.select(_PLACE).slice(0, 0), *indexes])
    # Of all shards at once: for each the wanted keys would be made a table to look them up in. No two have one key.
    rows_by_key = pc.index_in(stored["key"], value_set=kept["key"])
    same = pc.and_(*(pc.equal(kept[name].take(rows_by_key), stored[name]) for name in ("part", "split")))
    is_wanted = pc.fill_null(same, False).to_numpy()
    rows = pc.fill_null(rows_by_key, -1).to_numpy().astype(np.int64)
    masked: dict[str, BoolArray] = {}
    start = anew = again = moved = 0
    for shard, index in zip(before.shards, indexes, strict=True):
        here = slice(start, start + index.num_rows)
        start = here.stop
        # A sample that two groups store is live in the first.
        is_live = is_wanted[here].copy()
        is_live[is_live] = ~taken[rows[here][is_live]]
        taken[rows[here][is_live]] = True
        masked[shard.key] = ~is_live
        hidden = masks.of(shard)
        hidden = np.zeros(shard.rows, np.bool_) if hidden is None else hidden
        goes = ~hidden & ~is_live
        anew += int(goes.sum())
        moved += int((rows[here][goes] >= 0).sum())
        again += int((hidden & is_live).sum())
    return Stored(masked, kept.filter(pa.array(~taken)), anew, again, moved)


def _indexes(store: Store, version: Manifest) -> Iterator[pa.Table]:
    return read_side_by_side(store, version.shards, lambda shard: shard.index, partial(_index_of, store))


def _index_of(store: Store, shard: Shard) -> pa.Table:
    """What places the samples of a shard."""
    index = verified_table(store, shard.index, PACKED_INDEX, sha256=shard.index_sha256, columns=["key", "part"])
    return index.select(["key", "part"]).append_column("split", pa.repeat(shard.split, index.num_rows))


def samples_of(store: Store, version: Manifest) -> pa.Table:
    """The samples of a version: key, part, split. Raises StorageError."""
    masks = Masks(store)
    tables = map(masks.live, version.shards, _indexes(store, version))
    return pa.concat_tables([pa.table({name: pa.array([], pa.string()) for name in _PLACE}), *tables])


def _places(samples: pa.Table) -> pa.Array:
    columns = [samples[name].combine_chunks().cast(pa.large_string()) for name in _PLACE]
    joined: pa.Array = pc.binary_join_element_wise(*columns, pa.scalar("\t", pa.large_string()))
    return joined


def pack_missing(
    recipe: Recipe, decided: Decided, missing: pa.Table, store: Store, scratch: Path, damaged: Collection[str]
) -> list[Packed]:
    """Shards of the wanted samples that no shard has. Raises StorageError, DamagedParts among them."""
    if not missing.num_rows:
        return []
    wanted = set(missing["part"].unique().to_pylist())
    chosen = [part for part in decided.parts if part.digest in wanted]
    groups = [tuple(run) for run in cut(chosen, lambda part: part.digest, target=recipe.shards.partitions)]
    types = types_by_group(groups, decided.parts, decided.of_several_types)
    packed = []
    for parts, of_group in zip(groups, types, strict=True):
        digests = pa.array([part.digest for part in parts])
        here = [table.filter(pc.is_in(table["part"], digests)) for table in (decided.table, decided.kept, missing)]
        payload = records.encode(with_types(_to_pack_only(*here), of_group))
        packed.append(pack(recipe, parts, payload, store, scratch, damaged=damaged))
    return packed


def _to_pack_only(table: pa.Table, kept: pa.Table, missing: pa.Table) -> pa.Table:
    """Decisions that leave no samples but the missing ones: what is kept and lies in a shard is dropped, too."""
    is_there = pc.is_null(pc.index_in(_places(kept), value_set=_places(missing)))
    dropped = [table.filter(pc.equal(table["action"], "drop")), kept.filter(is_there)]
    drops = pa.concat_tables(one.select(["key", "part"]) for one in dropped)
    drops = drops.append_column("action", pa.repeat("drop", drops.num_rows))
    moves = missing.select(["key", "part"]).append_column("action", pa.repeat("split", missing.num_rows))
    drops = drops.append_column("value", pa.nulls(drops.num_rows, pa.string()))
    return pa.concat_tables([drops, moves.append_column("value", missing["split"])]).select(DECIDED)


def shards_and_masks(
    store: Store, before: Manifest, stored: Stored, packed: Iterable[Packed]
) -> tuple[tuple[Shard, ...], tuple[Mask, ...]]:
    """The shards of the view and its masks, which are written. Groups of which nothing is wanted are left out."""
    groups: dict[str, list[Shard]] = defaultdict(list)
    for shard in before.shards:
        groups[shard.group].append(shard)
    shards: list[Shard] = []
    masks: dict[str, Mask] = {}
    for name, of_group in groups.items():
        bits = np.concatenate([stored.masked[shard.key] for shard in of_group])
        if bits.all():
            continue
        if bits.any():
            masks[name] = masking.write(store, before.corpus, name, bits)
        shards += [_masked(shard, int(stored.masked[shard.key].sum())) for shard in of_group]
    for one in packed:
        shards += one.shards
    return tuple(shards), tuple(masks[name] for name in sorted(masks))


def _masked(shard: Shard, count: int) -> Shard:
    return dataclasses.replace(shard, samples=shard.rows - count, masked=count, place=None)


@dataclass(frozen=True, slots=True)
class Counts:
    """Statistics by split and licences of a version's samples."""

    statistics: Mapping[str, object]
    licences: Mapping[str, int]


def count(store: Store, view: Manifest, splits: Sequence[str], packed: Iterable[Packed]) -> Counts:
    """Count the samples of a view; of groups without a mask their markers tell. Raises StorageError."""
    summaries = {split: Summary.empty() for split in splits}
    licences: Counter[str] = Counter()
    known = {one.group: one for one in packed}
    by_group: dict[str, list[Shard]] = defaultdict(list)
    for shard in view.shards:
        by_group[shard.group].append(shard)
    masks = Masks(store)
    for name, shards in by_group.items():
        whole = known.get(name) or _of_marker(store, view.corpus, name, shards)
        if whole is not None:
            for split, summary in whole.statistics.items():
                summaries[split] = summaries.get(split, Summary.empty()).merge(Summary.from_json(summary))
            licences.update(whole.licences)
            continue
        for shard in shards:
            index = masks.live(shard, verified_table(store, shard.index, INDEX, sha256=shard.index_sha256))
            # A shard that is masked as a whole may be of a split that the recipe does not have any more.
            summaries[shard.split] = summaries.get(shard.split, Summary.empty()).merge(summarise(index))
            licences.update(count_licences(index))
    whole_version = with_top_values(with_one_kind(summaries, view.shards, store), view.shards, store)
    statistics = {split: summary.to_json() for split, summary in whole_version.items()}
    return Counts(statistics, dict(sorted(licences.items())))


def _of_marker(store: Store, corpus: str, name: str, shards: Sequence[Shard]) -> Packed | None:
    """What the marker of a group says, if the version holds the whole group."""
    if any(shard.masked for shard in shards):
        return None
    marker = group.read_marker(store, corpus, name)
    return marker if marker is not None and list(marker.shards) == list(shards) else None
