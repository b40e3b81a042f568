"""Statistics of a table's columns, small enough for a manifest.

Merging is associative and commutative to the last bit, also after JSON, so a version's statistics do not depend on how
its shards were grouped or in which order they were packed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.row_checksum import CHECKSUMS
from stoker.storage.statistics.categories import Categories, Distinct, hashes_of
from stoker.storage.statistics.numbers import Moments, Quantiles

# Columns that identify samples: only the number of distinct values is of interest.
IDENTITIES = frozenset(
    {
        "key",
        "url",
        "page_url",
        "title",
        "caption",
        "sha256",
        "content_sha256",
        "pixels_sha256",
        "image_hash",
        "attribution",
        "detail",
        "group",
        "fetched_at",
        "revision",
        "revision_sha1",
        "revision_url",
        "headings",
        "categories",
        "timestamp",
    }
)
_ALWAYS_CATEGORICAL = 10  # a column with at most so many distinct values is categorical
_MAX_DISTINCT_RATIO = 0.2  # distinct values for each sample, at most, in a categorical column
# Columns without statistics: offsets, and what is known from the manifest.
SKIPPED = frozenset({"start", "stop", "members", "split", "part", "minhash"})


@dataclass(frozen=True)
class Column:
    """Statistics of one column; those that do not apply are None."""

    count: int = 0  # values that are not null
    nulls: int = 0
    moments: Moments | None = None  # of numbers
    quantiles: Quantiles | None = None
    categories: Categories | None = None  # of texts and flags
    distinct: Distinct | None = None  # of texts
    nested: int = 0  # values that are lists or objects, as JSON text

    @property
    def kind(self) -> str:
        """ "number", "category", "identity", "mixed" (of tables that differ) or "empty"."""
        numbers, texts = self.moments is not None, self.distinct is not None or self.categories is not None
        if numbers and texts:
            return "mixed"
        if numbers:
            return "number"
        if self.categories is not None:
            return "category"
        return "identity" if texts else "empty"

    @property
    def is_categorical(self) -> bool:
        """Whether the texts name groups of samples, not single samples."""
        distinct = self.distinct.estimate if self.distinct else 0
        return distinct <= _ALWAYS_CATEGORICAL or distinct <= _MAX_DISTINCT_RATIO * self.count

    def merge(self, other: "Column") -> "Column":
        """The statistics of both columns' values; where one has none, only the other says of what kind they are."""
        if bool(self.count) != bool(other.count):
            return replace(self if self.count else other, nulls=self.nulls + other.nulls)
        return Column(
            self.count + other.count,
            self.nulls + other.nulls,
            _merged(self.moments, other.moments),
            _merged(self.quantiles, other.quantiles),
            _merged(self.categories, other.categories),
            _merged(self.distinct, other.distinct),
            self.nested + other.nested,
        )

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """As JSON values; ``kind`` and some others are for readers and ignored by ``from_json``."""
        content: dict[str, Any] = {"kind": self.kind, "count": self.count, "nulls": self.nulls}
        for name in _ASPECTS:
            aspect = getattr(self, name)
            if aspect is not None:
                content[name] = aspect.to_json()
        return content | ({"nested": self.nested} if self.nested else {})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Column":  # Any: JSON values
        """Reverses ``to_json``."""
        aspects = {name: kind.from_json(content[name]) for name, kind in _ASPECTS.items() if name in content}
        count, nulls = int(content["count"]), int(content["nulls"])
        return cls(count, nulls, **aspects, nested=int(content.get("nested", 0)))


_ASPECTS: Mapping[str, Any] = {  # Any: four classes, each with its from_json
    "moments": Moments,
    "quantiles": Quantiles,
    "categories": Categories,
    "distinct": Distinct,
}


@dataclass(frozen=True)
class Summary:
    """Statistics of a table of samples, by column."""

    samples: int = 0
    columns: Mapping[str, Column] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> "Summary":
        """The summary of no samples; merging it changes nothing."""
        return cls()

    def merge(self, other: "Summary") -> "Summary":
        """The summary of both sets of samples; a column that one of them lacks counts as null there."""
        columns = {}
        for name in sorted(self.columns.keys() | other.columns.keys()):
            mine = self.columns.get(name, Column(nulls=self.samples))
            theirs = other.columns.get(name, Column(nulls=other.samples))
            columns[name] = mine.merge(theirs)
        return Summary(self.samples + other.samples, columns)

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """As JSON values."""
        columns = {name: column.to_json() for name, column in sorted(self.columns.items())}
        return {"samples": self.samples, "columns": columns}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Summary":  # Any: JSON values
        """Reverses ``to_json``. Raises CorruptShard."""
        try:
            columns = {name: Column.from_json(column) for name, column in content["columns"].items()}
            return cls(int(content["samples"]), columns)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CorruptShard(f"statistics that cannot be read: {type(error).__name__}: {error}") from error


def summarise(table: pa.Table) -> Summary:
    """Statistics of the table's columns, without lists, bytes, offsets and checksums of rows."""
    columns = {}
    for name in sorted(table.column_names):
        is_checksum = name in CHECKSUMS and table[name].type == pa.uint32()
        column = None if name in SKIPPED or is_checksum else _column(name, table[name])
        if column is not None:
            columns[name] = column
    return Summary(table.num_rows, columns)


def _column(name: str, values: pa.ChunkedArray) -> Column | None:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    nulls = values.null_count
    present = values.drop_null()
    count = len(present)
    if pa.types.is_integer(kind):
        return _numbers(count, nulls, present.to_numpy())
    if pa.types.is_floating(kind):
        return _numbers(count, nulls, present.cast(pa.float64()).to_numpy())
    if pa.types.is_boolean(kind):
        true = int(pc.sum(present).as_py() or 0)
        return Column(count, nulls, categories=Categories.of({"false": count - true, "true": true}))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        counted = pc.value_counts(present)
        counts = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
        hashes = hashes_of(counts)
        categories = None if name in IDENTITIES else Categories.of(counts, hashes)
        nested = _count_nested(counted)
        return Column(count, nulls, categories=categories, distinct=Distinct.of_hashes(hashes), nested=nested)
    if pa.types.is_null(kind):
        return Column(0, nulls)
    return None


def _count_nested(counted: pa.StructArray) -> int:
    """How many of the values, of which each comes with its count, are a list or an object in JSON."""
    texts = counted.field("values")
    likely = counted.filter(pc.or_(pc.starts_with(texts, "["), pc.starts_with(texts, "{")))
    return sum(one["counts"] for one in likely.to_pylist() if _is_nested(one["values"]))


def _is_nested(text: str) -> bool:
    """Whether a text is a list or an object in JSON."""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _numbers(count: int, nulls: int, values: "np.ndarray[Any, np.dtype[Any]]") -> Column:  # Any: any number type
    return Column(count, nulls, moments=Moments.of(values), quantiles=Quantiles.of(values))


def _merged(mine: Any, other: Any) -> Any:  # Any: two statistics of one class, or None
    if mine is None or other is None:
        return other if mine is None else mine
    return mine.merge(other)
