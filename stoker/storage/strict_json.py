"""JSON of others, in which no object holds a name twice."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:  # Any: JSON
    """The value of a text. Raises ValueError, also for a name that an object holds twice; RecursionError.

    >>> parse_json('{"label": 1, "label": 2}')
    Traceback (most recent call last):
    stoker.storage.strict_json.RepeatedName: two values for 'label'
    """
    return json.loads(text, object_pairs_hook=unique_object)


class RepeatedName(ValueError):
    """An object holds a name twice."""


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object. Raises RepeatedName for a name that it holds twice: Python would keep the last and say nothing."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedName(f"two values for {max(names, key=names.count)[:40]!r}")
    return values
