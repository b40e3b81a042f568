"""Columns of a report: whatever finite values a column holds, there is a histogram that counts all of them."""

import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from stoker.flows.cli.show import print_version, version_json
from stoker.flows.report.columns import histogram, read_columns
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
