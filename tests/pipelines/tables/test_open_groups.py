"""Row groups are decoded once, however many partitions they are cut into, and in whatever order those are read."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.tables import arrow_tables, open_groups
from stoker.pipelines.tables.arrow_tables import read_rows

ROWS = 10_000


def write(path: Path, first: int = 0, *, group: int = ROWS) -> None:
    pq.write_table(pa.table({"x": range(first, first + ROWS), "y": ["a"] * ROWS}), path, row_group_size=group)


def values(path: Path, start: int, stop: int) -> list[int]:
    return [row["x"] for row in read_rows(path, start, stop, ["x"])]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each batch that is decoded."""
    monkeypatch.setattr(open_groups, "_idle", [])
    rows: list[int] = []
    next_batch = open_groups.OpenGroup.next_batch

    def counted(group: open_groups.OpenGroup) -> pa.RecordBatch | None:
        was_there = group.batch is not None
        batch = next_batch(group)
        if batch is not None and not was_there:
            rows.append(batch.num_rows)
        return batch

    monkeypatch.setattr(open_groups.OpenGroup, "next_batch", counted)
    return rows


@pytest.mark.parametrize("group", [ROWS, 3000, 1])
def test_partitions_in_order_decode_each_row_once(tmp_path: Path, decoded: list[int], group: int) -> None:
    group = max(group, 100)
    write(tmp_path / "x.parquet", group=group)
    read = [value for start in range(0, ROWS, 300) for value in values(tmp_path / "x.parquet", start, start + 300)]
    assert read == list(range(ROWS))
    assert sum(decoded) == ROWS


def test_nothing_is_decoded_behind_the_last_row(tmp_path: Path, decoded: list[int]) -> None:
    write(tmp_path / "x.parquet")
    assert values(tmp_path / "x.parquet", 5, 10) == [5, 6, 7, 8, 9]
    assert sum(decoded) < ROWS // 4
    assert values(tmp_path / "x.parquet", 20, 20) == []
    assert values(tmp_path / "x.parquet", ROWS, ROWS + 5) == []


def test_any_order_and_a_reader_that_stops_in_the_middle_give_the_same_rows(tmp_path: Path, decoded: list[int]) -> None:
    write(tmp_path / "x.parquet", group=7000)
    dice = random.Random(1)
    for _ in range(60):
        start = dice.randrange(ROWS)
        stop = dice.randrange(start, min(start + 2500, ROWS) + 1)
        rows = read_rows(tmp_path / "x.parquet", start, stop, ["x"])
        some = [row["x"] for row, _ in zip(rows, range(dice.choice([1, 50, ROWS])), strict=False)]
        rows.close()  # type: ignore[attr-defined]  # a generator
        assert some == list(range(start, stop))[: len(some)]
        assert len(some) in (1, 50, stop - start)
    assert len(open_groups._idle) <= 8


def test_threads_share_no_reader(tmp_path: Path, decoded: list[int]) -> None:
    write(tmp_path / "x.parquet")
    with ThreadPoolExecutor(8) as pool:
        starts = [start for start in range(0, ROWS, 250) for _ in range(2)]
        read = list(pool.map(lambda start: values(tmp_path / "x.parquet", start, start + 250), starts))
    assert read == [list(range(start, start + 250)) for start in starts]


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path, decoded: list[int]) -> None:
    write(tmp_path / "x.parquet")
    assert values(tmp_path / "x.parquet", 0, 3) == [0, 1, 2]
    write(tmp_path / "new.parquet", 10)
    os.replace(tmp_path / "new.parquet", tmp_path / "x.parquet")
    assert values(tmp_path / "x.parquet", 2000, 2002) == [2010, 2011]


def test_a_group_that_is_damaged_is_an_error_each_time(tmp_path: Path, decoded: list[int]) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"x": range(ROWS)}), path, row_group_size=ROWS, use_dictionary=False, compression="none",
        data_page_size=8000, write_page_checksum=True,
    )  # fmt: skip
    payload = bytearray(path.read_bytes())
    payload[len(payload) // 2] ^= 1
    path.write_bytes(payload)
    assert values(path, 0, 500) == list(range(500))
    for start in (0, 9000, 9500):
        with pytest.raises(SourceBroken, match=r"x\.parquet"):
            values(path, start, ROWS)
    assert arrow_tables.count_rows(path) == ROWS


def test_a_forked_process_reads_though_a_thread_of_the_parent_held_the_lock(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet")
    assert values(tmp_path / "x.parquet", 0, 3) == [0, 1, 2]
    with open_groups._lock:
        child = os.fork()
        if not child:  # no lock, no reader of the parent's: os._exit runs nothing of pytest
            os._exit(0 if open_groups._lock.acquire(blocking=False) and not open_groups._idle else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert values(tmp_path / "x.parquet", 3, 5) == [3, 4]
