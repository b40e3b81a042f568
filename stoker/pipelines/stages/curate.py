"""Curate: the rules decide, from the records of the whole corpus, which samples are dropped and which split each is in.

Price: memory holds the records of all kept samples, never their payloads.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.partition import cut
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import OUTCOME_CLASS
from stoker.pipelines.rule import Decision, Rule
from stoker.pipelines.stages.raw_part import DamagedParts, kept_records
from stoker.pipelines.stages.splits import split_of
from stoker.storage.shards import records
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Decisions, Part
from stoker.storage.versions.verified import put

DECIDED = ("key", "part", "action", "value")  # columns of a group's decisions
_TYPE = "type of "  # begins the names of columns without values, see ``with_types``
_NOT_FOR_RULES = ("start", "stop", "members", "reason", "detail", "step", "fetched_at", OUTCOME_CLASS, IDENTITY)
FIRST_RULE = "unique_keys"  # always applied, before the recipe's: no two samples of a corpus have the same key


@dataclass(frozen=True, slots=True)
class Curation:
    """The stored decisions, and the groups of parts that are packed together."""

    decisions: Decisions
    groups: tuple[tuple[Part, ...], ...]
    by_group: tuple[bytes, ...]  # Parquet: the decisions on the samples of each group, so that no task loads all


def curate(recipe: Recipe, parts: Sequence[Part], store: Store) -> Curation:
    """Apply the recipe's rules to the kept samples of the parts, and store the decisions.

    The same parts and recipe give the same decisions, byte for byte. Raises StorageError, DamagedParts among them, and
    RecipeError for a rule that cannot work on these records.
    """
    tables = _kept_records(parts, store)
    rows = list(_decide(recipe, records.join(tables)))
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    payload = records.encode(table)
    sha256 = records.sha256(payload)
    key = layout.decisions(recipe.corpus, sha256)
    put(store, key, payload, sha256=sha256)
    dropped = Counter(row["value"] for row in rows if row["action"] == "drop")
    decisions = Decisions(
        key=key,
        size=len(payload),
        sha256=sha256,
        dropped=dict(sorted(dropped.items())),
        moved=sum(row["action"] == "split" for row in rows),
    )
    groups = tuple(map(tuple, cut(parts, lambda part: part.digest, target=recipe.shards.partitions)))
    return Curation(decisions, groups, _by_group(table, groups, _types_by_group(groups, parts, tables)))


_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("part", pa.string()),
        ("action", pa.string()),
        ("value", pa.string()),
        ("rule", pa.string()),
        ("witness", pa.string()),
        ("similarity", pa.float64()),
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


def _kept_records(parts: Sequence[Part], store: Store) -> list[pa.Table]:
    """The records of the kept samples of each part, with a column ``part``.

    Raises DamagedParts with all that are damaged.
    """
    tables: list[pa.Table] = []
    damages: list[DamagedParts] = []
    for part in parts:
        try:
            table = kept_records(store, part)
        except DamagedParts as error:
            damages.append(error)
            continue
        table = table.drop_columns([name for name in _NOT_FOR_RULES if name in table.column_names])
        tables.append(table.append_column("part", pa.array([part.digest] * table.num_rows, pa.string())))
    if damages:
        raise DamagedParts.joined(damages)
    return tables


def _decide(recipe: Recipe, table: pa.Table) -> Iterator[dict[str, Any]]:  # Any: Parquet values
    """The decisions of all rules as rows of ``_SCHEMA``; each rule sees the records that those before it kept."""
    part_of: dict[str, str] = {}
    repeated = [False] * table.num_rows
    for row, (key, part) in enumerate(zip(table["key"].to_pylist(), table["part"].to_pylist(), strict=True)):
        if key in part_of:
            repeated[row] = True
            yield _row(Decision(key, "drop", "duplicate_key", witness=key, similarity=1.0), part, FIRST_RULE)
        else:
            part_of[key] = part
    table = table.filter(pc.invert(pa.array(repeated, pa.bool_())))
    splits = [split_of(group, recipe.splits) for group in table["group"].to_pylist()]
    table = table.append_column("split", pa.array(splits, pa.string()))
    for rule in recipe.rules:
        dropped: set[str] = set()
        moved: dict[str, str] = {}
        for decision in rule.decide(table, lambda group: split_of(group, recipe.splits)):
            _check(recipe, rule, decision, part_of)
            if decision.action == "drop":
                dropped.add(decision.key)
            else:
                moved[decision.key] = decision.value
            yield _row(decision, part_of[decision.key], name_of(rule))
        table = _apply(table, dropped, moved)


def _check(recipe: Recipe, rule: Rule, decision: Decision, part_of: dict[str, str]) -> None:
    """Raise RecipeError for a decision about an unknown sample or for an unknown split."""
    if decision.key not in part_of:
        raise RecipeError(f"rule {name_of(rule)!r} decided about {decision.key!r}, which the corpus does not hold")
    if decision.action == "split" and decision.value not in recipe.splits:
        names = ", ".join(recipe.splits)
        raise RecipeError(f"rule {name_of(rule)!r} wants a split {decision.value!r}; the recipe has: {names}")


def _apply(table: pa.Table, dropped: set[str], moved: dict[str, str]) -> pa.Table:
    """The records without the dropped samples, with the new splits of the moved ones."""
    if moved:
        keys, splits = table["key"].to_pylist(), table["split"].to_pylist()
        changed = [moved.get(key, split) for key, split in zip(keys, splits, strict=True)]
        column = table.schema.get_field_index("split")
        table = table.set_column(column, "split", pa.array(changed, pa.string()))
    if dropped:
        is_dropped = pc.is_in(table["key"], value_set=pa.array(sorted(dropped), pa.string()))
        table = table.filter(pc.invert(is_dropped))
    return table


def _row(decision: Decision, part: str, rule: str) -> dict[str, Any]:  # Any: Parquet values
    return {
        "key": decision.key,
        "part": part,
        "action": decision.action,
        "value": decision.value,
        "rule": rule,
        "witness": decision.witness,
        "similarity": decision.similarity,
    }
