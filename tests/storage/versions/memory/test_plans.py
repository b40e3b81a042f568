"""Plans: the partitions that were stored come back as they were, and damage is named."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.memory import sealed_parquet
from stoker.storage.versions.memory.plans import (
    PARTITIONS,
    Plan,
    create_plan,
    encode,
    iter_partitions,
    load_plan,
    open_partitions,
    parts_of,
)
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from tests.storage.published import CORPUS
from tests.storage.remembered import TIME, partitions
from tests.storage.versions.memory.damage import damaged
from tests.storage.versions.memory.golden import golden, is_written_as

PLAN = Plan(
    CORPUS, 2, TIME, "0.1.0", "r" * 64, 1,
    StoredTable("digits/plans/partitions-0123456789abcdef.parquet", 700, "0123456789abcdef" * 4, 3, 400),
)  # fmt: skip


def planned(store: MemoryStore, *tables: pa.Table, folder: Path | None = None) -> Plan:
    return create_plan(
        store, CORPUS, tables, recipe_digest="r" * 64, ledger=None, created_at=TIME, stoker="0.1.0", folder=folder
    )


def test_a_plan_and_its_partitions_are_these_bytes() -> None:
    assert is_written_as(encode(PLAN), "plan.json")
    store = MemoryStore()
    assert is_written_as(store.read(planned(store, partitions("ab", "cd")).partitions.key), "partitions.parquet")


def test_the_golden_plan_is_read() -> None:
    store = MemoryStore()
    store.write(PLAN.key, golden("plan.json"))
    assert load_plan(store, PLAN.key) == PLAN
    table = sealed_parquet.decode(golden("partitions.parquet"), schema=PARTITIONS, where="x", remedy="")
    assert table.equals(partitions("ab", "cd"))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
rows = st.fixed_dictionaries(
    {
        "name": texts,
        "payload": st.dictionaries(texts, texts).map(json.dumps),
        "fingerprint": texts,
        "part": st.none() | texts,
    }
)


@given(st.lists(st.lists(rows, max_size=200), max_size=3))
def test_the_partitions_come_back_in_order_however_they_were_given(runs: list[list[dict[str, str]]]) -> None:
    store = MemoryStore()
    plan = planned(store, *(pa.Table.from_pylist(run, schema=PARTITIONS) for run in runs))
    flat = [row for run in runs for row in run]
    assert load_plan(store, plan.key) == plan
    assert [row for table in iter_partitions(store, plan) for row in table.to_pylist()] == flat
    assert list(parts_of(store, plan)) == [row["part"] for row in flat if row["part"] is not None]
    assert (plan.partitions.rows, plan.number, planned(store).number) == (len(flat), 1, 2)


def test_partitions_are_read_some_at_a_time(tmp_path: Path) -> None:
    store = MemoryStore()
    plan = planned(store, partitions(*(f"p{number}" for number in range(300))), folder=tmp_path)
    assert [table.num_rows for table in iter_partitions(store, plan)] == [128, 128, 44]
    assert list(tmp_path.iterdir()) == []


def test_any_damage_of_a_plan_or_its_partitions_is_found() -> None:
    store = MemoryStore()
    plan = planned(store, partitions("ab", "cd"))
    sound = store.read(plan.partitions.key)
    for payload in damaged(sound, step=3):
        if payload[: len(sound)] != sound:  # what lies behind a table is not read
            store.write(plan.partitions.key, payload)
            with pytest.raises(CorruptShard, match=rf"{plan.partitions.key}: damaged: .*; restore it from a copy, or"):
                list(iter_partitions(store, plan))
    for payload in damaged(store.read(plan.key)):
        store.write(plan.key, payload)
        with pytest.raises(
            CorruptShard, match=f"{plan.key}: .*; restore it from a copy, or remove it and ingest again"
        ):
            load_plan(store, plan.key)


def test_a_plan_that_is_not_there_or_is_another_is_told() -> None:
    store = MemoryStore()
    with pytest.raises(NotFound, match=r"plans/00000007\.json"):
        load_plan(store, layout.plan(CORPUS, 7))
    store.write(layout.plan(CORPUS, 7), encode(PLAN))
    with pytest.raises(CorruptShard, match=r"it is digits/plans/00000002\.json; was it copied"):
        load_plan(store, layout.plan(CORPUS, 7))
    with pytest.raises(NotFound):
        list(open_partitions(store, PLAN).scan())
