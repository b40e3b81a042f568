"""Types of columns whose values are text, as in CSV: numbers and flags, where the texts can be had back from them.

All values of a column decide together, in whatever files they stand, so that a column has one type.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,40})\.([0-9]{1,40})")
_EXPONENT = re.compile(r"-?[0-9](?:\.[0-9]{1,40})?e[+-][0-9]{2,3}")  # as Python writes it
_FLAGS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


@dataclass
class TextColumn:
    """What the values of one column have in common; empty ones do not count.

    Floats are so only where their texts are told apart as numbers: not 1.1 beside 1.10, nor 1 beside 1.0, nor 0.0
    beside -0.0. With an exponent in the column all are written as Python and its JSON write floats: not 1e5, 100000.
    """

    values: int = 0
    all_integers: bool = True
    all_numbers: bool = True
    flags: set[str] = field(default_factory=set)  # how they are written: "lower", "title", "upper", or "none"
    decimals: set[int] = field(default_factory=set)  # numbers of digits behind the point
    has_integers: bool = False
    has_point_zero: bool = False
    has_padding: bool = False  # with a 0 at the end that no number needs
    has_exponent: bool = False
    all_as_written: bool = True  # as Python writes a float
    zeros: set[bool] = field(default_factory=set)  # whether they have a minus

    def add(self, text: str) -> None:
        """Take a value into account."""
        self.values += 1
        self.flags.add(_style(text))
        if not (self.all_integers or self.all_numbers):
            return
        if not text.strip("-0."):
            self.zeros.add(text.startswith("-"))
        if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
            self.has_integers = True
            self.all_numbers = self.all_numbers and abs(int(text)) <= 2**53
            self.all_as_written = False
            return
        self.all_integers = False
        point = _DECIMAL.fullmatch(text)
        if not (point or _EXPONENT.fullmatch(text)) or not _is_exact(text):
            self.all_numbers = False
            return
        self.all_as_written = self.all_as_written and repr(float(text)) == text
        self.has_exponent |= not point
        if point:
            self.decimals.add(len(point[1]))
            self.has_point_zero |= point[1] == "0"
            self.has_padding |= len(point[1]) > 1 and point[1].endswith("0")

    @property
    def kind(self) -> str:
        """ "integer", "number", "flag" or "text"."""
        if not self.values:
            return "text"
        if self.all_integers:
            return "integer"
        is_ambiguous = (
            (self.has_padding and (len(self.decimals) > 1 or self.has_integers))
            or (self.has_integers and self.has_point_zero)
            or (self.has_exponent and not self.all_as_written)
            or len(self.zeros) > 1
        )
        if self.all_numbers and not is_ambiguous:
            return "number"
        return "flag" if len(self.flags) == 1 and "none" not in self.flags else "text"


class TextTypes:
    """The types of the columns of a table, which may lie in several files.

    >>> types = TextTypes()
    >>> for text in ("7", "007"):
    ...     types.add({"size": "7", "code": text, "score": "0.5"}, is_typed=False)
    >>> types.typed({"size": "7", "code": "7", "score": "0.5"})
    {'size': 7, 'code': '7', 'score': 0.5}
    """

    def __init__(self) -> None:
        self._columns: dict[str, TextColumn] = {}
        self._kinds: dict[str, str] = {}

    def add(self, row: Mapping[str, Any], *, is_typed: bool) -> None:  # Any: values of a table
        """Take a row into account; where a file has types of its own, its text is text."""
        for name, value in row.items():
            if not isinstance(value, str) or not (text := value.strip()):
                continue
            column = self._columns.setdefault(name, TextColumn())
            column.add("text" if is_typed else text)

    def typed(self, row: Mapping[str, Any]) -> dict[str, Any]:  # Any: values of a table
        """The row with the types of its columns; call it when all rows were added."""
        if not self._kinds:
            self._kinds = {name: column.kind for name, column in self._columns.items()}
        return {name: _convert(self._kinds.get(name, "text"), value) for name, value in row.items()}


def _convert(kind: str, value: Any) -> Any:  # Any: a value of a table
    if kind == "text" or not isinstance(value, str) or not (text := value.strip()):
        return value
    try:
        return _FLAGS[text] if kind == "flag" else int(text) if kind == "integer" else float(text)
    except (KeyError, ValueError):  # the rows that decided were not all of them, as in a preview
        return value


def _style(text: str) -> str:
    if text not in _FLAGS:
        return "none"
    return "lower" if text.islower() else "upper" if text.isupper() else "title"


def _is_exact(text: str) -> bool:
    """Whether a float has the number that the text says, to the last digit that is there."""
    number = float(text)
    return math.isfinite(number) and Decimal(repr(number)) == Decimal(text)
