"""What a column holds, in words, and how that changed between versions: as far as statistics tell."""

from collections.abc import Mapping
from dataclasses import dataclass

from stoker.storage.statistics.median import is_whole
from stoker.storage.statistics.summary import Column, Summary

_NUMBERS = frozenset({"whole number", "number"})


@dataclass(frozen=True, slots=True)
class TypeChange:
    """A column that holds values of another type; ``value`` is one of them, "" if none is known."""

    name: str
    a: str
    b: str
    value: str = ""

    @property
    def is_of_numbers(self) -> bool:
        """Whether both are numbers: whole ones, and others."""
        return {self.a, self.b} <= _NUMBERS


def type_of(column: Column) -> str:
    """The type of a column's values in words; "" if it has none.

    >>> import pyarrow as pa
    >>> from stoker.storage.statistics.summary import summarise
    >>> columns = summarise(pa.table({"a": [1], "b": [0.5], "c": ["x"], "d": [True], "e": ["[1]"]})).columns
    >>> [type_of(columns[name]) for name in "abcde"]
    ['whole number', 'number', 'text', 'true or false', 'list or object']
    """
    if not column.count or column.kind == "empty":
        return ""
    if column.kind == "mixed":
        return "number or text"
    if column.moments is not None:
        return "whole number" if column.moments.count == column.count and is_whole(column.moments) else "number"
    if column.nested == column.count:
        return "list or object"
    return "true or false" if column.distinct is None else "text"


def type_changes(a: Mapping[str, Summary], b: Mapping[str, Summary]) -> tuple[TypeChange, ...]:
    """The columns of both versions whose values have another type in ``b``; of each version the summaries by split."""
    before, after = _merged(a), _merged(b)
    changes = []
    for name in sorted(before.columns.keys() & after.columns.keys()):
        old, new = type_of(before.columns[name]), type_of(after.columns[name])
        if old and new and old != new:
            changes.append(TypeChange(name, old, new, _cause(after.columns[name], old)))
    return tuple(changes)


def _merged(summaries: Mapping[str, Summary]) -> Summary:
    whole = Summary.empty()
    for summary in summaries.values():
        whole = whole.merge(summary)
    return whole


def _cause(column: Column, before: str) -> str:
    """A value of a column that was not of the type before; "" if its values are not known."""
    values = [value for value, _ in column.categories.most_common()] if column.categories else []
    if before in _NUMBERS:
        values = [value for value in values if not _is_number(value)]
    return values[0] if values and before not in ("text", "list or object") else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
