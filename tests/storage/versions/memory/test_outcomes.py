"""Outcomes: merging is associative and forgets nothing that counts; files say when they are damaged."""

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.memory import outcomes, sealed_writer
from stoker.storage.versions.memory.merging import merge_files
from stoker.storage.versions.memory.outcomes import SCHEMA, Heads, Outcome, find, hash_of, hashes_of, merge
from stoker.storage.versions.memory.sealed_parquet import SealedReader, StoredTable
from stoker.storage.versions.memory.sealed_writer import SealedWriter
from tests.storage.remembered import AT, GONE, KEPT
from tests.storage.versions.memory.damage import damaged
from tests.storage.versions.memory.golden import golden, is_written_as

texts = st.sampled_from([None, "a", "b"])
numbers = st.sampled_from([None, 1, 2])
rows = st.builds(
    Outcome,
    source=st.sampled_from(["s", "t"]),
    id=st.sampled_from(["", "a", "b", "é"]),
    definite=st.booleans(),
    kind=st.sampled_from(["kept", "moment"]),
    reason=texts,
    at=st.sampled_from([AT, AT + timedelta(microseconds=1), AT + timedelta(days=1)]),
    tries=st.sampled_from([1, 2]),
    revision=numbers,
    etag=texts,
    split=texts,
    split_since=numbers,
    since=numbers,
)
histories = st.lists(st.lists(rows, max_size=6), min_size=1, max_size=4)


def given_together(one: Outcome) -> Outcome:
    """A split and its version are both known, or neither is."""
    return one if one.split is not None else replace(one, split_since=None)


def table_of(outcome: Sequence[Outcome]) -> pa.Table:
    """Not merged; and identities share hashes."""
    table = pa.concat_tables([SCHEMA.empty_table(), *(outcomes.to_table([one]) for one in outcome)])
    return table.set_column(0, SCHEMA.field(0), pa.array([len(one.id) for one in outcome], pa.uint64()))


def expected(all_rows: Sequence[Outcome]) -> list[Outcome]:
    """What merging means, an identity at a time."""

    def order(one: Outcome) -> list[object]:
        names = [name for name in outcomes._ORDER if name != "hash"]
        values = [getattr(one, "kind" if name == "class" else name) for name in names]
        return [(value is None, value or 0) if not isinstance(value, str) else (False, value) for value in values]

    result = []
    for identity in sorted({(len(one.id), one.source, one.id) for one in all_rows}):
        those = sorted((one for one in all_rows if (one.source, one.id) == identity[1:]), key=order)
        given = [(one.split_since or 0, one.split) for one in those if one.split is not None]
        version = max((since for since, _ in given), default=0)
        split = min((split for since, split in given if since == version and split), default=None)
        since = min((one.since for one in those if one.since is not None), default=None)
        newest, decided = (
            those[-1],
            max(
                (one for one in those if one.definite),
                key=lambda one: (-1 if one.revision is None else one.revision, those.index(one)),
                default=None,
            ),
        )
        heads = [newest] if decided is None or order(decided) == order(newest) else [decided, newest]
        result += [replace(one, split=split, split_since=version or None, since=since) for one in heads]
    return result


@given(histories)
def test_merging_keeps_the_definite_outcome_of_the_newest_revision_and_the_newest_attempt(
    history: list[list[Outcome]],
) -> None:
    flat = [given_together(one) for run in history for one in run]
    merged = reduce(merge, map(table_of, [[one] for one in flat]), SCHEMA.empty_table())
    assert outcomes.from_table(merged) == expected(flat)


@given(histories, st.randoms())
def test_merging_is_the_same_in_any_order_and_any_grouping(history: list[list[Outcome]], random: object) -> None:
    tables = [table_of([given_together(one) for one in run]) for run in history]
    once = merge(*tables)
    assert reduce(merge, tables, SCHEMA.empty_table()).equals(once)
    assert reduce(lambda after, before: merge(before, after), reversed([merge(table) for table in tables])).equals(once)
    random.shuffle(tables)  # type: ignore[attr-defined]  # a Random
    assert merge(*tables).equals(once)
    assert merge(once, *tables).equals(once)


@given(st.lists(rows, max_size=8))
def test_what_is_encoded_is_decoded(history: list[Outcome]) -> None:
    table = outcomes.to_table(history)
    payload, written = outcomes.encode(table)
    assert (len(payload), written.rows) == (written.size, table.num_rows)
    assert outcomes.decode(payload, "x").equals(table)
    assert outcomes.encode(outcomes.decode(payload, "x"))[0] == payload
    assert pq.read_table(io.BytesIO(payload)).equals(table)  # plain Parquet to all others


def test_of_outcomes_of_the_same_time_a_definite_one_is_the_newest() -> None:
    refused = replace(GONE, id=KEPT.id)
    assert outcomes.from_table(outcomes.to_table([refused, KEPT])) == [KEPT]


def test_a_sample_that_was_dropped_keeps_its_split_and_its_age() -> None:
    dropped = replace(
        KEPT, at=AT + timedelta(days=1), kind="recipe", reason="too_small", split=None, split_since=None, since=None
    )
    (found,) = outcomes.from_table(outcomes.to_table([KEPT, dropped]))
    assert found == replace(dropped, split="train", split_since=2, since=2)


def test_the_split_that_was_given_last_is_the_split() -> None:
    moved = replace(KEPT, split="test", split_since=5, since=5)
    (found,) = outcomes.from_table(outcomes.to_table([moved, KEPT]))
    assert (found.split, found.split_since, found.since) == ("test", 5, 2)


def test_hashes_of_many_are_those_of_each() -> None:
    ids = ["", "a", "é", "x\0y"]
    assert hashes_of("s", ids).tolist() == [hash_of("s", one) for one in ids]
    assert hash_of("s", "a") == 5547628836724962138  # files of old releases are sorted by it


def test_a_file_of_outcomes_is_these_bytes_and_is_read() -> None:
    table = outcomes.to_table([KEPT, GONE])
    assert is_written_as(outcomes.encode(table)[0], "outcomes.parquet")
    assert outcomes.decode(golden("outcomes.parquet"), "x").equals(table)
    assert sorted(outcomes.from_table(table), key=lambda one: one.id) == [KEPT, GONE]


def test_any_damage_is_found() -> None:
    payload, _ = outcomes.encode(outcomes.to_table([KEPT, GONE]))
    for broken in damaged(payload, step=3):
        with pytest.raises(CorruptShard, match=r"^outcomes/x: damaged: .*; restore it from a copy; without one"):
            outcomes.decode(broken, "outcomes/x")


def many(count: int, *, seed: int, at: datetime = AT) -> pa.Table:
    """Outcomes of ``count`` identities out of twice as many."""
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(2 * count, count, replace=False))
    ids = [f"https://example.org/{one}.jpg" for one in chosen]
    known = {
        "hash": hashes_of("s", ids),
        "source": ["s"] * count,
        "id": ids,
        "definite": random.random(count) < 0.5,
        "class": ["kept"] * count,
        "at": pa.array([at] * count, SCHEMA.field("at").type),
        "tries": np.ones(count, np.int32),
        "etag": [f'"{one:032x}"' for one in random.integers(0, 2**60, count)],
        "split": ["train"] * count,
    }
    return merge(
        pa.table([pa.array(known.get(field.name, [None] * count), field.type) for field in SCHEMA], schema=SCHEMA)
    )


def put(store: MemoryStore, table: pa.Table) -> StoredTable:
    payload, written = outcomes.encode(table)
    key = layout.outcomes("words", written.sha256)
    store.write(key, payload)
    return written.stored_as(key)


class Counting(MemoryStore):
    reads = 0

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        self.reads += 1
        return super().read(key, start=start, size=size)


def small_groups(monkeypatch: pytest.MonkeyPatch, rows: int = 50) -> None:
    monkeypatch.setattr(sealed_writer, "ROW_GROUP", rows)


def test_one_identity_is_found_by_two_reads_of_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    small_groups(monkeypatch)
    store = Counting()
    tables = [many(500, seed=1), many(40, seed=2, at=AT + timedelta(days=1))]
    stored = [put(store, table) for table in tables]
    merged = outcomes.from_table(merge(*tables))
    for name in sorted({one.id for one in merged})[::11]:
        rows = [one for one in merged if one.id == name]
        store.reads = 0
        found = find([outcomes.open_outcomes(store, one) for one in stored], "s", name)
        assert found == Heads(next((one for one in rows if one.definite), None), rows[-1])
        assert store.reads <= 4
    assert find([outcomes.open_outcomes(store, one) for one in stored], "s", "unknown") is None
    assert find([], "s", "unknown") is None


def test_a_lookup_finds_damage_in_what_it_reads_and_needs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    small_groups(monkeypatch)
    store = MemoryStore()
    table = many(200, seed=1)
    stored = put(store, table)
    payload = store.read(stored.key)
    reader = outcomes.open_outcomes(store, stored)
    second = reader.groups[1]
    store.write(stored.key, payload[: second.start + 9] + b"?" + payload[second.start + 10 :])
    for row, one in enumerate(outcomes.from_table(table)):
        if 50 <= row < 100:
            with pytest.raises(CorruptShard, match=f"{stored.key}: damaged: row group 1 differs from its checksum; "):
                find([outcomes.open_outcomes(store, stored)], "s", one.id)
        else:
            found = find([outcomes.open_outcomes(store, stored)], "s", one.id)
            assert found == Heads(one if one.definite else None, one)
    for place in range(stored.size - stored.tail, stored.size, 13):
        store.write(stored.key, payload[:place] + b"?" + payload[place + 1 :])
        with pytest.raises(CorruptShard, match="footer"):
            find([outcomes.open_outcomes(store, stored)], "s", "x")


def merged_files(store: MemoryStore, stored: Sequence[StoredTable]) -> bytes:
    file = io.BytesIO()
    writer = outcomes.writer(file)
    merge_files([outcomes.open_outcomes(store, one) for one in stored], merge, writer)
    written = writer.close()
    assert written.size == len(file.getvalue())
    return file.getvalue()


@settings(max_examples=40)
@given(st.lists(st.lists(rows, max_size=12), min_size=1, max_size=4), st.integers(1, 5))
def test_files_merged_a_group_at_a_time_are_the_bytes_of_tables_merged_at_once(
    history: list[list[Outcome]], group: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        small_groups(patch, group)
        store = MemoryStore()
        tables = [merge(table_of(run)) for run in history]
        stored = [put(store, table) for table in tables]
        assert merged_files(store, stored) == outcomes.encode(merge(*tables))[0]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_million_identities_are_merged_in_the_memory_of_some_row_groups(tmp_path: object) -> None:
    store = MemoryStore()
    stored = [put(store, many(1_000_000, seed=1)), *(put(store, many(50_000, seed=seed)) for seed in (2, 3, 4))]
    before = pa.total_allocated_bytes()
    peak = 0

    class Watched(SealedReader):
        def table(self, *arguments: object, **options: object) -> pa.Table:
            nonlocal peak
            peak = max(peak, pa.total_allocated_bytes() - before)
            return super().table(*arguments, **options)  # type: ignore[arg-type]  # passed on

    files = [Watched.of_object(store, one, schema=SCHEMA, remedy="") for one in stored]
    with open(f"{tmp_path}/merged.parquet", "w+b") as file:
        writer: SealedWriter = outcomes.writer(file)
        merge_files(files, merge, writer)
        assert writer.close().rows >= 1_000_000
    assert peak < 100 * 2**20


def test_a_class_that_there_is_not_is_refused_and_is_damage_in_a_file() -> None:
    with pytest.raises(ValueError, match="an outcome of class 'momnet', expected one of kept, moment, slow_moment, "):
        replace(GONE, kind="momnet")
    table = outcomes.to_table([KEPT, GONE])
    place = table.column_names.index("class")
    payload, written = outcomes.encode(table.set_column(place, "class", pa.array(["kept", "momnet"])))
    message = "damaged: class 'momnet', expected one of kept, .*; restore it from a copy"
    with pytest.raises(CorruptShard, match=message):
        outcomes.decode(payload, "here")
    store = MemoryStore()
    store.write("x", payload)
    file = outcomes.open_outcomes(store, written.stored_as("x"))
    assert file.table(file.groups, ["reason"]).num_rows == 2
    with pytest.raises(CorruptShard, match=f"memory:/x: {message}"):
        file.table(file.groups)
