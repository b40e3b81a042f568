"""Mergeable statistics of numbers: exact sums, and a histogram that gives quantiles to within 2 %."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANTISSA = 53  # bits of a float64
_STEPS = 32  # buckets between a power of two and the next: each 3.1 % wide or less, its middle within 1.6 %
_LIMB = 18  # bits: products of two limbs fit 36 bits, so 2**26 of them can be summed in an int64
_BLOCK = 2**26
_MAX_EXPONENT = 4096  # of two: a square of the least float64 has -2148, and a sum of many of the largest 2 * 1024
Exact = tuple[int, int]  # value = first * 2 ** second; the first is odd, or both are 0


@dataclass(frozen=True)
class Moments:
    """Count, minimum, maximum, sum and sum of squares. The sums are exact, so the order of merges does not matter."""

    count: int = 0  # finite values
    minimum: float | int | None = None
    maximum: float | int | None = None
    total: Exact = (0, 0)
    squares: Exact = (0, 0)
    nan: int = 0
    infinite: int = 0

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Moments":  # Any: integers or floats
        """Moments of an array of integers or floats."""
        if values.dtype.kind in "iu":
            if not len(values):
                return cls()
            least, greatest = int(values.min()), int(values.max())
            if max(abs(least), abs(greatest)) >= 2**_MANTISSA:
                wide = [int(value) for value in values]
                total, squares = _exact(sum(wide), 0), _exact(sum(value * value for value in wide), 0)
                return cls(len(wide), least, greatest, total, squares)
        values = values.astype(np.float64, copy=False)
        finite = values[np.isfinite(values)]
        nan = int(np.isnan(values).sum())
        infinite = len(values) - len(finite) - nan
        if not len(finite):
            return cls(nan=nan, infinite=infinite)
        total, squares = _sums(finite)
        return cls(len(finite), _plain(finite.min()), _plain(finite.max()), total, squares, nan, infinite)

    @property
    def mean(self) -> float | None:
        """None if there are no values."""
        return float(_value(self.total) / self.count) if self.count else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the values themselves (not an estimate for others); None if there are none."""
        if not self.count:
            return None
        variance = _value(self.squares) / self.count - (_value(self.total) / self.count) ** 2
        try:
            return math.sqrt(variance)
        except OverflowError:
            return math.inf

    def merge(self, other: "Moments") -> "Moments":
        """The statistics of both sets of values."""
        least = [value for value in (self.minimum, other.minimum) if value is not None]
        greatest = [value for value in (self.maximum, other.maximum) if value is not None]
        return Moments(
            self.count + other.count,
            # Of 1 and 1.0 the integer, in any order of merges.
            min(least, key=lambda value: (value, isinstance(value, float)), default=None),
            max(greatest, key=lambda value: (value, isinstance(value, int)), default=None),
            _add(self.total, other.total),
            _add(self.squares, other.squares),
            self.nan + other.nan,
            self.infinite + other.infinite,
        )

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """As JSON values; sums as text, "12345p-3" for 12345 / 2**3, because JSON parsers would round them."""
        return {
            "count": self.count,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": self.mean,
            "deviation": _finite(self.deviation),
            "total": f"{self.total[0]}p{self.total[1]}",
            "squares": f"{self.squares[0]}p{self.squares[1]}",
            "nan": self.nan,
            "infinite": self.infinite,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Moments":  # Any: JSON values
        """Reverses ``to_json``."""
        return cls(
            int(content["count"]),
            _extreme(content["minimum"]),
            _extreme(content["maximum"]),
            _parse(content["total"]),
            _parse(content["squares"]),
            int(content["nan"]),
            int(content["infinite"]),
        )


@dataclass(frozen=True)
class Quantiles:
    """A histogram with logarithmic buckets: 32 between a power of two and the next.

    The bits of a number give its bucket, without a logarithm, so that every machine agrees. Cf. Masson, Rim and Lee,
    "DDSketch: A fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019.
    """

    zeros: int = 0
    positive: Mapping[int, int] = field(default_factory=dict)
    negative: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Quantiles":  # Any: integers or floats
        """The histogram of an array, without values that are not finite."""
        values = values.astype(np.float64, copy=False)
        values = values[np.isfinite(values)]
        return cls(int((values == 0).sum()), _buckets(values[values > 0]), _buckets(-values[values < 0]))

    @property
    def count(self) -> int:
        """Values counted."""
        return self.zeros + sum(self.positive.values()) + sum(self.negative.values())

    def quantile(self, share: float) -> float | None:
        """The quantile of a share from 0 to 1, to within 2 %; None without values.

        >>> Quantiles.of(np.arange(1000)).quantile(0.5)
        500.0
        """
        rank = max(1, math.ceil(share * self.count))
        seen = 0
        for low, high, count in self.bins():
            seen += count
            if seen >= rank:
                return low + (high - low) / 2  # low and high have the same sign, so that nothing overflows
        return None

    def bins(self) -> list[tuple[float, float, int]]:
        """Low edge, high edge and count of every bucket that holds a value, from the lowest; (0, 0, n) for zeros."""
        below = [
            (-_edge(bucket + 1), -_edge(bucket), count) for bucket, count in sorted(self.negative.items(), reverse=True)
        ]
        zero = [(0.0, 0.0, self.zeros)] if self.zeros else []
        return (
            below
            + zero
            + [(_edge(bucket), _edge(bucket + 1), count) for bucket, count in sorted(self.positive.items())]
        )

    def merge(self, other: "Quantiles") -> "Quantiles":
        """The statistics of both sets of values."""
        return Quantiles(
            self.zeros + other.zeros,
            _added(self.positive, other.positive),
            _added(self.negative, other.negative),
        )

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """Buckets as [number, count]; bucket n begins at (1 + n % 32 / 32) * 2 ** (n // 32)."""
        return {
            "zeros": self.zeros,
            "positive": [[bucket, count] for bucket, count in sorted(self.positive.items())],
            "negative": [[bucket, count] for bucket, count in sorted(self.negative.items())],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Quantiles":  # Any: JSON values
        """Reverses ``to_json``."""
        positive = {int(bucket): int(count) for bucket, count in content["positive"]}
        negative = {int(bucket): int(count) for bucket, count in content["negative"]}
        return cls(int(content["zeros"]), positive, negative)


def _sums(values: NDArray[np.float64]) -> tuple[Exact, Exact]:
    """The exact sum and sum of squares: mantissas of equal exponent are added as integers."""
    parts, exponents = np.frexp(values)
    mantissas = np.ldexp(parts, _MANTISSA).astype(np.int64)
    shifts = exponents.astype(np.int64) - _MANTISSA
    total, squares = (0, 0), (0, 0)
    for shift in np.unique(shifts).tolist():
        selected = mantissas[shifts == shift]
        for start in range(0, len(selected), _BLOCK):
            block = selected[start : start + _BLOCK]
            total = _add(total, _exact(int((block >> 27).sum()) * 2**27 + int((block & (2**27 - 1)).sum()), shift))
            squares = _add(squares, _exact(_square_sum(np.abs(block)), 2 * shift))
    return total, squares


def _square_sum(values: NDArray[np.int64]) -> int:
    low, middle, high = (values >> (limb * _LIMB) & (2**_LIMB - 1) for limb in range(3))
    pairs = [(low, low, 0), (low, middle, 1), (low, middle, 1), (low, high, 2), (low, high, 2)]
    pairs += [(middle, middle, 2), (middle, high, 3), (middle, high, 3), (high, high, 4)]
    return sum(int((left * right).sum()) << (limb * _LIMB) for left, right, limb in pairs)


def _buckets(values: NDArray[np.float64]) -> dict[int, int]:
    parts, exponents = np.frexp(values)
    steps = np.floor((parts * 2 - 1) * _STEPS).astype(np.int64)
    buckets, counts = np.unique((exponents.astype(np.int64) - 1) * _STEPS + steps, return_counts=True)
    return dict(zip(buckets.tolist(), counts.tolist(), strict=True))


def _edge(bucket: int) -> float:
    try:
        return math.ldexp(1 + bucket % _STEPS / _STEPS, bucket // _STEPS)
    except OverflowError:
        return sys.float_info.max  # the end of the last bucket


def _added(left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
    return {bucket: left.get(bucket, 0) + right.get(bucket, 0) for bucket in sorted(left.keys() | right.keys())}


def _exact(value: int, exponent: int) -> Exact:
    if value == 0:
        return (0, 0)
    zeros = (value & -value).bit_length() - 1
    return (value >> zeros, exponent + zeros)


def _add(left: Exact, right: Exact) -> Exact:
    if left[0] == 0 or right[0] == 0:
        return right if left[0] == 0 else left
    low = min(left[1], right[1])
    return _exact((left[0] << (left[1] - low)) + (right[0] << (right[1] - low)), low)


def _value(exact: Exact) -> Fraction:
    return exact[0] * Fraction(2) ** exact[1]


def _parse(text: str) -> Exact:
    value, _, exponent = text.partition("p")
    if abs(int(exponent)) > _MAX_EXPONENT:
        raise ValueError(f"a sum of {text[:40]!r}")
    return _exact(int(value), int(exponent))


def _extreme(value: object) -> float | int | None:
    """A minimum or maximum that was read, if it can be one. Raises ValueError."""
    if value is None or (isinstance(value, int | float) and abs(value) <= sys.float_info.max):
        return value
    raise ValueError(f"a minimum or maximum of {str(value)[:40]!r}")


def _plain(value: float) -> float | int:
    """Integers as int: 1 and 1.0 are the same value and must have the same JSON."""
    return int(value) if float(value).is_integer() and abs(value) < 2**_MANTISSA else float(value)


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
