"""Rows of Parquet and Arrow in bounded memory; values that Python cannot hold cost their rows, and no traceback."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.tables import arrow_tables
from stoker.pipelines.tables.row_batches import Unreadable, check_batch, rows_of
from stoker.pipelines.tables.url_lists import ListRow, read_list

URL = "http://a.example/1"
MAX_GROWTH = 300 << 20  # bytes of memory that a file of a few kilobytes may cost

UNREADABLE = {
    "timestamp": pa.array([2**62], pa.timestamp("us")),
    "date": pa.array([2**31 - 1], pa.date32()),
    "milliseconds": pa.array([2**50], pa.date64()),
    "zone": pa.array([1], pa.timestamp("us", "Mars/Phobos")),
    "duration": pa.array([2**62], pa.duration("s")),
    "inner": pa.array([[{"at": 2**62}]], pa.list_(pa.struct([("at", pa.timestamp("us"))]))),
}


def repeated(value: str | bytes, times: int) -> pa.DictionaryArray:
    """An array that holds a value once, and stands for it many times."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([value]))


BOMBS = {
    "text": repeated("x" * 400_000, 4096),
    "large": repeated(b"x" * 20_000_000, 64),
    "struct": pa.StructArray.from_arrays([repeated(b"x" * 2_000_000, 600), pa.nulls(600)], names=["bytes", "path"]),
    "list": pa.ListArray.from_arrays([0, 800, 801], repeated("x" * 1_000_000, 801)),
    "numbers": pa.ListArray.from_arrays([0, 20_000_000, 20_000_001], pa.nulls(20_000_001, pa.int8())),
}


def rows_of_list(path: Path, *optional: str) -> list[ListRow]:
    return list(read_list(path, required=("url",), optional=optional))


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_value_that_python_cannot_hold_costs_its_row_alone(tmp_path: Path, name: str) -> None:
    bad = UNREADABLE[name]
    column = pa.concat_arrays([pa.nulls(1, bad.type), bad, pa.nulls(1, bad.type)])
    table = pa.table({"url": [URL, "http://a.example/2", "http://a.example/3"], "at": column})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = rows_of_list(tmp_path / "a.parquet", "at")
    assert [row.number for row in rows] == [1, 2, 3]
    assert [row.values.get("url") for row in rows] == [URL, None, "http://a.example/3"]
    assert "column at: " in rows[1].fault
    assert not rows[0].fault
    assert not rows[2].fault
    assert not any(row.fault for row in rows_of_list(tmp_path / "a.parquet")), "a column that is not read"
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    for file in ("a.parquet", "a.arrow"):
        values = [row["at"] for row in arrow_tables.read_rows(tmp_path / file, 0, 9, ["at"])]
        assert [isinstance(value, Unreadable) for value in values] == [False, True, False], file


def test_two_columns_of_one_name_are_an_error_also_within_structs(tmp_path: Path) -> None:
    names = pa.array([URL])
    pair = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    nested = pa.StructArray.from_arrays([pair], names=["inner"])
    lists = pa.ListArray.from_arrays([0, 1], pair)
    twice = pa.Table.from_arrays([names, names, names], names=["url", "caption", "caption"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert len(rows_of_list(tmp_path / "a.parquet")) == 1, "they are not read"
    for reading in (
        lambda: rows_of_list(tmp_path / "a.parquet", "caption"),
        lambda: arrow_tables.columns(tmp_path / "a.parquet"),
    ):
        with pytest.raises((RecipeError, SourceBroken), match=r"a\.parquet: two columns are called 'caption'$"):
            reading()
    for column, name in ((pair, "s.x"), (nested, "s.inner.x"), (lists, r"s\..*\.x")):
        pq.write_table(pa.table({"url": names, "s": column}), tmp_path / "b.parquet")
        assert len(rows_of_list(tmp_path / "b.parquet")) == 1
        with pytest.raises(RecipeError, match=rf"two columns are called '{name}'$"):
            rows_of_list(tmp_path / "b.parquet", "s")
        with pytest.raises(SourceBroken, match=rf"two columns are called '{name}'$"):
            list(arrow_tables.read_rows(tmp_path / "b.parquet", 0, 1, ["s"]))


PEAK = r"""
import re, sys
from pathlib import Path
from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.tables import arrow_tables
from stoker.pipelines.tables.url_lists import read_list
path = Path(sys.argv[1])
def rows():
    if path.suffix == ".parquet":
        yield from read_list(path, required=("url",), optional=("x",))
        yield from arrow_tables.read_rows(path, 0, 10**9, ["url", "x"])
    else:
        yield from arrow_tables.read_rows(path, 0, 10**9, ["url", "x"])
def peak():
    return int(re.search(r"VmHWM:\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
before, count = peak(), 0
try:
    for row in rows():
        count += 1
except SourceBroken as error:
    assert "fill the memory" in str(error), error
    count = -1
print(count, (peak() - before) << 10)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak of memory so")
@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_stands_for_gigabytes_is_read_in_bounded_memory(tmp_path: Path, name: str, form: str) -> None:
    column, path = BOMBS[name], tmp_path / f"a.{form}"
    table = pa.table({"url": [f"http://a.example/{number}" for number in range(len(column))], "x": column})
    if form == "parquet":
        pq.write_table(table, path, compression="zstd", store_schema=False)
        assert path.stat().st_size < 100_000
    elif name == "numbers":
        pytest.skip("they are as large in the file")
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    count, growth = map(int, done.stdout.split())
    assert count in (-1, len(column) * (2 if form == "parquet" else 1))
    assert growth < MAX_GROWTH, f"{growth >> 20} MiB"


def test_a_page_that_unpacks_to_gigabytes_is_an_error(tmp_path: Path) -> None:
    table = pa.table({"url": ["http://a.example/" + "x" * 2**20] * 200})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    for reading in (
        lambda: rows_of_list(tmp_path / "a.parquet"),
        lambda: list(arrow_tables.read_rows(tmp_path / "a.parquet", 0, 1, ["url"])),
    ):
        with pytest.raises(SourceBroken, match=r"column 'url' of row group 1 makes 2.* fill the memory"):
            reading()


def test_large_values_of_real_files_are_read(tmp_path: Path) -> None:
    values = [bytes([number]) * (20 << 20) for number in range(8)]
    pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet", compression="none")
    rows = list(arrow_tables.read_rows(tmp_path / "a.parquet", 0, 9, ["image"]))
    assert [row["image"] for row in rows] == values


def masks(rows: int, length: int) -> pa.Array:
    """Lists of ones, as of a tokeniser that pads nothing: a few bytes in Parquet."""
    offsets = pa.array(range(0, (rows + 1) * length, length), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(np.ones(rows * length, np.int8)))


def test_an_ordinary_mask_of_a_tokenised_table_is_read_in_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": map(str, range(20_000)), "mask": masks(20_000, 512)}), path)
    batches = [batch.num_rows for _, batch in arrow_tables._batches(path, 0, 3000, ["text", "mask"])]
    assert max(batches) <= 1024
    assert list(arrow_tables.read_rows(path, 19_990, 19_991, ["text", "mask"])) == [
        {"text": "19990", "mask": [1] * 512}
    ]


def test_a_column_that_no_option_names_is_unreadable_where_it_may_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": map(str, range(1000)), "mask": masks(1000, 20_000)}), path)
    names = ["text", "mask"]
    with pytest.raises(
        SourceBroken, match=r"column 'mask\..*' of row group 1 makes 1600000.. bytes of .* leave it out"
    ):
        list(arrow_tables.read_rows(path, 0, 9, names))
    with pytest.raises(SourceBroken, match="fill the memory"):
        arrow_tables.check_columns(path, names)
    arrow_tables.check_columns(path, ["text"])
    assert arrow_tables.left_out(path, names) == ["mask"]
    rows = list(arrow_tables.read_rows(path, 5, 7, names, optional=["mask"]))
    assert [row["text"] for row in rows] == ["5", "6"]
    assert all(isinstance(row["mask"], Unreadable) for row in rows)


@pytest.mark.parametrize(
    "column",
    [pa.array([b"x" * (1 << 20)] * 200), masks(200, 100_000), pa.array([[b"x" * (1 << 20)], None] * 100),
     pa.StructArray.from_arrays([pa.array([b"x" * (1 << 20)] * 200)], names=["bytes"]),
     pa.FixedSizeListArray.from_arrays(pa.array(np.ones(200 * 100_000, np.int8)), 100_000)],
    ids=["bytes", "numbers", "lists", "structs", "fixed"],
)  # fmt: skip
def test_few_large_rows_become_objects_at_once(column: pa.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pa.record_batch({"x": column})
    sizes: list[int] = []
    from_arrays = pa.RecordBatch.from_arrays

    class Counted:
        @staticmethod
        def from_arrays(arrays: list[pa.Array], names: list[str]) -> pa.RecordBatch:
            sizes.append(len(arrays[0]))
            return from_arrays(arrays, names=names)

    monkeypatch.setattr(pa, "RecordBatch", Counted)
    number = 0
    for number, row in enumerate(rows_of(batch), 1):
        if number in (1, 200):
            assert row["x"] == column[number - 1].as_py()
    assert number == sum(sizes) == 200
    assert 1 < max(sizes) <= 64


def test_a_row_with_more_values_than_fit_is_unreadable_and_others_are_not() -> None:
    column = pa.ListArray.from_arrays([0, 2, 9_000_000, 9_000_001], pa.nulls(9_000_001, pa.int8()))
    rows = [row["x"] for row in rows_of(pa.record_batch({"x": column}))]
    assert isinstance(rows[1], Unreadable)
    assert (rows[0], rows[1].reason, rows[2]) == ([None, None], "too_large", [None])


def test_a_row_of_a_dictionary_that_is_too_large_is_unreadable() -> None:
    large = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int8()), pa.array(["x" * (65 << 20), "a"]))
    rows = list(rows_of(pa.record_batch({"x": large})))
    assert [row["x"] if not isinstance(row["x"], Unreadable) else row["x"].reason for row in rows] == [
        "too_large", "a", None, "too_large",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.binary(), pa.list_(pa.string()), pa.map_(pa.string(), pa.string()),
     pa.struct([("a", pa.string()), ("b", pa.list_(pa.large_string()))]), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)  # fmt: skip
def test_values_of_dictionaries_are_read_as_they_are(tmp_path: Path, kind: pa.DataType) -> None:
    samples = {
        "list<": ["a", None], "map<": [("a", "b")], "struct": {"a": "c", "b": ["d", None]}, "binary": b"\xff",
    }  # fmt: skip
    value = next((sample for start, sample in samples.items() if str(kind).startswith(start)), "text")
    column = pa.array([value, None, value] * 50, kind)
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    rows = list(arrow_tables.read_rows(tmp_path / "a.parquet", 0, 150, ["x"]))
    assert [row["x"] for row in rows] == column.to_pylist()


def outside(offsets: list[int], kind: pa.DataType) -> pa.Array:
    """Texts or bytes that claim to lie at these places of 8 bytes."""
    places = pa.array(offsets, pa.int32()).buffers()[1]
    return pa.Array.from_buffers(kind, len(offsets) - 1, [None, places, pa.py_buffer(b"a" * 8)])


@pytest.mark.parametrize("form", ["plain", "struct", "list", "dictionary"])
@pytest.mark.parametrize("offsets", [[0, 5, 2, 8], [0, 1 << 30, 1 << 30, 8], [0, -9, 4, 8]])
@pytest.mark.parametrize("opener", [pa.ipc.new_file, pa.ipc.new_stream, None])
def test_values_outside_of_an_arrow_file_are_an_error_and_are_not_read(
    tmp_path: Path, form: str, offsets: list[int], opener: Callable[..., pa.RecordBatchFileWriter] | None
) -> None:
    """Reading them would end the process, or show what else is in its memory."""
    values = outside(offsets, pa.binary() if opener is None else pa.string())
    column = {
        "plain": lambda: values,
        "struct": lambda: pa.StructArray.from_arrays([values], names=["x"]),
        "list": lambda: pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), values),
        "dictionary": lambda: pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int8()), values),
    }[form]()
    batch = pa.RecordBatch.from_arrays([pa.array(["\u00e4", "b", "c"]), column], names=["url", "x"])
    if opener is None:
        with pytest.raises(pa.ArrowInvalid):
            check_batch(batch)
        return
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, opener(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(SourceBroken, match="neither Parquet nor Arrow that can be read"):
        list(arrow_tables.read_rows(tmp_path / "a.arrow", 0, 3, ["x"]))
    assert len(list(arrow_tables.read_rows(tmp_path / "a.arrow", 0, 3, ["url"]))) == 3, "a column that is not read"


def test_texts_that_are_not_utf8_stay_rejects_of_their_rows_also_within_lists_and_structs() -> None:
    texts = pa.array([b"a", b"\xff", b"b"]).view(pa.string())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), texts)
    for column in (texts, lists, pa.StructArray.from_arrays([lists], names=["x"]), texts.dictionary_encode()):
        batch = pa.RecordBatch.from_arrays([column], names=["x"])
        check_batch(batch)
        assert [isinstance(row["x"], Unreadable) for row in rows_of(batch)] == [False, True, False], column.type
