"""Values of records in external tars, as they become columns of an index."""

import json
import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

MAX_TEXT = 200  # characters of a text taken from a record; longer ones stay in the tar alone
MAX_NESTED = 1000  # characters of a list or an object, as JSON


def group_text(group: object) -> str:
    """A group as text, the same in a tar where others are numbers with a fraction, or texts.

    >>> group_text(7.0), group_text(" a page ")
    ('7', 'a page')
    """
    return str(int(group) if isinstance(group, float) and group.is_integer() else group).strip()


def nested_text(value: object) -> str | None:
    """A list or an object as JSON text; None if it holds what JSON does not know."""
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):  # also nested deeper than can be written
        return None


def is_short(value: object, is_text: bool) -> bool:
    """Whether the value is fit for a column: a flag, a number, a short text or short JSON."""
    if isinstance(value, str):
        return len(value) <= (MAX_TEXT if is_text else MAX_NESTED)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def column(values: Iterable[Any]) -> pa.Array:  # Any: JSON scalars
    """The values as a column; as texts where they have no common type."""
    elements = list(values)
    try:
        return pa.array(elements)
    except (pa.ArrowException, UnicodeEncodeError):  # flags among numbers, numbers among texts, half a surrogate pair
        texts = [None if value is None else str(value).encode("utf-8", "replace").decode() for value in elements]
        return pa.array(texts, pa.string())
