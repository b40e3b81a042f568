"""Curate: the rules decide, from the records of the whole corpus, which samples are dropped and which split each is in.

A rule names the columns that it reads: no others are decoded. Price: memory holds those columns of all kept samples,
never their payloads. Records whose columns have other types in other parts are read twice.
"""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rule import ALWAYS, DECISIONS, Decision, decisions
from stoker.pipelines.stages.elders import one_split
from stoker.pipelines.stages.elders.grouping import groups_of
from stoker.pipelines.stages.elders.history import remembered
from stoker.pipelines.stages.elders.parent import Parent, decides_alike, has_rules_of, manifest_of, parent_of
from stoker.pipelines.stages.elders.placing import FETCHED, UNKNOWN, Codes, Flags, Placed, only, place
from stoker.pipelines.stages.forgetting.matching import Forgotten, holds_forgotten
from stoker.pipelines.stages.raw_part import NOT_OF_SAMPLES, DamagedParts, kept_columns, read_sample
from stoker.pipelines.stages.scratch import folder_in
from stoker.pipelines.stages.splits import split_of
from stoker.pipelines.tables.deciding.by_group import by_group, ends_of, types_by_group
from stoker.pipelines.tables.deciding.decisions import columns_of, decide, rows_of
from stoker.pipelines.tables.deciding.kept_pairs import HASH, QUALITY, KeptPairs
from stoker.pipelines.tables.deciding.tools import Tools
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards import kinds, records
from stoker.storage.shards.row_checksum import CRC32C, has_checksums
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.manifest import Decisions, Manifest, Part, load_manifest
from stoker.storage.versions.measured.pairs import put_pairs
from stoker.storage.versions.verified import put, read_side_by_side, verified_table

_log = logging.getLogger(__name__)

_READS = 8  # samples that are read at a time
_KEPT = ("key", "group", "start", "stop", "content_sha256")  # of the records, whatever rules read
_DECIDED = ("key", "part", "group", "content_sha256")  # of the samples that stay, beside the split
TOMBSTONES = "tombstones"  # in the place of a rule, before all: what was taken out by its owner is dropped
FIRST_RULE = "unique_keys"  # always applied, before the recipe's: no two samples of a corpus have the same key
LAST_RULE = "one_split"  # always applied, after them: no two samples of the same content lie in two splits
ELDERS = "elders"  # in the place of a rule: what the parent holds stays in its split


@dataclass(frozen=True, slots=True)
class Judging:
    """What a curation may do with elders, beyond what an ingest may. The default is as an ingest judges.

    Args:
        elders: rules judge them, too, whatever rules the parent was made by.
        resplit: splits are given anew, as if there was no parent.
        mend_leaks: of elders of the same content in several splits those in the largest split are dropped.
    """

    elders: bool = False
    resplit: bool = False
    mend_leaks: bool = False


AS_INGEST = Judging()


@dataclass(frozen=True, slots=True)
class Decided:
    """What the rules decide about the samples of parts; nothing of it is stored.

    Args:
        parts: those that are grouped.
        table: the decisions.
        leaks: contents that lie in several splits.
        kept: the samples that stay: key, part, group, and their ``split``.
        of_several_types: see ``_load``.
        pairs: of near-duplicates, that are kept with a version.
    """

    parts: Sequence[Part]
    table: pa.Table
    leaks: int
    kept: pa.Table
    of_several_types: Sequence[pa.Table]
    pairs: KeptPairs


@dataclass(frozen=True, slots=True)
class Curation:
    """The stored decisions, and the groups of parts that are packed together."""

    decisions: Decisions
    groups: tuple[tuple[Part, ...], ...]
    by_group: tuple[bytes, ...]  # Parquet: the decisions on the samples of each group, so that no task loads all
    parent: Parent | None  # that the rules decided against
    tombstones: int = 0  # number of the newest file of them that was obeyed
    pairs: tuple[ListFile, ...] = ()  # of near-duplicates; none where those of the version before hold still


def curate(recipe: Recipe, parts: Sequence[Part], store: Store, scratch: Path) -> Curation:
    """Apply the recipe's rules to the kept samples of the parts, and store the decisions.

    The same parts, recipe and parent give the same decisions, byte for byte. Raises StorageError, DamagedParts among
    them, and RecipeError for a rule that cannot work on these records.
    """
    forgotten = Forgotten.load(store, recipe.corpus)
    parent = parent_of(store, recipe.corpus)
    before = manifest_of(store, recipe.corpus, parent)
    made = _decided(recipe, parts, before, parent, forgotten, store, scratch)
    return replace(made, tombstones=forgotten.tombstones.number)


def _decided(
    recipe: Recipe,
    parts: Sequence[Part],
    before: Manifest | None,
    parent: Parent | None,
    forgotten: Forgotten,
    store: Store,
    scratch: Path,
) -> Curation:
    """The decisions of the version before, where they hold still; else new ones."""
    if before and decides_alike(recipe, parts, before) and not holds_forgotten(store, before, forgotten):
        with suppress(CorruptShard, NotFound):
            return restored(recipe, parts, before.decisions, store, parent)
        _log.warning("%s: the decisions of %s are damaged, and made again", before.decisions.key, before.reference)
        if again := decided_again(recipe, before, store, scratch):
            return replace(again, parent=parent)
    return decide_against(recipe, parts, before, parent, store, scratch, forgotten=forgotten)


def decided_again(recipe: Recipe, manifest: Manifest, store: Store, scratch: Path) -> Curation | None:
    """The decisions of a version, made and stored again; None where they would be others now. Raises as ``curate``."""
    made = manifest  # the first version with these decisions
    before = _parent_manifest(store, made)
    while before and (before.decisions.sha256, before.recipe_digest) == (made.decisions.sha256, made.recipe_digest):
        made, before = before, _parent_manifest(store, before)
    forgotten = Forgotten.load(store, recipe.corpus)
    elders = dict.fromkeys((before and before.version, None))  # None: as releases decided that knew no elders
    for version, out in product(elders, (None, forgotten) if forgotten else (None,)):
        elders_in = before if version else None
        curation = decide_against(recipe, manifest.parts, elders_in, None, store, scratch, forgotten=out)
        if curation.decisions.sha256 == manifest.decisions.sha256:
            return curation
    return None


def _parent_manifest(store: Store, manifest: Manifest) -> Manifest | None:
    """The version before, which is not there if it was deleted."""
    if manifest.parent is None:
        return None
    with suppress(CorruptShard, NotFound):
        return load_manifest(store, manifest.corpus, manifest.parent)
    return None


def restored(recipe: Recipe, parts: Sequence[Part], stored: Decisions, store: Store, parent: Parent | None) -> Curation:
    """Decisions that the store has, for the parts that they were made about. Raises StorageError."""
    table = verified_table(store, stored.key, kinds.DECISIONS, sha256=stored.sha256)
    if unknown := set(table["part"].unique().to_pylist()) - {part.digest for part in parts}:
        raise CorruptShard(f"{store.url}/{stored.key}: decides about raw part {min(unknown)}, which is none of these")
    parts = [part for part in parts if part.grouped]
    return _grouped(recipe, parts, table, stored, _load(parts, store, ())[1], parent)


def decide_against(
    recipe: Recipe,
    parts: Sequence[Part],
    before: Manifest | None,
    parent: Parent | None,
    store: Store,
    scratch: Path,
    *,
    forgotten: Forgotten | None = None,
) -> Curation:
    """Decide about all samples, and store the decisions; see ``curate``.

    Args:
        before: the version whose samples are elders; None: there is none that can be read.
        parent: what to publish after.
        forgotten: what is dropped before any rule.
    """
    decided = decide_about(recipe, parts, before, store, scratch, forgotten=forgotten)
    stored = put_decisions(recipe.corpus, decided, store)
    made = _grouped(recipe, decided.parts, decided.table, stored, decided.of_several_types, parent)
    return replace(made, pairs=decided.pairs.files)


def pairs_again(store: Store, manifest: Manifest, lost: Collection[ListFile]) -> Sequence[tuple[ListFile, bytes]]:
    """Lost objects of pairs of a version that can be made again. Raises DamagedParts, CorruptShard, StorageError."""
    parts = [part for part in manifest.parts if part.grouped]
    samples = _of_pairs(_load(parts, store, {HASH, QUALITY})[0])
    intact = [file for file in manifest.pairs if file not in lost]
    return KeptPairs(store, manifest.corpus, intact, parts, samples).made_again(lost)


def _of_pairs(samples: pa.Table) -> pa.Table:
    """What pairs of near-duplicates are told by."""
    return samples.select([name for name in ("part", HASH, QUALITY) if name in samples.column_names])


def decide_about(
    recipe: Recipe,
    parts: Sequence[Part],
    before: Manifest | None,
    store: Store,
    scratch: Path,
    *,
    forgotten: Forgotten | None = None,
    judging: Judging = AS_INGEST,
) -> Decided:
    """Decide about all samples of the parts, and store nothing; see ``decide_against``. Raises as ``curate``."""
    names = {name for rule in recipe.rules for name in columns_of(rule)} | {*FETCHED}
    parts = [part for part in parts if part.grouped]
    with ThreadPoolExecutor(1, thread_name_prefix="stoker-elders") as beside:
        reading = beside.submit(remembered, store, before)
        samples, of_several_types, known = _load(parts, store, names | (forgotten.columns if forgotten else set()))
    held = reading.result()
    of_pairs = _of_pairs(samples)
    pairs = KeptPairs(store, recipe.corpus, before.pairs if before else (), parts, of_pairs)
    taken_out = samples.slice(0, 0)
    if forgotten:
        is_out = pa.array(forgotten.rows(samples))
        taken_out, samples = samples.filter(is_out), samples.filter(pc.invert(is_out))
    elders_stay = before is not None and has_rules_of(recipe, before) and judging == AS_INGEST
    placed = place(samples, held, recipe.splits, by_age=not elders_stay)
    del samples, of_pairs, held  # which in another order are a copy
    if judging.resplit:
        placed = placed.as_newcomers()
    read = _reader(placed.samples, parts, store)
    asking = partial(
        Tools,
        assign=lambda group: split_of(group, recipe.splits),
        read=read,
        folder=partial(folder_in, scratch),
        elders_stay=elders_stay,
        root=recipe.root,
        splits=recipe.splits,
        bound_keys=placed.samples["key"].filter(pa.array(placed.is_bound)).to_pylist(),
        store=store,
        pairs=pairs,
    )
    table, leaks, kept = _decide(recipe, placed, elders_stay, asking, known, judging)
    if taken_out.num_rows:
        table = pa.concat_tables([_taken_out(taken_out), table])
    if not pc.any(table["verified"]).as_py():
        table = table.drop_columns(["verified"])  # as before rules could say so: the same bytes, the same version
    if not pc.any(pc.not_equal(table["detail"], "")).as_py():
        table = table.drop_columns(["detail"])
    return Decided(parts, table, leaks, kept, of_several_types, pairs)


def put_decisions(corpus: str, decided: Decided, store: Store) -> Decisions:
    """Store what was decided, and the pairs that were found. Raises StorageError."""
    put_pairs(store, decided.pairs.made)
    payload = records.encode(decided.table)
    sha256 = records.sha256(payload)
    key = layout.decisions(corpus, sha256)
    put(store, key, payload, sha256=sha256)
    is_drop = pc.equal(decided.table["action"], "drop")
    dropped = Counter(decided.table["value"].filter(is_drop).to_pylist())
    return Decisions(
        key=key,
        size=len(payload),
        sha256=sha256,
        dropped=dict(sorted(dropped.items())),
        moved=decided.table.num_rows - dropped.total(),
        leaks=decided.leaks,
    )


def _grouped(
    recipe: Recipe,
    parts: Sequence[Part],
    table: pa.Table,
    stored: Decisions,
    of_several_types: Sequence[pa.Table],
    parent: Parent | None,
) -> Curation:
    """The decisions of a table by groups of parts."""
    groups = tuple(map(tuple, groups_of(recipe, parts)))
    return Curation(stored, groups, by_group(table, groups, types_by_group(groups, parts, of_several_types)), parent)


_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("part", pa.string()),
        ("action", pa.string()),
        ("value", pa.string()),
        ("rule", pa.string()),
        ("witness", pa.string()),
        ("similarity", pa.float64()),
        ("verified", pa.bool_()),
        ("detail", pa.string()),
    ]
)


def _load(parts: Sequence[Part], store: Store, names: Collection[str]) -> tuple[pa.Table, list[pa.Table], set[str]]:
    """The kept samples of the parts with what rules read, of each part the columns of several types, and all names.

    Of those two values are there, which tell ``records.common_schema`` what all do. They are read in a second pass,
    where there are any. Raises DamagedParts with all that are damaged.
    """
    wanted = {*_KEPT, *names} - {*NOT_OF_SAMPLES} | {"start", "stop", CRC32C}
    tables: list[pa.Table] = []
    damages: list[DamagedParts] = []
    types: dict[str, set[pa.DataType]] = {}

    def read(part: Part) -> tuple[pa.Table, pa.Schema] | DamagedParts:
        try:
            return kept_columns(store, part, wanted)
        except DamagedParts as error:
            return error

    for part, found in zip(parts, read_side_by_side(store, parts, lambda part: part.records, read), strict=True):
        if isinstance(found, DamagedParts):
            damages.append(found)
            continue
        table, schema = found
        dropped = {"reason"} if has_checksums(table) else {"reason", CRC32C} & set(table.column_names)
        table = table.drop_columns(sorted(dropped))
        tables.append(table.append_column("part", pa.repeat(part.digest, table.num_rows)))
        for field in schema:
            types.setdefault(field.name, set()).add(field.type)
    if damages:
        raise DamagedParts.joined(damages)
    several = {name for name, kinds in types.items() if len(kinds) > 1} - {*NOT_OF_SAMPLES}
    ends = (
        [ends_of(kept_columns(store, part, several)[0].drop_columns(["reason"])) for part in parts] if several else []
    )
    samples = records.join(tables)
    if "content_sha256" not in samples.column_names:  # where nothing was kept
        samples = samples.append_column("content_sha256", pa.nulls(samples.num_rows, pa.string()))
    return samples, ends or [pa.table({})] * len(parts), set(types) - {*NOT_OF_SAMPLES}


def _decide(
    recipe: Recipe,
    placed: Placed,
    elders_stay: bool,
    asking: Callable[..., Tools],  # ...: the rule's name and its rows
    known: Collection[str],
    judging: Judging,
) -> tuple[pa.Table, int, pa.Table]:
    """The decisions of all rules, each of which sees the samples that those before it kept; see ``Decided``.

    Also the leaks that stay, and the samples that are kept.
    """
    tables = [_repeated_keys(placed.repeated)]
    splits = pa.array(list(recipe.splits), pa.string())
    samples, count = placed.samples, placed.samples.num_rows
    samples = samples.append_column("is_elder", pa.array(placed.is_elder))
    samples = samples.append_column("age_rank", pa.array(np.arange(count)))
    split, is_kept = placed.split.copy(), np.ones(count, np.bool_)
    moved = np.zeros(count, np.bool_)

    def taken(decided: pa.Table, name: str) -> pa.Table:
        rows = rows_of(decided["key"], samples["key"])
        codes = pc.fill_null(pc.index_in(decided["value"], value_set=splits), UNKNOWN).to_numpy()
        decided, rows = _allowed(decided, rows, placed, codes != split[rows], elders_stay)
        is_drop = pc.equal(decided["action"], "drop").to_numpy()
        split[rows[~is_drop]] = pc.index_in(decided["value"].filter(pa.array(~is_drop)), value_set=splits).to_numpy()
        moved[rows[~is_drop]] = True
        is_kept[rows[is_drop]] = False
        return _as_stored(decided, samples["part"].take(pa.array(rows)), name)

    def left(names: Collection[str]) -> pa.Table:
        columns = [name for name in samples.column_names if name in names]
        return only(samples.select(columns), pa.array(is_kept))

    for rule in recipe.rules:
        kept = left({*ALWAYS, *columns_of(rule)})
        kept = kept.append_column("split", splits.take(pa.array(split[is_kept])))
        tools = partial(asking, name_of(rule))
        tables.append(taken(decide(rule, kept, tools, tuple(recipe.splits), known), name_of(rule)))
    narrow = left(_DECIDED)
    fixed = placed.is_elder | placed.is_bound
    # All that the parent holds is among the samples where those are judged: what was dropped of it binds nobody.
    held, is_elder = None if judging.elders else placed.held, placed.is_elder[is_kept]
    copies = one_split.decide(narrow, split[is_kept], is_elder, fixed[is_kept], held, list(recipe.splits))
    tables.append(taken(decisions(copies), LAST_RULE))
    if judging.mend_leaks:
        mended = one_split.mend(left(("key", "content_sha256")), split[is_kept], list(recipe.splits.values()))
        tables.append(taken(decisions(mended), LAST_RULE))
    stay = np.flatnonzero(is_kept & ~moved & (split != placed.by_name))
    chosen = pa.array(stay)
    tables.append(_that_stay(samples.take(chosen), splits.take(pa.array(split[stay])), placed.former.take(chosen)))
    kept = narrow if narrow.num_rows == is_kept.sum() else left(_DECIDED)
    leaks = one_split.count_torn(kept, split[is_kept])
    return pa.concat_tables(tables), leaks, kept.append_column("split", splits.take(pa.array(split[is_kept])))


def _allowed(decided: pa.Table, rows: Codes, placed: Placed, other: Flags, elders_stay: bool) -> tuple[pa.Table, Codes]:
    """What counts of a rule's decisions, and their rows: an elder keeps its split, and stays if elders do.

    A sample whose key the parent knows is dropped where a rule wants it in another split: of ``decided`` those that do.
    """
    is_split = pc.equal(decided["action"], "split").to_numpy()
    counts = ~placed.is_elder[rows] | (~is_split & (not elders_stay))
    torn = pa.array(is_split & other & placed.is_bound[rows])
    if pc.any(torn).as_py():
        for name, word in (("action", "drop"), ("value", "split_conflict")):
            column = pc.if_else(torn, word, decided[name])
            decided = decided.set_column(decided.schema.get_field_index(name), name, column)
    return (decided, rows) if counts.all() else (decided.filter(pa.array(counts)), rows[counts])


def _that_stay(samples: pa.Table, split: pa.Array, former: pa.ChunkedArray) -> pa.Table:
    """The decisions that keep samples in another split than their group's name says, as the parent has it."""
    columns = {"key": samples["key"], "action": pa.repeat("split", len(split)), "value": split, "witness": former}
    columns |= {"similarity": pa.nulls(len(split), pa.float64()), "verified": pa.repeat(False, len(split))}
    columns |= {"detail": pa.repeat("", len(split))}
    return _as_stored(pa.table(columns, schema=DECISIONS), samples["part"], ELDERS)


def _taken_out(samples: pa.Table) -> pa.Table:
    """The decisions that drop what the owner took out."""
    dropped = (Decision(key, "drop", "forgotten") for key in samples["key"].to_pylist())
    return _as_stored(decisions(dropped), samples["part"], TOMBSTONES)


def _repeated_keys(samples: pa.Table) -> pa.Table:
    """The decisions of the first rule: of samples with one key all but the first are dropped."""
    dropped = (
        Decision(key, "drop", "duplicate_key", witness=key, similarity=1.0) for key in samples["key"].to_pylist()
    )
    return _as_stored(decisions(dropped), samples["part"], FIRST_RULE)


def _as_stored(decided: pa.Table, part: pa.ChunkedArray, rule: str) -> pa.Table:
    columns = {name: decided[name] for name in decided.column_names}
    columns |= {"part": part, "rule": pa.repeat(rule, decided.num_rows)}
    return pa.table({name: columns[name] for name in _SCHEMA.names}, schema=_SCHEMA)


def _reader(samples: pa.Table, parts: Sequence[Part], store: Store) -> Callable[[Sequence[str]], Iterator[Sample]]:
    """Reads samples by their keys, in this order. It raises KeyError for one that is not there, DamagedParts."""
    part_of = {part.digest: part for part in parts}
    read_by = [name for name in ("part", *_KEPT, CRC32C) if name in samples.column_names]

    @cache
    def ordered() -> tuple[pa.Array, Codes]:
        keys = samples["key"].cast(pa.large_string()).combine_chunks()
        return keys, pc.sort_indices(keys).to_numpy()

    def row_of(key: str) -> int:
        keys, order = ordered()
        place = bisect_left(order, key, key=lambda row: keys[row].as_py())
        if place == len(order) or keys[order[place]].as_py() != key:
            raise KeyError(key)
        return int(order[place])

    def read(keys: Sequence[str]) -> Iterator[Sample]:
        rows = samples.select(read_by).take(pa.array(map(row_of, keys), pa.int64())).to_pylist()
        with ThreadPoolExecutor(_READS) as pool:  # each waits for the store
            for start in range(0, len(rows), _READS):  # no more are in memory
                yield from pool.map(
                    lambda row: read_sample(store, part_of[row["part"]], row), rows[start : start + _READS]
                )

    return read
