"""Values of tables as JSON, labels and texts of records."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date, time
from pathlib import PurePosixPath
from typing import Any

from stoker.pipelines.tables.columns import Column

MAX_DEPTH = 100  # of lists and objects within each other: Python can neither read nor write many hundred


def is_too_deep(value: object) -> bool:
    """Whether lists and objects stand within each other more than ``MAX_DEPTH`` deep.

    >>> is_too_deep([[1], {"a": []}])
    False
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [element for element in level if isinstance(element, Mapping | list | tuple)]
        if not inner:
            return False
        level = [
            child for element in inner for child in (element.values() if isinstance(element, Mapping) else element)
        ]
    return True


def json_value(value: object) -> Any:  # Any: JSON
    """A value as JSON: lists and structs stay what they are, dates are ISO 8601, bytes base64, NaN is null.

    >>> json_value({"at": date(2026, 1, 2), "parts": (1, float("nan"), b"a")})
    {'at': '2026-01-02', 'parts': [1, None, 'YQ==']}
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if value - value == 0 else None  # JSON has no infinity
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple):
        return [json_value(element) for element in value]
    if isinstance(value, Mapping):
        return {str(name): json_value(element) for name, element in value.items()}
    return str(value)  # decimals, durations


def label_of(value: object, column: Column) -> str:
    """The label as text; "" for none. Whole numbers have no point: pandas makes floats of integers beside a gap.

    >>> label_of(1.0, Column("other")), label_of(float("nan"), Column("other")), label_of(True, Column("other"))
    ('1', '', 'true')
    """
    value = json_value(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if column.names and isinstance(value, int) and not isinstance(value, bool):
        return column.names[value] if 0 <= value < len(column.names) else ""
    return "" if value is None else text_of(value)


def payload_hash(values: Iterable[object]) -> str:
    """A hash (hex) of images and texts of a row: of an image its bytes, or the name of its file where there are none.

    >>> payload_hash([{"bytes": b"a", "path": "1.png"}]) == payload_hash([{"bytes": b"a", "path": "2.png"}])
    True
    """
    hashed = hashlib.sha256()
    for value in values:
        contents = [_content_of(element) for element in (value if isinstance(value, list | tuple) else [value])]
        hashed.update(len(contents).to_bytes(8, "big"))
        for content in contents:
            hashed.update(len(content).to_bytes(8, "big"))
            hashed.update(content)
    return hashed.hexdigest()


def _content_of(value: object) -> bytes:
    if isinstance(value, Mapping):
        value = value.get("bytes") or PurePosixPath(str(value.get("path"))).name
    return value if isinstance(value, bytes) else text_of(value).encode("utf-8", "replace")


def text_of(value: object) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(json_value(value), ensure_ascii=False, sort_keys=True)
