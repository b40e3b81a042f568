"""Text becomes numbers and flags only where nothing is lost, and one value decides for its whole column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.tables.text_types import TextColumn, TextTypes


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-2", "0"], "integer"),
        (["9223372036854775807", "-9223372036854775808"], "integer"),
        (["9223372036854775808"], "text"),
        (["007", "8"], "text"),
        (["-0"], "text"),
        (["+5"], "text"),
        (["1 000"], "text"),
        (["1_000"], "text"),
        (["\u0661"], "text"),
        (["0.5", "-1.25", "3"], "number"),
        (["0.5", "1.0"], "number"),
        (["1.50", "2.00"], "number"),
        (["1.1", "1.10"], "text"),
        (["1", "1.0"], "text"),
        (["1.50", "2"], "text"),
        (["1e-05", "2.5e-07", "0.5", "1e+16"], "number"),
        (["1e5", "2.5e-7"], "text"),
        (["1E-05"], "text"),
        (["1.0e-05"], "text"),
        (["1e-05", "1"], "text"),
        (["1e+16", "10000000000000000"], "text"),
        (["1e-05", "0.50", "0.25"], "text"),
        (["1e5", "100000"], "text"),
        (["0.0", "-0.0"], "text"),
        (["0.5", "0", "-0.0"], "text"),
        (["-0.0", "0.5"], "number"),
        (["1e400"], "text"),
        (["1e-400"], "text"),
        (["0.1234567890123456789"], "text"),
        (["9007199254740993", "0.5"], "text"),
        (["nan"], "text"),
        (["inf", "1.5"], "text"),
        ([".5"], "text"),
        (["0x10"], "text"),
        (["true", "false"], "flag"),
        (["True", "False"], "flag"),
        (["true", "FALSE"], "text"),
        (["true", "1"], "text"),
        (["yes", "no"], "text"),
        (["2026-01-02"], "text"),
        ([], "text"),
    ],
)
def test_a_column_has_a_type_only_where_its_texts_can_be_had_back(texts: list[str], kind: str) -> None:
    for order in (texts, texts[::-1]):
        column = TextColumn()
        for text in order:
            column.add(text)
        assert column.kind == kind


SPELLINGS = ["", "007", "1.0", "1.00", "1", "-0.0", "0.0", "-0.00", "1e5", "1E5", "1e05", "1e+05", "100000.0", "1e-05"]


@given(st.lists(st.one_of(st.integers().map(str), st.floats().map(repr), st.sampled_from(SPELLINGS))))
def test_no_two_texts_of_a_column_become_one_value(texts: list[str]) -> None:
    types = TextTypes()
    for text in texts:
        types.add({"x": text}, is_typed=False)
    values = [types.typed({"x": text})["x"] for text in texts]
    assert len({(type(value), value) for value in values}) == len(set(texts))
    assert len({type(value) for value in values if value != ""}) <= 1


def test_text_of_a_file_with_types_stays_text_and_keeps_its_column_text() -> None:
    types = TextTypes()
    types.add({"a": "1", "b": "1"}, is_typed=False)
    types.add({"a": "1", "b": 2}, is_typed=True)
    assert types.typed({"a": "1", "b": "1", "c": "1", "d": None}) == {"a": "1", "b": 1, "c": "1", "d": None}
