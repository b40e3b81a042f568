"""Views: versions that leave out samples of the version before by masks, without writing a tar again.

Who makes one holds the lease of an ingest, so that gc does not take its mask away before its manifest is there. Price:
the keys of all indexes are read to find the samples, and all columns to count statistics again.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.clock import Clock, timestamp, utc_now
from stoker.storage.errors import AlreadyExists, SampleNotFound
from stoker.storage.shards import records
from stoker.storage.shards.kinds import DECISIONS, INDEX, PACKED_INDEX
from stoker.storage.statistics.licences import EXTERNAL, OURS, count_licences
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.content import checksum_of, content_of
from stoker.storage.versions.manifest import SCHEMA, Decisions, Manifest, Shard, load_manifest, publish
from stoker.storage.versions.masks.mask import BoolArray, Masks, write
from stoker.storage.versions.top_values import with_one_kind, with_top_values
from stoker.storage.versions.verified import put, verified_table

_RULE = "masks"  # that drops the samples
_TEXTS = ("key", "part", "action", "value", "rule", "witness")
_DECIDED = pa.schema([*((name, pa.string()) for name in _TEXTS), ("similarity", pa.float64())])  # of rules' decisions


def with_masks(
    store: Store,
    manifest: Manifest,
    keys: Collection[str],
    *,
    reason: str = "masked",
    decisions: Decisions | None = None,
    code: str = "",
    now: Clock = utc_now,
) -> Manifest:
    """Publish the next version, which is this one without the samples that have these keys; without keys, itself.

    Raises SampleNotFound for a key that the version does not hold, AlreadyExists if it is not the newest version any
    more, CorruptShard, StorageError.

    Args:
        store: that holds the version.
        manifest: of the version.
        keys: of samples that it holds.
        reason: of the drops that are added to its decisions; a version of external tars has none.
        decisions: in the place of these: what the rules decided, drops of the masked samples among it.
        code: version of Stoker; "": the one that made this version.
        now: the clock.
    """
    if not keys:
        return manifest
    wanted = pa.array(sorted(set(keys)), pa.string())
    masks = Masks(store)
    kind = PACKED_INDEX if manifest.parts else INDEX
    masked: dict[str, BoolArray] = {}  # rows of a shard, by its key; of shards that lose samples
    dropped: list[pa.Table] = []
    for shard in manifest.shards:
        index = verified_table(store, shard.index, kind, sha256=shard.index_sha256, columns=["key", "part"])
        before = masks.of(shard)
        before = np.zeros(shard.rows, np.bool_) if before is None else before
        lost = np.asarray(pc.is_in(index["key"], value_set=wanted).to_pylist(), np.bool_) & ~before
        if lost.any():
            masked[shard.key] = before | lost
            dropped.append(index.filter(pa.array(lost)))
    found = {key for table in dropped for key in table["key"].to_pylist()}
    missing = next((key for key in wanted.to_pylist() if key not in found), None)
    if missing is not None:
        raise SampleNotFound(f"{manifest.reference} holds no sample {missing[:100]!r}, so that it cannot be masked")
    if manifest.parts and decisions is None:
        decisions = _with_drops(store, manifest, dropped, reason)
    numbers = catalog.numbers(store, manifest.corpus)
    if numbers.existing[-1:] != [manifest.version]:
        newest = f"{manifest.corpus}@{numbers.existing[-1]}" if numbers.existing else "none"
        raise AlreadyExists(f"{manifest.reference} is not the newest version, that is {newest}; begin anew with that")
    view = _masked(store, manifest, masked, decisions or manifest.decisions)
    view = dataclasses.replace(
        view,
        version=numbers.last + 1,
        parent=manifest.version,
        parent_checksum=manifest.checksum or load_manifest(store, manifest.corpus, manifest.version).checksum,
        created_at=timestamp(now()),
        stoker=code or manifest.stoker,
    )
    publish(store, view)
    return view


def keep_masks(store: Store, before: Manifest, manifest: Manifest) -> Manifest:
    """A manifest that is not published yet, without the samples that the version before masks in the same tars.

    Raises CorruptShard, StorageError.
    """
    masks = Masks(store)
    old = {(shard.key, shard.split, shard.sha256, shard.rows): shard for shard in before.shards if shard.masked}
    masked = {}
    for shard in manifest.shards:
        same = old.get((shard.key, shard.split, shard.sha256, shard.rows))
        if same is not None and (rows := masks.of(same)) is not None:
            masked[shard.key] = rows
    return _masked(store, manifest, masked, manifest.decisions) if masked else manifest


def _masked(store: Store, manifest: Manifest, masked: Mapping[str, BoolArray], decisions: Decisions) -> Manifest:
    """The manifest of the view but for its number, parent and time; its masks are in the store."""
    kept = Masks(store)
    masks = {mask.group: mask for mask in manifest.masks}
    shards: list[Shard] = []
    groups: dict[str, list[Shard]] = defaultdict(list)
    for shard in manifest.shards:
        groups[shard.group].append(shard)
        rows = masked.get(shard.key)
        count = shard.masked if rows is None else int(rows.sum())
        shards.append(dataclasses.replace(shard, samples=shard.rows - count, masked=count, place=None))
    for group in sorted({shard.group for shard in manifest.shards if shard.key in masked}):
        of_group = groups[group]
        bits = [masked.get(shard.key, kept.of(shard)) for shard in of_group]
        rows_of = [np.zeros(s.rows, np.bool_) if b is None else b for s, b in zip(of_group, bits, strict=True)]
        masks[group] = write(store, manifest.corpus, group, np.concatenate(rows_of))
    in_order = tuple(masks[group] for group in sorted(masks))
    content = content_of(shards, in_order)
    if manifest.is_indexed:  # it depends on more than the tars there
        content = checksum_of([manifest.content, sorted(mask.sha256 for mask in in_order)])[: layout.DIGEST]
    view = dataclasses.replace(
        manifest,
        schema=SCHEMA,
        checksum="",
        content=content,
        shards=tuple(shards),
        masks=in_order,
        decisions=decisions,
    )
    return counted_again(store, view)


def counted_again(store: Store, manifest: Manifest) -> Manifest:
    """The version with the statistics and licences of the samples that it holds."""
    masks, licences, shards = Masks(store), Counter[str](), manifest.shards
    summaries = {split: Summary.empty() for split in (*manifest.statistics, *manifest.splits)}
    for shard in shards:
        index = masks.live(shard, verified_table(store, shard.index, INDEX, sha256=shard.index_sha256))
        summaries[shard.split] = summaries[shard.split].merge(summarise(index))
        licences.update(count_licences(index, EXTERNAL if manifest.is_indexed else OURS))
    whole = with_top_values(with_one_kind(summaries, shards, store), shards, store)
    statistics = {split: summary.to_json() for split, summary in whole.items()}
    return dataclasses.replace(manifest, statistics=statistics, licences=dict(sorted(licences.items())))


def _with_drops(store: Store, manifest: Manifest, dropped: Sequence[pa.Table], reason: str) -> Decisions:
    """The version's decisions, and a drop of each of these samples."""
    before = manifest.decisions
    decided = verified_table(store, before.key, DECISIONS, sha256=before.sha256)
    drops = [
        {"key": key, "part": part, "action": "drop", "value": reason, "rule": _RULE}
        for table in dropped
        for key, part in zip(table["key"].to_pylist(), table["part"].to_pylist(), strict=True)
    ]
    table = pa.Table.from_pylist(drops, schema=_DECIDED)
    payload = records.encode(records.join([decided, table]))
    sha256 = records.sha256(payload)
    key = layout.decisions(manifest.corpus, sha256)
    put(store, key, payload, sha256=sha256)
    counts = Counter(before.dropped) + Counter({reason: len(drops)})
    return dataclasses.replace(before, key=key, size=len(payload), sha256=sha256, dropped=dict(sorted(counts.items())))
