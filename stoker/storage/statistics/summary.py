"""What is known of a table's columns, small enough for a manifest, and merged without error.

Every statistic is exact in its own terms: merging is associative and commutative to the last bit, and survives JSON.
So a version's statistics are the same however its shards were grouped and in whatever order they were packed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.errors import CorruptShard
from stoker.storage.statistics.categories import Categories, Distinct
from stoker.storage.statistics.numbers import Moments, Quantiles

# What tells samples apart rather than kinds of samples: only how many there are is of interest.
IDENTITIES = frozenset(
    {
        "key",
        "url",
        "page_url",
        "title",
        "caption",
        "sha256",
        "content_sha256",
        "image_hash",
        "attribution",
        "detail",
        "group",
        "fetched_at",
        "revision",
        "timestamp",
    }
)
# Where a sample lies, and what is known from elsewhere.
SKIPPED = frozenset({"start", "stop", "members", "split", "part", "minhash"})


@dataclass(frozen=True)
class Column:
    """What is known of one column; an aspect that does not apply is None."""

    count: int = 0  # values that are there
    nulls: int = 0
    moments: Moments | None = None  # of numbers
    quantiles: Quantiles | None = None
    categories: Categories | None = None  # of texts and flags
    distinct: Distinct | None = None  # of texts

    @property
    def kind(self) -> str:
        """ "number", "category", "identity", "mixed" (it changed on the way) or "empty"."""
        numbers, texts = self.moments is not None, self.distinct is not None or self.categories is not None
        if numbers and texts:
            return "mixed"
        if numbers:
            return "number"
        if self.categories is not None:
            return "category"
        return "identity" if texts else "empty"

    def merge(self, other: "Column") -> "Column":
        """Of both columns' values."""
        return Column(
            self.count + other.count,
            self.nulls + other.nulls,
            _merged(self.moments, other.moments),
            _merged(self.quantiles, other.quantiles),
            _merged(self.categories, other.categories),
            _merged(self.distinct, other.distinct),
        )

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """All of it as JSON values; ``kind`` and some others are for people and are not read again."""
        found: dict[str, Any] = {"kind": self.kind, "count": self.count, "nulls": self.nulls}
        for name in _ASPECTS:
            aspect = getattr(self, name)
            if aspect is not None:
                found[name] = aspect.to_json()
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Column":  # Any: JSON values
        """What ``to_json`` gave."""
        aspects = {name: kind.from_json(content[name]) for name, kind in _ASPECTS.items() if name in content}
        return cls(int(content["count"]), int(content["nulls"]), **aspects)


_ASPECTS: Mapping[str, Any] = {  # Any: four classes with from_json of their own
    "moments": Moments,
    "quantiles": Quantiles,
    "categories": Categories,
    "distinct": Distinct,
}


@dataclass(frozen=True)
class Summary:
    """What is known of each column of the samples."""

    samples: int = 0
    columns: Mapping[str, Column] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> "Summary":
        """Of no samples: merging it changes nothing."""
        return cls()

    def merge(self, other: "Summary") -> "Summary":
        """Of both sets of samples; a column that one of them lacks is null there."""
        columns = {}
        for name in sorted(self.columns.keys() | other.columns.keys()):
            mine = self.columns.get(name, Column(nulls=self.samples))
            theirs = other.columns.get(name, Column(nulls=other.samples))
            columns[name] = mine.merge(theirs)
        return Summary(self.samples + other.samples, columns)

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """All of it as JSON values."""
        columns = {name: column.to_json() for name, column in sorted(self.columns.items())}
        return {"samples": self.samples, "columns": columns}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Summary":  # Any: JSON values
        """What ``to_json`` gave. Raises CorruptShard."""
        try:
            columns = {name: Column.from_json(column) for name, column in content["columns"].items()}
            return cls(int(content["samples"]), columns)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptShard(f"statistics that cannot be read: {type(error).__name__}: {error}") from error


def summarise(table: pa.Table) -> Summary:
    """What is known of the table's columns; lists, bytes and places in tars are left out."""
    columns = {}
    for name in sorted(table.column_names):
        column = None if name in SKIPPED else _column(name, table[name])
        if column is not None:
            columns[name] = column
    return Summary(table.num_rows, columns)


def _column(name: str, values: pa.ChunkedArray) -> Column | None:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    nulls = values.null_count
    there = values.drop_null()
    count = len(there)
    if pa.types.is_integer(kind):
        return _numbers(count, nulls, there.to_numpy())
    if pa.types.is_floating(kind):
        return _numbers(count, nulls, there.cast(pa.float64()).to_numpy())
    if pa.types.is_boolean(kind):
        true = int(pc.sum(there).as_py() or 0)
        return Column(count, nulls, categories=Categories.of({"false": count - true, "true": true}))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        counts = {one["values"]: one["counts"] for one in pc.value_counts(there).to_pylist()}
        distinct = Distinct.of(counts)
        return Column(count, nulls, categories=None if name in IDENTITIES else Categories.of(counts), distinct=distinct)
    if pa.types.is_null(kind):
        return Column(0, nulls)
    return None


def _numbers(count: int, nulls: int, values: "np.ndarray[Any, np.dtype[Any]]") -> Column:  # Any: any number type
    return Column(count, nulls, moments=Moments.of(values), quantiles=Quantiles.of(values))


def _merged(mine: Any, other: Any) -> Any:  # Any: two statistics of one class, or None
    if mine is None or other is None:
        return other if mine is None else mine
    return mine.merge(other)
