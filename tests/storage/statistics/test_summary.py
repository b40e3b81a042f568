"""Statistics: exact whatever the order of merging, the same after JSON, and close to the truth."""

import hashlib
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.statistics.categories import MAX_CATEGORIES, Categories, Distinct
from stoker.storage.statistics.numbers import Moments, Quantiles
from stoker.storage.statistics.summary import Column, Summary, summarise

floats = st.floats(width=64)
numbers = st.lists(floats | st.integers(-(2**63), 2**63 - 1).map(float), max_size=20)
wholes = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20)
words = st.lists(st.text(max_size=6) | st.integers(0, 5).map(str), max_size=30)


def columns(values: Sequence[Any]) -> dict[str, pa.Array]:
    return {
        "number": pa.array([value[0] for value in values], pa.float64()),
        "whole": pa.array([value[1] for value in values], pa.int64()),
        "label": pa.array([value[2] for value in values], pa.string()),
        "key": pa.array([value[2] for value in values], pa.string()),
        "flag": pa.array([value[3] for value in values], pa.bool_()),
    }


rows = st.lists(
    st.tuples(
        st.none() | floats,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.text(max_size=5),
        st.none() | st.booleans(),
    ),
    max_size=25,
)
MOMENTS = Moments.of(np.array([1.0])).to_json()
summaries = rows.map(lambda values: summarise(pa.table(columns(values))))


def text(summary: Summary) -> str:
    return json.dumps(summary.to_json(), sort_keys=True, allow_nan=False)


@given(summaries, summaries, summaries)
@settings(max_examples=100, deadline=None)
def test_merging_is_associative_and_commutative_to_the_last_bit(one: Summary, two: Summary, three: Summary) -> None:
    assert text(one.merge(two).merge(three)) == text(one.merge(two.merge(three)))
    assert text(one.merge(two)) == text(two.merge(one))
    assert text(Summary.empty().merge(one)) == text(one)


@given(rows, st.integers(0, 25), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_a_table_cut_and_shuffled_gives_the_same_summary(values: list[Any], cut: int, dice: random.Random) -> None:
    whole = summarise(pa.table(columns(values)))
    shuffled = list(values)
    dice.shuffle(shuffled)
    parts = [summarise(pa.table(columns(part))) for part in (shuffled[:cut], shuffled[cut:])]
    assert text(parts[0].merge(parts[1])) == text(whole)


@given(summaries)
@settings(max_examples=100, deadline=None)
def test_json_keeps_all_of_it(summary: Summary) -> None:
    again = Summary.from_json(json.loads(text(summary)))
    assert again == summary
    assert text(again) == text(summary)


def test_columns_that_come_late_are_null_before() -> None:
    merged = summarise(pa.table({"a": [1, 2]})).merge(summarise(pa.table({"b": ["x"]})))
    assert (merged.samples, merged.columns["a"].nulls, merged.columns["b"].nulls) == (3, 1, 2)
    assert merged.columns["a"].count == 2


def test_a_column_whose_kind_changes_keeps_both() -> None:
    merged = summarise(pa.table({"a": [1, 2]})).merge(summarise(pa.table({"a": ["x"]})))
    column = merged.columns["a"]
    assert column.kind == "mixed"
    assert column.moments is not None
    assert column.categories is not None
    assert (column.count, column.moments.count, column.categories.counts) == (3, 2, {"x": 1})


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_moments_are_exact(values: list[float]) -> None:
    found = Moments.of(np.array(values))
    total = sum(map(Fraction, values))
    assert Fraction(found.total[0]) * Fraction(2) ** found.total[1] == total
    assert Fraction(found.squares[0]) * Fraction(2) ** found.squares[1] == sum(Fraction(value) ** 2 for value in values)
    assert found.mean == float(total / len(values))
    assert (found.minimum, found.maximum) == (min(values), max(values))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_moments_of_whole_numbers_are_exact(values: list[int]) -> None:
    found = Moments.of(np.array(values, np.int64))
    assert Fraction(found.total[0]) * Fraction(2) ** found.total[1] == sum(values)
    assert Fraction(found.squares[0]) * Fraction(2) ** found.squares[1] == sum(value * value for value in values)
    assert (found.minimum, found.maximum) == (min(values), max(values))


def test_what_is_not_finite_is_counted_apart() -> None:
    found = Moments.of(np.array([1.0, math.nan, math.inf, -math.inf, 3.0]))
    assert (found.count, found.nan, found.infinite, found.mean, found.deviation) == (2, 1, 2, 2.0, 1.0)
    assert Quantiles.of(np.array([1.0, math.nan, math.inf])).count == 1
    assert Moments.of(np.array([math.nan])).mean is None


def test_moments_of_many_values_agree_with_numpy() -> None:
    values = np.random.default_rng(0).lognormal(3, 2, 100_000)
    found = Moments.of(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(values.std())


@pytest.mark.parametrize("sign", [1, -1])
def test_quantiles_are_within_two_percent(sign: int) -> None:
    values = sign * np.random.default_rng(1).lognormal(0, 3, 50_000)
    found = Quantiles.of(values)
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        exact = float(np.quantile(values, share, method="inverted_cdf"))
        assert found.quantile(share) == pytest.approx(exact, rel=0.02)


@given(numbers)
@settings(max_examples=100, deadline=None)
def test_every_finite_value_lies_in_its_bin(values: list[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    found = Quantiles.of(np.array(values, np.float64))
    assert found.count == len(finite)
    for value in finite:
        assert any(low <= value <= high for low, high, _ in found.bins())


def test_no_values_have_no_quantiles() -> None:
    assert Quantiles().quantile(0.5) is None


@pytest.mark.parametrize("value", [sys.float_info.max, -sys.float_info.max, 5e-324, -5e-324, 0.0])
def test_the_quantile_of_one_extreme_value_is_near_it(value: float) -> None:
    assert Quantiles.of(np.array([value])).quantile(0.5) == pytest.approx(value, rel=0.02, abs=5e-324)


@given(words)
@settings(max_examples=100, deadline=None)
def test_few_categories_are_counted_exactly(values: list[str]) -> None:
    found = Categories.of(Counter(values))
    assert found.counts == Counter(values)
    assert found.others == 0


def test_of_many_categories_those_kept_are_counted_exactly_however_merged() -> None:
    dice = random.Random(0)
    values = [f"author {min(int(dice.expovariate(0.001)), 5000)}" for _ in range(20_000)]
    whole = Categories.of(Counter(values))
    exact = Counter(values)
    assert len(exact) > MAX_CATEGORIES == len(whole.counts)
    assert all(exact[one] == count for one, count in whole.counts.items())
    assert whole.others == len(values) - sum(whole.counts.values())
    pieces = [Categories.of(Counter(values[at : at + 700])) for at in range(0, len(values), 700)]
    for _ in range(3):
        dice.shuffle(pieces)
        assert reduce(Categories.merge, pieces).to_json() == whole.to_json()


def test_long_texts_are_no_categories() -> None:
    found = Categories.of({"short": 2, "x" * 101: 3})
    assert (found.counts, found.others) == ({"short": 2}, 3)


def test_the_most_common_come_first_and_ties_in_order() -> None:
    found = Categories.of({"b": 2, "a": 2, "c": 9})
    assert found.most_common(2) == [("c", 9), ("a", 2)]


@pytest.mark.parametrize(
    ("count", "tolerance"), [(0, 0), (1, 0), (256, 0), (257, 0.06), (5_000, 0.06), (300_000, 0.06)]
)
def test_different_texts_are_counted_exactly_or_nearly(count: int, tolerance: float) -> None:
    found = Distinct.of(f"text {number}" for number in range(count))
    assert found.estimate == pytest.approx(count, rel=tolerance)


def test_distinct_texts_merge_to_the_same_whatever_the_order() -> None:
    texts = [f"text {number}" for number in range(2_000)]
    whole = Distinct.of(texts)
    dice = random.Random(0)
    pieces = [Distinct.of(texts[at : at + 90]) for at in range(0, len(texts), 50)]  # they overlap
    for _ in range(3):
        dice.shuffle(pieces)
        assert reduce(Distinct.merge, pieces) == whole
    left = reduce(Distinct.merge, pieces[:20])
    assert left.merge(reduce(Distinct.merge, pieces[20:])) == whole


def test_a_tables_columns_are_told_apart_by_kind() -> None:
    table = pa.table(
        {
            "key": ["a", "b"],
            "label": ["cat", None],
            "width": [3, 4],
            "brightness": pa.array([0.5, 0.25], pa.float32()),
            "is_grey": [True, False],
            "nothing": pa.nulls(2, pa.null()),
            "start": [0, 1],
            "members": [[1], [2]],
            "minhash": [b"1", b"2"],
            "coded": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    found = summarise(table)
    assert found.samples == 2
    assert {name: column.kind for name, column in found.columns.items()} == {
        "key": "identity",
        "label": "category",
        "width": "number",
        "brightness": "number",
        "is_grey": "category",
        "nothing": "empty",
        "coded": "category",
    }
    assert found.columns["label"].nulls == 1
    assert found.columns["is_grey"].categories == Categories({"true": 1, "false": 1})


def test_lists_and_objects_in_json_are_counted_as_such() -> None:
    values = ["[1, 2]", '{"a": null}', "[no json]", "plain", None, "[1, 2]", "[" * 100_000 + "]" * 100_000]
    column = summarise(pa.table({"tags": pa.array(values)})).columns["tags"]
    assert (column.kind, column.count, column.nested) == ("category", 6, 3)
    twice = column.merge(column)
    assert twice.nested == 6
    assert Column.from_json(twice.to_json()) == twice
    assert "nested" not in summarise(pa.table({"a": ["plain"]})).columns["a"].to_json()


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"samples": 1},
        {"samples": "x", "columns": {}},
        {"samples": 1, "columns": {"a": {}}},
        {"samples": 1, "columns": {"a": {"count": 1, "nulls": 0, "moments": {}}}},
        {"samples": 1, "columns": {"a": {"count": 1, "nulls": 0, "distinct": {"hashes": "AAA"}}}},
        {"samples": 1, "columns": {"a": {"count": 1, "nulls": 0, "distinct": {"registers": "AAAA"}}}},
        {"samples": 1, "columns": {"a": {"count": 1, "nulls": 0, "quantiles": {"zeros": 0, "positive": [1]}}}},
        {"samples": 1, "columns": []},
        *(
            {"samples": 1, "columns": {"a": {"count": 1, "nulls": 0, "moments": MOMENTS | change}}}
            for change in (
                {"minimum": "1"},
                {"maximum": [1]},
                {"maximum": 10**400},
                {"minimum": math.nan},
                {"total": "1p99999999999"},
                {"count": math.inf},
            )
        ),
    ],
)
def test_statistics_that_cannot_be_read_are_corrupt(bad: dict[str, Any]) -> None:
    with pytest.raises(CorruptShard, match="statistics that cannot be read"):
        Summary.from_json(bad)


def test_an_empty_column_says_so() -> None:
    assert Column(nulls=3).kind == "empty"
    assert summarise(pa.table({"a": pa.array([], pa.int64())})).columns["a"].kind == "number"


def test_a_column_null_in_one_part_has_the_kind_that_it_has_in_the_others() -> None:
    numbers = summarise(pa.table({"a": [1.5, 2.5]}))
    nulls = summarise(pa.table({"a": pa.nulls(3, pa.string())}))
    assert nulls.merge(numbers) == numbers.merge(nulls)
    assert numbers.merge(nulls).columns["a"].kind == "number"
    # As versions of Stoker before this one wrote it.
    empty_text = {"kind": "category", "count": 0, "nulls": 3, "categories": {"counts": {}, "others": 0}}
    empty_text["distinct"] = {"estimate": 0, "hashes": ""}
    read = Summary.from_json({"samples": 3, "columns": {"a": empty_text}})
    assert read.merge(numbers) == numbers.merge(nulls)


@given(st.sets(st.text(max_size=3), max_size=600) | st.integers(0, 3000).map(lambda count: set(map(str, range(count)))))
def test_distinct_texts_and_categories_are_chosen_by_their_hashes_one_by_one(texts: set[str]) -> None:
    hashed = {text: int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") for text in texts}
    ranks = bytearray(4096)
    for value in hashed.values():
        ranks[value >> 52] = max(ranks[value >> 52], 52 - (value & (2**52 - 1)).bit_length() + 1)
    exact = Distinct(frozenset(hashed.values())) if len(texts) <= 256 else Distinct(None, bytes(ranks))
    assert Distinct.of(texts) == exact
    least = sorted(texts, key=lambda text: (hashed[text], text))[:MAX_CATEGORIES]
    assert Categories.of(dict.fromkeys(texts, 2)) == Categories(dict.fromkeys(least, 2), 2 * (len(texts) - len(least)))
