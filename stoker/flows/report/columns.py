"""The statistics of a manifest as histograms and tables of values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.storage.statistics.numbers import Quantiles
from stoker.storage.statistics.summary import Column, Summary

BARS = 24  # of a histogram
_VALUES = 50  # of a column that are told by name
_FEW = 10  # different values that are always told
_KINDS = 0.2  # different values for each sample, at most, in a column that tells kinds apart
_WIDE = 50.0  # greatest / least value from which a histogram's bars are equally wide in ratios, not in differences
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
# The same for every sample of a version, told elsewhere, or of no interest to a person.
_TOLD_ELSEWHERE = frozenset({"code", "recipe", "partition", "step", "reason", "licence"})


@dataclass(frozen=True, slots=True)
class Bin:
    """A column of a histogram: values in [low, high]."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of numbers."""

    column: str
    title: str
    unit: str  # "bytes", "px" or ""
    count: int
    missing: int  # samples without it
    minimum: float
    maximum: float
    mean: float
    median: float  # to within 2 %
    bins: tuple[Bin, ...]  # empty if all values are equal


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a column of words."""

    value: str
    count: int
    splits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A column of words: the most frequent ones."""

    column: str
    title: str
    distinct: int
    exact: bool  # whether ``distinct`` is, or an estimate to within a few percent
    missing: int  # samples without it
    values: tuple[Value, ...]
    others: int  # samples with another value


def read_columns(
    statistics: Mapping[str, Any],
) -> tuple[tuple[NumberColumn, ...], tuple[CategoryColumn, ...], Mapping[str, int]]:
    """The columns of numbers, those of words, and how many different values every column of words has.

    ``statistics`` are those of a manifest: the JSON of a Summary by split. Raises CorruptShard.
    """
    splits = {split: Summary.from_json(content) for split, content in statistics.items()}
    whole = Summary.empty()
    for summary in splits.values():
        whole = whole.merge(summary)
    names = sorted(whole.columns, key=_rank)
    numbers, values, distinct = [], [], {}
    for name in names:
        column = whole.columns[name]
        if column.distinct is not None:
            distinct[name] = column.distinct.estimate
        if name in _TOLD_ELSEWHERE or name.endswith("_id") or not column.count:
            continue
        if column.kind == "number":
            found = _numbers(name, column)
            numbers += [found] if found else []
        elif column.categories is not None and (name in _FIRST or _tells_kinds(column)):
            values.append(_values(name, column, splits))
    return tuple(numbers), tuple(values), distinct


def _tells_kinds(column: Column) -> bool:
    """Whether the column's values tell kinds of samples apart, not one sample from another."""
    distinct = column.distinct.estimate if column.distinct else 0
    return distinct <= _FEW or distinct <= _KINDS * column.count


def _rank(name: str) -> tuple[int, str]:
    """What people ask for first, then the rest, then what only rules look at."""
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST) + (name in _LAST), name)


def _numbers(name: str, column: Column) -> NumberColumn | None:
    moments, quantiles = column.moments, column.quantiles
    if moments is None or quantiles is None or moments.mean is None:
        return None
    if moments.minimum is None or moments.maximum is None:
        return None
    median = quantiles.quantile(0.5)
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
        median=min(max(low if median is None else median, low), high),
        bins=histogram(quantiles, low, high),
    )


def histogram(quantiles: Quantiles, low: float, high: float, *, bars: int = BARS) -> tuple[Bin, ...]:
    """The values in [low, high] as bars whose counts add up to all of them; no bars if there is but one value.

    A bucket that lies across an edge is divided in proportion. Few whole numbers get a bar each.

    >>> import numpy as np
    >>> [one.count for one in histogram(Quantiles.of(np.array([1, 1, 2, 4])), 1, 4)]
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
    seen, told = 0.0, 0
    for place, share in enumerate(counts):
        seen += share
        upto = round(seen)
        bins.append(Bin(edges[place], edges[place + 1], upto - told))
        told = upto
    return tuple(bins)


def _edges(buckets: Sequence[tuple[float, float, int]], low: float, high: float, bars: int) -> list[float]:
    if high - low < bars and high < 64 and low >= 0 and all(left.is_integer() for left, _, _ in buckets):
        return [low + place for place in range(int(high - low) + 2)]  # buckets below 64 hold one whole number each
    if low > 0 and high / low > _WIDE:
        step = math.log(high / low) / bars
        return [low * math.exp(step * place) for place in range(bars)] + [high]
    return [low + (high - low) * place / bars for place in range(bars)] + [high]


def _spread(counts: list[float], edges: Sequence[float], left: float, right: float, count: int) -> None:
    """Add a bucket's count to the bars that it lies across."""
    if right <= left:
        place = next((at for at in range(len(counts)) if left < edges[at + 1]), len(counts) - 1)
        counts[place] += count
        return
    for place in range(len(counts)):
        common = min(right, edges[place + 1]) - max(left, edges[place])
        if common > 0:
            counts[place] += count * common / (right - left)


def _values(name: str, column: Column, splits: Mapping[str, Summary]) -> CategoryColumn:
    categories, distinct = column.categories, column.distinct
    if categories is None:
        raise ValueError(name)
    shown = categories.most_common(_VALUES)
    by_split = {split: summary.columns.get(name, Column()).categories for split, summary in splits.items()}
    return CategoryColumn(
        column=name,
        title=_TITLES.get(name, name.replace("_", " ")),
        distinct=distinct.estimate if distinct else len(categories.counts),
        exact=distinct is None or distinct.hashes is not None,
        missing=column.nulls,
        values=tuple(
            Value(value, count, {split: own.counts.get(value, 0) if own else 0 for split, own in by_split.items()})
            for value, count in shown
        ),
        others=column.count - sum(count for _, count in shown),
    )
