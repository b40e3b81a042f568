"""Rows of csv: what RFC 4180 says is read so; a missing quote costs its own row; any text takes linear time."""

import csv
import io
import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.tables.csv_rows import CsvRow, CsvRows
from stoker.pipelines.tables.list_lines import Line

URL = "http://a.example/{}"
_MAX_GROWTH = 7.0  # from n to 4n, of processor time
_MAX_SECONDS_A_MEGABYTE = 100.0  # usual: 1 to 10; lines that are read a thousand times take 400
_NOISE_S = 0.5


def rows_of(text: str, *, url_index: int = 0, header: bool = True) -> list[CsvRow]:
    """The rows behind the first one, which says how many columns there are."""
    lines: Iterator[Line] = (Line(number, line) for number, line in enumerate(text.split("\n"), 1))
    rows = CsvRows(lines, header=header)
    result: list[CsvRow] = []
    for row in rows:
        if not rows.columns and not row.fault:
            rows.columns, rows.url_index = len(row.fields), url_index
        result.append(row)
    return result[1:]


CAPTIONS = [
    "see\nhttp://b.example/page\nfor more",
    "http://b.example/page",
    "\nhttp://b.example/page",
    "see\nhttp://b.example/page, and more",
    "https://b.example/\n\nhttps://c.example/",
    'a ""\nhttp://b.example/page, "quoted"\n',
]


@pytest.mark.parametrize("caption", CAPTIONS)
@pytest.mark.parametrize("order", [("url", "caption"), ("caption", "url"), ("url", "caption", "more")])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_lines_of_a_quoted_caption_may_begin_with_a_url(caption: str, order: tuple[str, ...], quoting: int) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]  # typeshed wants a literal
    rows = [{"url": URL.format(number), "caption": caption if number == 1 else "x", "more": "y"} for number in range(3)]
    writer.writerows([order, *([row[name] for name in order] for row in rows)])
    read = rows_of(out.getvalue().removesuffix("\n"), url_index=order.index("url"))
    assert [row.fault for row in read] == ["", "", ""]
    assert [dict(zip(order, row.fields, strict=True))["caption"] for row in read] == ["x", caption, "x"]


@pytest.mark.parametrize("last", ["3,c", '3,24"', '3,"c"', '3,""', '3,"'])
@pytest.mark.parametrize("between", [2, 5])
def test_a_quote_that_is_not_closed_swallows_no_rows(last: str, between: int) -> None:
    """Also where a stray quote at the end of a later row would close it."""
    text = "\n".join(
        ["url,caption", 'http://a.example/1,"b', *["http://a.example/2,b"] * between, f"http://a.example/{last}"]
    )
    rows = rows_of(text)
    assert [row.number for row in rows] == list(range(2, between + 4))
    assert "line 3" in rows[0].fault
    assert [row.fault for row in rows[1 : between + 1]] == [""] * between


def test_a_row_of_too_many_columns_swallows_no_rows() -> None:
    rows = rows_of('url,caption\nhttp://a.example/1,"b\nc","d\ne","f\nhttp://a.example/2,b')
    assert [row.number for row in rows] == [2, 3, 4, 5]
    assert "more columns" in rows[0].fault
    assert list(rows[-1].fields) == ["http://a.example/2", "b"]


def test_a_field_that_is_too_long_is_a_fault_of_its_line() -> None:
    long = "x" * 200_000
    rows = rows_of(f'url,caption\nhttp://a.example/1,"b\n{long}"\nhttp://a.example/2,"{long}"\nhttp://a.example/3,"c"')
    assert [row.number for row in rows if row.fault] == [2, 3, 4]
    assert list(rows[-1].fields) == ["http://a.example/3", "c"]


@given(
    st.lists(st.text(st.sampled_from('ab",\n '), max_size=9), min_size=2, max_size=2),
    st.text(st.sampled_from('a",\n'), max_size=30),
)
def test_each_line_is_in_one_row(header: list[str], text: str) -> None:
    rows = rows_of(f"url,caption\n{text}\nhttp://a.example/1,b", url_index=0)
    numbers = [row.number for row in rows]
    assert numbers == sorted(set(numbers))
    total = text.count("\n") + 2
    for row, following in zip(rows, [*numbers[1:], total + 2], strict=True):
        lines = following - row.number
        assert lines == 1 or (not row.fault and sum(field.count("\n") for field in row.fields) == lines - 1)


PIECES = ('a"b', '"', '""', '"c', 'd"', "e", "http://a.example/1", '"http://a.example/1', "")
UNITS = [
    'a"b,"c\n', 'a,"b\n', '"\n', '"""\n', '",a,"\n', 'a","d\n', '"a\n', 'a"\n', '"a\nb\n', '","\n', 'http://a.example/1,"\n',
    'x"\nhttp://a.example/1,"b\n', 'a,"b' + "c,\n" * 500, '"' + "\n" * 990 + '"x\n', '"",', 'a"b,"c,',
]  # fmt: skip


def seconds(text: str, columns: int) -> float:
    header = ",".join(map(str, range(columns)))
    began = time.process_time()
    rows_of(f"{header}\n{text}")
    return time.process_time() - began


def check(unit: str, columns: int, length: int = 25_000) -> None:
    for _attempt in range(5):  # a busy machine may slow some of them
        before, after = (seconds(unit * (size // len(unit)), columns) for size in (length, 4 * length))
        if after <= _MAX_GROWTH * before + _NOISE_S and after < _MAX_SECONDS_A_MEGABYTE * 4 * length / 1e6:
            return
    pytest.fail(f"{unit!r}, {columns} columns: {before:.2f} s, four times as much {after:.2f} s")


@pytest.mark.parametrize("columns", [2, 2000])
@pytest.mark.parametrize("unit", UNITS)
def test_any_text_takes_linear_time(unit: str, columns: int) -> None:
    check(unit, columns)


def test_random_texts_take_linear_time() -> None:
    for number in range(40):
        chance = random.Random(number)
        lines = (
            ",".join(chance.choice(PIECES) for _ in range(chance.randint(1, 4))) for _ in range(chance.randint(1, 3))
        )
        check("\n".join(lines) + "\n", chance.choice((1, 2, 3, 1000)), 8_000)
