"""The median that stored statistics allow: exact where they prove it, else with bounds and an error."""

import math
from dataclasses import dataclass
from fractions import Fraction

from stoker.storage.statistics.numbers import Exact, Moments, Quantiles

_MOST_DIGITS = 17  # of a float64
_LEAST_EDGE = 2.0**-1000  # of a bucket whose squares and edges are not rounded


@dataclass(frozen=True, slots=True)
class Median:
    """The median of numbers, for an even count the mean of the middle two. It is in [least, most].

    ``value`` has no more digits than are needed to be in there; ``error`` is how far it may be off, as a share of it:
    0 if it is exact, None if the median may be on either side of 0.
    """

    value: float | int
    least: float | int
    most: float | int
    error: float | None


def is_whole(moments: Moments) -> bool:
    """Whether all values seem to be whole numbers: the least, the greatest and both sums are."""
    ends = isinstance(moments.minimum, int) and isinstance(moments.maximum, int)
    return ends and moments.total[1] >= 0 and moments.squares[1] >= 0


def find_median(moments: Moments, quantiles: Quantiles) -> Median | None:
    """The median; None without values.

    >>> import numpy as np
    >>> ratings = np.array([1, 3, 3, 4, 5])
    >>> find_median(Moments.of(ratings), Quantiles.of(ratings))
    Median(value=3, least=3, most=3, error=0.0)
    """
    if moments.minimum is None or moments.maximum is None or not quantiles.count:
        return None
    least, most = _bounds(moments, quantiles, Fraction(moments.minimum), Fraction(moments.maximum))
    if least == most:
        value = least
    else:
        value = _shortest(least, most, whole=is_whole(moments))
    return Median(_plain(value), _plain(least), _plain(most), _error(value, least, most))


def _error(value: Fraction, least: Fraction, most: Fraction) -> float | None:
    if least == most:
        return 0.0
    return None if least < 0 < most or not value else float(max(value - least, most - value) / abs(value))


def _bounds(moments: Moments, quantiles: Quantiles, low: Fraction, high: Fraction) -> tuple[Fraction, Fraction]:
    count = quantiles.count
    if count == 3 == moments.count:
        middle = _value(moments.total) - low - high
        return middle, middle
    buckets = quantiles.bins()
    proven = _are_edges(moments, buckets)

    def at(rank: int) -> tuple[Fraction, Fraction]:
        if rank == 1 or rank == count:
            return (low, low) if rank == 1 else (high, high)
        left, right = _bucket(buckets, rank)
        if proven:
            left = right = left if left >= 0 else right
        return min(max(Fraction(left), low), high), min(max(Fraction(right), low), high)

    (first, second), (third, fourth) = at((count + 1) // 2), at(count // 2 + 1)
    return (first + third) / 2, (second + fourth) / 2


def _bucket(buckets: list[tuple[float, float, int]], rank: int) -> tuple[float, float]:
    seen = 0
    for left, right, count in buckets:
        seen += count
        if seen >= rank:
            return left, right
    raise ValueError(rank)


def _are_edges(moments: Moments, buckets: list[tuple[float, float, int]]) -> bool:
    """Whether each value is its bucket's edge next to 0, as whole numbers below 64 are.

    No value is nearer to 0 than that edge. So the sum of squares is that of the edges only if all values are edges.
    """
    edges = [(left if left >= 0 else right, count) for left, right, count in buckets]
    if moments.count != sum(count for _, count in edges) or any(0 < abs(edge) < _LEAST_EDGE for edge, _ in edges):
        return False
    return sum((Fraction(edge) ** 2 * count for edge, count in edges), Fraction()) == _value(moments.squares)


def _shortest(least: Fraction, most: Fraction, *, whole: bool) -> Fraction:
    """A number between the two with as few digits as that needs, at least 2; a whole one if there is one."""
    middle = (least + most) / 2
    if whole and math.ceil(least) <= math.floor(most):
        middle = Fraction(min(max(round(middle), math.ceil(least)), math.floor(most)))
    for digits in range(2, _MOST_DIGITS + 1):
        rounded = Fraction(f"{float(middle):.{digits - 1}e}")
        if least <= rounded <= most and (middle.denominator > 1 or rounded.denominator == 1):
            return rounded
    return middle


def _value(exact: Exact) -> Fraction:
    return exact[0] * Fraction(2) ** exact[1]


def _plain(value: Fraction) -> float | int:
    return int(value) if value.denominator == 1 and abs(value) < 2**64 else float(value)
