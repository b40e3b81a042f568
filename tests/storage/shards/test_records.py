"""Records: the same bytes for the same rows, and rows of differing kinds that still fit together."""

import io
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records
from stoker.storage.shards.records import FIXED, MEMBERS
from tests.storage.samples import texts, values

ROWS: list[dict[str, Any]] = [
    {"key": "a", "start": 0, "stop": 1024, "members": [{"extension": "txt", "offset": 512, "size": 3}], "width": 4},
    {"key": "b", "reason": "too_small", "detail": "Å \ud800", "label": "cat", "nothing": None},
]


def test_the_fixed_columns_come_first_and_have_their_types() -> None:
    table = records.decode(records.encode(ROWS))
    assert table.column_names == [*FIXED, "label", "nothing", "width"]
    assert [table.schema.field(name).type for name in FIXED] == list(FIXED.values())
    assert table["members"].to_pylist() == [[{"extension": "txt", "offset": 512, "size": 3}], None]
    assert table["detail"].to_pylist() == [None, "Å ?"]
    assert table["width"].to_pylist() == [4, None]
    assert table.schema.field("nothing").type == pa.string()


def test_no_rows_are_a_table_too() -> None:
    table = records.decode(records.encode([]))
    assert table.column_names == list(FIXED)
    assert table.num_rows == 0


def test_the_same_rows_give_the_same_bytes_in_any_process_and_column_order() -> None:
    rows = [{"key": f"k{n}", "b": n / 7, "a": f"text {n % 13}", "c": [n, n + 1]} for n in range(5000)]
    turned = [dict(reversed(row.items())) for row in rows]
    assert records.encode(rows) == records.encode(turned)
    code = (
        "import sys; from stoker.storage.shards import records;"
        "rows = [{'key': f'k{n}', 'b': n / 7, 'a': f'text {n % 13}', 'c': [n, n + 1]} for n in range(5000)];"
        "sys.stdout.write(records.sha256(records.encode(rows)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == records.sha256(records.encode(rows))


def test_a_tables_chunks_and_metadata_do_not_show_in_the_bytes() -> None:
    table = pa.table({"key": [f"k{n}" for n in range(100)], "x": range(100)})
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 50), table.slice(57)])
    assert records.encode(table) == records.encode(chunked)
    assert records.encode(table) == records.encode(table.replace_schema_metadata({"pandas": "junk"}))


def test_only_the_columns_asked_for_are_read() -> None:
    payload = records.encode(ROWS)
    assert records.decode(payload, columns=["width", "no_such", "key"]).column_names == ["width", "key"]
    assert records.decode(payload, columns=["members"])["members"].type == MEMBERS


@pytest.mark.parametrize(
    ("given_values", "expected"),
    [
        ([1, 2.5], [1.0, 2.5]),
        ([1, "a", None], ["1", "a", None]),
        ([True, 1], ["true", "1"]),
        ([2**70, 1], [str(2**70), "1"]),
        ([{"b": 1, "a": None}], ['{"a": null, "b": 1}']),
        ([{}], ["{}"]),
        ([[1, 2], None], ["[1, 2]", None]),
        ([[], ["a"]], ["[]", '["a"]']),
        ([["a", 1]], ['["a", 1]']),
        ([[{"a": 1}]], ['[{"a": 1}]']),
        ([b"\x00\xff", None], [b"\x00\xff", None]),
        ([b"\x00\xff", 1], ["00ff", "1"]),
        (["\ud800x"], ["?x"]),
        ([{"a": "\ud800"}], ['{"a": "?"}']),
        ([float("nan"), 1.0], None),
    ],
)
def test_values_without_a_common_type_become_text(given_values: list[Any], expected: list[Any] | None) -> None:
    found = records.decode(records.encode([{"key": "k", "x": value} for value in given_values]))["x"].to_pylist()
    if expected is None:
        assert found[0] != found[0]
    else:
        assert found == expected


@given(st.lists(st.dictionaries(texts.filter(bool), values, max_size=4), max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_json_can_be_a_record(rows: list[dict[str, Any]]) -> None:
    rows = [{f"x{name}": value for name, value in row.items()} for row in rows]
    payload = records.encode(rows)
    table = records.decode(payload)
    assert table.num_rows == len(rows)
    assert records.encode(table) == payload


def test_bytes_that_are_no_parquet_are_corrupt() -> None:
    good = records.encode(ROWS)
    for bad in (b"", b"PAR1", b"<html>", good[:-1], good[: len(good) // 2], good[:-9] + b"\xff" * 9):
        with pytest.raises(CorruptShard, match="not Parquet records") as told:
            records.decode(bad)
        assert "\n" not in str(told.value)


@given(st.integers(0, len(records.encode(ROWS)) - 1), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_an_altered_byte_is_told_or_changes_values_but_never_crashes(place: int, value: int) -> None:
    payload = bytearray(records.encode(ROWS))
    payload[place] = value
    try:
        records.decode(bytes(payload)).to_pylist()
    except (CorruptShard, ValueError, OSError) as error:
        assert not isinstance(error, MemoryError)  # noqa: PT017  # the loop goes on


def test_joining_keeps_order_and_fills_what_is_missing() -> None:
    one = pa.table({"key": ["a", "b"], "x": [1, 2]})
    other = pa.table({"key": ["c"], "y": ["z"]})
    assert records.join([one, other]).to_pylist() == [
        {"key": "a", "x": 1, "y": None},
        {"key": "b", "x": 2, "y": None},
        {"key": "c", "x": None, "y": "z"},
    ]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([1]), pa.array([2.5]), [1.0, 2.5]),
        (pa.array([1], pa.int8()), pa.array([2**40]), [1, 2**40]),
        (pa.array([1]), pa.array(["a"]), ["1", "a"]),
        (pa.array(["a"]), pa.array([2.5]), ["a", "2.5"]),
        (pa.array([None], pa.string()), pa.array([3]), [None, 3]),
        (pa.array([None], pa.null()), pa.array([3]), [None, 3]),
        (pa.array([[1, 2]]), pa.array(["a"]), ["[1, 2]", "a"]),
        (pa.array([True]), pa.array([1]), ["true", "1"]),
        (pa.array([b"\x01"]), pa.array(["a"]), None),
    ],
)
def test_joining_finds_a_common_type(one: pa.Array, other: pa.Array, expected: list[Any] | None) -> None:
    found = records.join([pa.table({"x": one}), pa.table({"x": other})])["x"].to_pylist()
    assert len(found) == 2
    if expected is not None:
        assert found == expected
    turned = records.join([pa.table({"x": other}), pa.table({"x": one})])["x"].to_pylist()
    assert turned == found[::-1]


def test_joining_nothing_is_an_empty_table() -> None:
    assert records.join([]).column_names == list(FIXED)


def test_any_parquet_reader_reads_it() -> None:
    assert pq.read_table(io.BytesIO(records.encode(ROWS))).num_rows == 2


@pytest.mark.parametrize("value", [1, 2.5, "x", True, [1, 2], b"x"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_column_that_is_null_throughout_one_table_keeps_its_type_in_the_others(value: object, turned: bool) -> None:
    tables = [records.decode(records.encode([{"key": "k", "x": one}])) for one in (None, value, None)]
    kind = tables[1].schema.field("x").type
    joined = records.join(tables[::-1] if turned else tables)
    assert joined.schema.field("x").type == kind
    assert joined["x"].to_pylist() == [None, "[1, 2]" if value == [1, 2] else value, None]
    assert joined.schema.field("reason").type == pa.string()
    assert records.join(tables[::2]).schema.field("x").type == pa.string()


def test_integers_that_no_float_holds_become_text_beside_floats() -> None:
    tables = [pa.table({"x": [2**53 + 1, None]}), pa.table({"x": [0.5]}), pa.table({"x": pa.nulls(1, pa.string())})]
    assert records.join(tables)["x"].to_pylist() == [str(2**53 + 1), None, "0.5", None]
    tables[0] = pa.table({"x": [2**53, None]})
    assert records.join(tables)["x"].to_pylist() == [2.0**53, None, 0.5, None]


def test_a_column_without_values_has_a_type_in_both() -> None:
    tables = [pa.table({"x": pa.nulls(2, pa.int64())}), pa.table({"x": pa.nulls(1, pa.float64())})]
    assert records.join(tables)["x"].to_pylist() == [None, None, None]
    assert records.join([*tables, pa.table({"x": [2**53 + 1]})])["x"].to_pylist() == [None, None, None, 2**53 + 1]
