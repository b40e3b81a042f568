"""Curate: the rules decide, from the records of the whole corpus, which samples are dropped and which split each is in.

A rule names the columns that it reads: no others are decoded. Price: memory holds those columns of all kept samples,
never their payloads. Records whose columns have other types in other parts are read twice.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.partition import cut
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rule import Decision, decisions, numbered
from stoker.pipelines.stages.parent import Parent, parent_of
from stoker.pipelines.stages.raw_part import NOT_OF_SAMPLES, DamagedParts, kept_columns, read_sample
from stoker.pipelines.stages.scratch import folder_in
from stoker.pipelines.stages.splits import split_of
from stoker.pipelines.tables.deciding.decisions import columns_of, decide
from stoker.pipelines.tables.deciding.tools import Tools
from stoker.storage.shards import records
from stoker.storage.shards.row_checksum import CRC32C, has_checksums
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Decisions, Part
from stoker.storage.versions.verified import put

DECIDED = ("key", "part", "action", "value")  # columns of a group's decisions
_TYPE = "type of "  # begins the names of columns without values, see ``with_types``
_KEPT = ("key", "group", "start", "stop", "content_sha256")  # of the records, whatever rules read
FIRST_RULE = "unique_keys"  # always applied, before the recipe's: no two samples of a corpus have the same key


@dataclass(frozen=True, slots=True)
class Curation:
    """The stored decisions, and the groups of parts that are packed together."""

    decisions: Decisions
    groups: tuple[tuple[Part, ...], ...]
    by_group: tuple[bytes, ...]  # Parquet: the decisions on the samples of each group, so that no task loads all
    parent: Parent | None  # that the rules decided against


def curate(recipe: Recipe, parts: Sequence[Part], store: Store, scratch: Path) -> Curation:
    """Apply the recipe's rules to the kept samples of the parts, and store the decisions.

    The same parts and recipe give the same decisions, byte for byte. Raises StorageError, DamagedParts among them, and
    RecipeError for a rule that cannot work on these records.
    """
    parent = parent_of(store, recipe.corpus)
    names = {name for rule in recipe.rules for name in columns_of(rule)}
    samples, of_several_types = _load(parts, store, names)
    table = pa.concat_tables(_decide(recipe, samples, _reader(samples, parts, store), scratch))
    if not pc.any(table["verified"]).as_py():
        table = table.drop_columns(
            ["verified"]
        )  # as it was before rules could say so: the same bytes, the same version
    payload = records.encode(table)
    sha256 = records.sha256(payload)
    key = layout.decisions(recipe.corpus, sha256)
    put(store, key, payload, sha256=sha256)
    is_drop = pc.equal(table["action"], "drop")
    dropped = Counter(table["value"].filter(is_drop).to_pylist())
    stored = Decisions(
        key=key,
        size=len(payload),
        sha256=sha256,
        dropped=dict(sorted(dropped.items())),
        moved=table.num_rows - dropped.total(),
    )
    groups = tuple(map(tuple, cut(parts, lambda part: part.digest, target=recipe.shards.partitions)))
    return Curation(stored, groups, _by_group(table, groups, _types_by_group(groups, parts, of_several_types)), parent)


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
    ]
)


def _by_group(
    table: pa.Table, groups: Sequence[Sequence[Part]], types: Iterable[Mapping[str, pa.DataType]]
) -> tuple[bytes, ...]:
    """The decisions on each group's samples, as ``pack`` takes them; one pass over all."""
    group_of = {part.digest: number for number, group in enumerate(groups) for part in group}
    numbers = np.array([group_of[part] for part in table["part"].to_pylist()], np.int64)
    rows = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[rows], np.arange(len(groups) + 1))
    table = table.select(DECIDED)
    decisions = (table.take(pa.array(rows[start:stop])) for start, stop in pairwise(ends))
    return tuple(records.encode(with_types(*of_group)) for of_group in zip(decisions, types, strict=True))


def _types_by_group(
    groups: Sequence[Sequence[Part]], parts: Sequence[Part], tables: Sequence[pa.Table]
) -> Iterator[dict[str, pa.DataType]]:
    """Of each group the columns that would have another type there than in the version, and that type.

    So a column has one type in all indexes of a version, also where a group has no value of it.
    """
    whole = records.common_schema(tables)
    table_of = {part.digest: table for part, table in zip(parts, tables, strict=True)}
    for group in groups:
        own = records.common_schema([table_of[part.digest] for part in group])
        yield {field.name: kind for field in own if (kind := whole.field(field.name).type) != field.type}


def with_types(decisions: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The decisions on a group, with empty columns whose types are those of columns of its records."""
    for name, kind in types.items():
        decisions = decisions.append_column(f"{_TYPE}{name}", pa.nulls(decisions.num_rows, kind))
    return decisions


def types_in(decisions: pa.Table) -> dict[str, pa.DataType]:
    """The types that ``with_types`` added."""
    return {field.name[len(_TYPE) :]: field.type for field in decisions.schema if field.name.startswith(_TYPE)}


def without_types(decisions: bytes) -> bytes:
    """The decisions on a group as releases gave them to ``pack`` that typed the columns of each group by themselves."""
    return records.encode(records.decode(decisions, columns=DECIDED))


def _load(parts: Sequence[Part], store: Store, names: Collection[str]) -> tuple[pa.Table, list[pa.Table]]:
    """The kept samples of the parts with what rules read of them; and of each part the columns of several types.

    Of those two values are there, which tell ``records.common_schema`` what all do. They are read in a second pass,
    where there are any. Raises DamagedParts with all that are damaged.
    """
    wanted = {*_KEPT, *names} - {*NOT_OF_SAMPLES} | {"start", "stop", CRC32C}
    tables: list[pa.Table] = []
    damages: list[DamagedParts] = []
    types: dict[str, set[pa.DataType]] = {}
    for part in parts:
        try:
            table, schema = kept_columns(store, part, wanted)
        except DamagedParts as error:
            damages.append(error)
            continue
        dropped = {"reason"} if has_checksums(table) else {"reason", CRC32C} & set(table.column_names)
        table = table.drop_columns(sorted(dropped))
        tables.append(table.append_column("part", pa.repeat(part.digest, table.num_rows)))
        for field in schema:
            types.setdefault(field.name, set()).add(field.type)
    if damages:
        raise DamagedParts.joined(damages)
    several = {name for name, kinds in types.items() if len(kinds) > 1} - {*NOT_OF_SAMPLES}
    ends = [_ends(kept_columns(store, part, several)[0].drop_columns(["reason"])) for part in parts] if several else []
    return records.join(tables), ends or [pa.table({})] * len(parts)


def _ends(table: pa.Table) -> pa.Table:
    """Two values of each column: the least and the largest integers, or others; nulls if there are no others."""
    columns = {}
    for name in table.column_names:
        column, ends = table[name], pa.nulls(2, table[name].type)
        if column.null_count < len(column):
            first = pc.index(pc.is_valid(column), True).as_py()
            ends = column.slice(first, 1).take(pa.array([0, 0])).combine_chunks()
            if pa.types.is_integer(column.type):
                ends = pa.array(pc.min_max(column).as_py().values(), column.type)
        columns[name] = ends
    return pa.table(columns)


def _decide(
    recipe: Recipe, samples: pa.Table, read: Callable[[Sequence[str]], Iterator[Sample]], scratch: Path
) -> Iterator[pa.Table]:
    """The decisions of all rules as tables of ``_SCHEMA``; each rule sees the samples that those before it kept."""
    numbers, count = numbered(samples["key"])
    is_first = np.zeros(samples.num_rows, np.bool_)
    is_first[np.unique(numbers, return_index=True)[1]] = True
    yield _repeated_keys(samples.filter(pa.array(~is_first)))
    samples = samples.filter(pa.array(is_first))
    samples = samples.append_column("is_elder", pa.array(np.zeros(count, np.bool_)))
    samples = samples.append_column("age_rank", pa.array(np.arange(count)))
    splits = {group: split_of(group, recipe.splits) for group in samples["group"].unique().to_pylist()}
    split = np.array([splits[group] for group in samples["group"].to_pylist()], object)
    is_kept = np.ones(count, np.bool_)

    def assign(group: str) -> str:
        return split_of(group, recipe.splits)

    for rule in recipe.rules:
        name = name_of(rule)
        kept = samples if is_kept.all() else samples.filter(pa.array(is_kept))
        kept = kept.append_column("split", pa.array(split[is_kept], pa.string()))
        tools = partial(Tools, name, assign=assign, read=read, folder=partial(folder_in, scratch))
        decided = decide(rule, kept, tools, tuple(recipe.splits))
        rows = pc.index_in(decided["key"], value_set=samples["key"]).to_numpy()
        is_drop = pc.equal(decided["action"], "drop").to_numpy()
        split[rows[~is_drop]] = decided["value"].to_numpy()[~is_drop]
        is_kept[rows[is_drop]] = False
        yield _as_stored(decided, samples["part"].take(pa.array(rows)), name)


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

    def read(keys: Sequence[str]) -> Iterator[Sample]:
        rows = pc.index_in(pa.array(keys, pa.string()), value_set=samples["key"])
        if rows.null_count:
            raise KeyError(keys[pc.index(pc.is_null(rows), True).as_py()])
        read_by = [name for name in ("part", *_KEPT, CRC32C) if name in samples.column_names]
        for row in samples.select(read_by).take(rows).to_pylist():
            yield read_sample(store, part_of[row["part"]], row)

    return read
