"""Columns of a report: whatever finite values a column holds, there is a histogram that counts all of them."""

import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from stoker.flows.cli.show import print_version, version_json
from stoker.flows.report.columns import NumberColumn, histogram, read_columns
from stoker.pipelines.recipe import load
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.web.client import Web
from stoker.storage.statistics.numbers import Quantiles
from stoker.storage.statistics.summary import summarise
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest
from stoker.testing import sample_corpus
from tests.data import CASES, needs_cases

MAX, LEAST = sys.float_info.max, 5e-324
EXTREME = st.sampled_from([MAX, -MAX, MAX / 2, LEAST, -LEAST, sys.float_info.min, 0.0, 1.0, -1e300, 1e300])
VALUES = st.lists(EXTREME | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30)


def manifest_of(table: pa.Table) -> Manifest:
    """A version whose split ``train`` has the statistics of a table."""
    _, manifest = sample_corpus(table.num_rows)
    return replace(manifest, statistics={"train": json.loads(json.dumps(summarise(table).to_json(), allow_nan=False))})


def shown(manifest: Manifest) -> str:
    out = io.StringIO()
    print_version(manifest, Console(file=out, width=80, force_terminal=True, color_system=None))
    json.dumps(version_json(manifest), allow_nan=False)
    return out.getvalue()


@given(VALUES)
@example([-MAX, MAX])
@example([LEAST, MAX])
@example([MAX] * 1000 + [1.0])
@example([-MAX] * 1000 + [-LEAST])
@example([LEAST, 2 * LEAST, 3 * LEAST])
@settings(max_examples=200, deadline=None)
def test_a_histogram_counts_all_finite_values_between_edges_in_order(values: Sequence[float]) -> None:
    bars = histogram(Quantiles.of(np.array(values)), min(values), max(values))
    if min(values) == max(values):
        assert bars == ()
        return
    assert sum(bar.count for bar in bars) == len(values)
    edges = [bars[0].low, *(bar.high for bar in bars)]
    assert all(math.isfinite(edge) for edge in edges)
    assert edges == sorted(edges)
    assert all(bar.count >= 0 for bar in bars)


@given(VALUES, st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=10))
@settings(max_examples=30, deadline=None)
def test_a_report_can_be_shown_of_any_numbers(values: Sequence[float], whole: Sequence[int]) -> None:
    rows = max(len(values), len(whole))
    columns = {
        "score": pa.array([*values, *[None] * (rows - len(values))], pa.float64()),
        "size": pa.array([*values, *[None] * (rows - len(values))], pa.float64()),
        "whole": pa.array([*whole, *[None] * (rows - len(whole))], pa.int64()),
    }
    text = shown(manifest_of(pa.table(columns)))
    assert "score" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("column", [pa.array([2**64 - 1, 0], pa.uint64()), pa.array([math.nan, math.inf])])
def test_a_report_can_be_shown_of_numbers_at_the_ends_of_their_types(column: pa.Array) -> None:
    assert shown(manifest_of(pa.table({"edge": column})))


def test_the_median_of_the_largest_values_is_one_of_them() -> None:
    [column] = read_columns(manifest_of(pa.table({"score": [MAX, MAX, -1.0]})).statistics).numbers
    assert column.median == pytest.approx(MAX, rel=0.02)


@needs_cases
def test_a_table_with_the_largest_float_is_ingested_and_shown(tmp_path: Path) -> None:
    assert CASES is not None
    store = MemoryStore()
    folder = CASES / "curation"
    context = Context(root=folder, web=Web(), scratch=tmp_path)
    published = ingest(load(folder / "max.toml"), store, context)
    assert "score" in shown(published.manifest)


def number_column(values: Sequence[float]) -> NumberColumn:
    [column] = read_columns(manifest_of(pa.table({"rating": pa.array(values)})).statistics).numbers
    return column


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3, 3, 4, 5, 5],
        [*range(35)],
        [1, 2, 3, 4],
        [0, 0, -3, -7, -9],
        [1.5, 2.5, 2.5, 4.0, 5.0],
        [2**53 + 1],
        [1000, 1013, 1999],
        [777, 777, 777, 777],
    ],
)
def test_the_median_of_few_values_is_exact(values: Sequence[float]) -> None:
    column = number_column(values)
    assert (column.median, column.median_error) == (np.median(np.array(values)), 0)


@given(st.lists(st.integers(-5000, 5000), min_size=1, max_size=60) | st.lists(st.floats(-1e6, 1e6), min_size=1))
@settings(max_examples=100, deadline=None)
def test_the_median_is_in_its_bounds_and_an_exact_one_is_the_median(values: Sequence[float]) -> None:
    column = number_column(values)
    low, high = sorted(values)[(len(values) - 1) // 2], sorted(values)[len(values) // 2]
    true = (Fraction(low) + Fraction(high)) / 2
    assert column.minimum <= column.median <= column.maximum
    if column.median_error == 0:
        assert column.median == pytest.approx(float(true), rel=1e-15, abs=0)
    else:
        assert column.median_least <= float(true) <= column.median_most
        assert column.median_least <= column.median <= column.median_most
        if column.median_error is not None:
            assert abs(column.median - true) <= abs(column.median) * column.median_error * 1.0001
            assert column.median_error < 0.04 or column.minimum < 0 < column.maximum


def test_a_median_that_is_not_exact_is_marked_and_has_no_digits_too_many() -> None:
    manifest = manifest_of(pa.table({"rating": pa.array([100, 201, 487, 489, 491, 802, 970])}))
    assert "~490" in shown(manifest)
    [told] = version_json(manifest)["numbers"]
    assert (told["median"], 0 < told["median_error"] < 0.02) == (490, True)


def test_numbers_of_sixteen_digits_are_short_at_80_columns() -> None:
    text = shown(manifest_of(pa.table({"big": pa.array([2**53 + index for index in range(40)])})))
    line = next(line for line in text.splitlines() if "big" in line)
    assert line.split()[:4] == ["big", "9.007e15", "~9.007e15", "9.007e15"]
    column = number_column([2**53 + index for index in range(40)])
    assert 2**53 < column.median < 2**53 + 39


def test_a_column_of_lists_is_reported_once() -> None:
    table = pa.table({"tags": ["[1, 2]", "[1, 2]", "[]"], "some": ["[1]", "a", "a"]})
    found = read_columns(manifest_of(table).statistics)
    assert (found.nested, [column.column for column in found.categories]) == ({"tags": 3}, ["some"])


@pytest.mark.parametrize(
    ("columns", "holds", "words"),
    [
        ({"width": [5, 5, None], "characters": [None, None, 9]}, "samples", "3 samples (2 images, 1 text) "),
        ({"width": [5, 5, None]}, "samples", "3 samples (2 images) "),
        ({"width": [5, 5, 5], "characters": [9, None, 9]}, "images", "3 images "),
        ({"characters": [9, 9, 9]}, "texts", "3 texts "),
        ({"characters": [9, None, 9]}, "samples", "3 samples (2 texts) "),
        ({"key": ["a", "b", "c"]}, "samples", "3 samples "),
    ],
)
def test_kinds_of_samples_are_counted(columns: dict[str, list[object]], holds: str, words: str) -> None:
    manifest = manifest_of(pa.table(columns))
    assert version_json(manifest)["holds"] == holds
    assert words in shown(manifest)


@pytest.mark.parametrize(
    ("fields", "holds", "words"),
    [
        (["jpg json", "png", "txt"], "samples", "3 samples (2 images, 1 text) in"),
        (["jpg txt", "jpg", "webp"], "images", "3 images in"),
        (["txt", "txt", "json txt"], "texts", "3 texts in"),
        (["txt", "mp3", "cls"], "samples", "3 samples (1 text) in"),
    ],
)
def test_kinds_of_samples_in_external_tars_are_counted(fields: list[str], holds: str, words: str) -> None:
    manifest = replace(manifest_of(pa.table({"fields": fields, "width": [1, 2, 3]})), parts=())
    assert version_json(manifest)["holds"] == holds
    assert words in shown(manifest)


def test_the_address_after_redirects_is_no_table_of_categories() -> None:
    urls = pa.array([f"https://example.org/{number}.jpg" for number in range(4)])
    columns = read_columns(manifest_of(pa.table({"final_url": urls, "author": urls})).statistics)
    assert [column.column for column in columns.categories] == ["author"]
