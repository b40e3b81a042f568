"""A manifest's statistics as histograms of numbers and tables of categories."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.storage.statistics.median import find_median
from stoker.storage.statistics.numbers import Quantiles
from stoker.storage.statistics.summary import Column, Summary

BARS = 24  # of a histogram
_LISTED_VALUES = 50  # of a column, at most
_LOG_BINS_FROM_RATIO = 50.0  # greatest / least value from which a histogram has a logarithmic scale
_FIRST = ("label", "language", "width", "height", "characters", "words", "size")
_LAST = ("image_hash_quality",)
_TITLES = {
    "size": "bytes of a sample",
    "width": "width",
    "height": "height",
    "label": "labels",
    "language": "languages",
}
_UNITS = {"size": "bytes", "width": "px", "height": "px"}
# The same for every sample of a version, shown elsewhere, or of no interest to people.
_NOT_LISTED = frozenset({"code", "recipe", "partition", "step", "reason", "licence", "final_url"})


@dataclass(frozen=True, slots=True)
class Bin:
    """A bar of a histogram: how many values are in [low, high]."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of numbers, with its histogram."""

    column: str
    title: str
    unit: str  # "bytes", "px" or ""
    count: int
    missing: int  # samples without it
    minimum: float
    maximum: float
    mean: float
    median: float  # rounded as far as ``median_error`` allows
    median_error: float | None  # as a share of it, at most; 0: exact, None: of unknown sign
    median_least: float  # the median is between these two
    median_most: float
    bins: tuple[Bin, ...]  # empty if all values are equal


@dataclass(frozen=True, slots=True)
class CategoryCount:
    """One value of a categorical column, and how many samples have it, by split."""

    value: str
    count: int
    splits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A categorical column, with its most frequent values; with some of them if ``most_frequent`` is false."""

    column: str
    title: str
    distinct: int
    exact: bool  # false: ``distinct`` is an estimate to within a few percent
    missing: int  # samples without it
    values: tuple[CategoryCount, ...]
    others: int  # samples with a value that is not listed
    most_frequent: bool = True  # false: of a version that an older Stoker published, which kept a sample of many values


@dataclass(frozen=True, slots=True)
class ReadColumns:
    """The columns of a version, by kind."""

    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]
    distinct: Mapping[str, int]  # distinct values of each column of text
    nested: Mapping[str, int]  # samples with a list or an object, as JSON, of each column that has them


def read_columns(statistics: Mapping[str, Any]) -> ReadColumns:
    """The columns of numbers, the categorical columns, and what the columns of text hold.

    Args:
        statistics: those of a manifest, the JSON of a Summary by split.

    Raises CorruptShard.
    """
    splits = {split: Summary.from_json(content) for split, content in statistics.items()}
    whole = Summary.empty()
    for summary in splits.values():
        whole = whole.merge(summary)
    names = sorted(whole.columns, key=_rank)
    numbers, values, distinct, nested = [], [], {}, {}
    for name in names:
        column = whole.columns[name]
        if column.distinct is not None:
            distinct[name] = column.distinct.estimate
        if column.nested:
            nested[name] = column.nested
        if column.nested == column.count:  # lists and objects alone are named as such, not as texts too
            continue
        if name in _NOT_LISTED or name.endswith("_id") or not column.count:
            continue
        if column.kind == "number":
            number_column = _numbers(name, column)
            numbers += [number_column] if number_column else []
        elif column.categories is not None and (name in _FIRST or column.is_categorical):
            values.append(_values(name, column, splits))
            nested.pop(name, None)  # its values are listed
    return ReadColumns(tuple(numbers), tuple(values), distinct, nested)


def _rank(name: str) -> tuple[int, str]:
    """The order of columns: the most asked for, then the rest, then those that only rules use."""
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST) + (name in _LAST), name)


def _numbers(name: str, column: Column) -> NumberColumn | None:
    moments, quantiles = column.moments, column.quantiles
    if moments is None or quantiles is None or moments.mean is None:
        return None
    if moments.minimum is None or moments.maximum is None:
        return None
    median = find_median(moments, quantiles)
    if median is None:
        return None
    low, high = float(moments.minimum), float(moments.maximum)
    return NumberColumn(
        column=name,
        title=_TITLES.get(name, name.replace("_", " ")),
        unit=_UNITS.get(name, ""),
        count=moments.count,
        missing=column.nulls + moments.nan + moments.infinite,
        minimum=moments.minimum,
        maximum=moments.maximum,
        mean=moments.mean,
        median=median.value,
        median_error=median.error,
        median_least=median.least,
        median_most=median.most,
        bins=histogram(quantiles, low, high),
    )


def histogram(quantiles: Quantiles, low: float, high: float, *, bars: int = BARS) -> tuple[Bin, ...]:
    """The values in [low, high] as bars whose counts add up to all of them; no bars if all values are equal.

    A bucket that crosses the edge of a bar is divided in proportion. A few whole numbers get a bar each.

    >>> import numpy as np
    >>> [bar.count for bar in histogram(Quantiles.of(np.array([1, 1, 2, 4])), 1, 4)]
    [2, 1, 0, 1]
    """
    if high <= low:
        return ()
    buckets = quantiles.bins()
    edges = _edges(buckets, low, high, bars)
    counts = [0.0] * (len(edges) - 1)
    for left, right, count in buckets:
        _spread(counts, edges, max(left, low), min(right, edges[-1]), count)
    bins: list[Bin] = []
    total, rounded_total = 0.0, 0  # rounding the running total, not each count, keeps the sum exact
    for index, share in enumerate(counts):
        total += share
        bins.append(Bin(edges[index], edges[index + 1], round(total) - rounded_total))
        rounded_total = round(total)
    return tuple(bins)


def _edges(buckets: Sequence[tuple[float, float, int]], low: float, high: float, bars: int) -> list[float]:
    if high - low < bars and high < 64 and low >= 0 and all(left.is_integer() for left, _, _ in buckets):
        return [low + index for index in range(int(high - low) + 2)]  # buckets below 64 hold one whole number each
    if low > 0 and high / low > _LOG_BINS_FROM_RATIO:
        return [*_logarithmic(low, high, bars), high]
    if not math.isfinite((high - low) * bars):  # the width of values on both sides of zero can exceed a float64
        return [low * (1 - index / bars) + high * (index / bars) for index in range(bars)] + [high]
    return [low + (high - low) * index / bars for index in range(bars)] + [high]


def _logarithmic(low: float, high: float, bars: int) -> list[float]:
    if math.isfinite(high / low):
        step = math.log(high / low) / bars
        return [low * math.exp(step * index) for index in range(bars)]
    start, stop = math.log(low), math.log(high)
    return [low, *(math.exp(start + (stop - start) * index / bars) for index in range(1, bars))]


def _spread(counts: list[float], edges: Sequence[float], left: float, right: float, count: int) -> None:
    """Add a bucket's count to the bars that it overlaps."""
    if right <= left:
        index = next((index for index in range(len(counts)) if left < edges[index + 1]), len(counts) - 1)
        counts[index] += count
        return
    for index in range(len(counts)):
        overlap = min(right, edges[index + 1]) - max(left, edges[index])
        if overlap > 0:
            counts[index] += count * (overlap / (right - left))


def _values(name: str, column: Column, splits: Mapping[str, Summary]) -> CategoryColumn:
    categories, distinct = column.categories, column.distinct
    if categories is None:
        raise ValueError(name)
    listed = categories.most_common(_LISTED_VALUES)
    by_split = {split: summary.columns.get(name, Column()).categories for split, summary in splits.items()}
    return CategoryColumn(
        column=name,
        title=_TITLES.get(name, name.replace("_", " ")),
        distinct=distinct.estimate if distinct else len(categories.counts),
        exact=distinct is None or distinct.hashes is not None,
        missing=column.nulls,
        values=tuple(
            CategoryCount(
                value,
                count,
                {split: counts.counts.get(value, 0) if counts else 0 for split, counts in by_split.items()},
            )
            for value, count in listed
        ),
        others=column.count - sum(count for _, count in listed),
        most_frequent=not categories.is_sample,
    )
