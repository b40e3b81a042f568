"""JSON for programs that is harmless on a terminal."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

# What a terminal obeys, or what reverses or hides text: C1 controls, marks of direction, line separators, surrogates.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def json_text(value: object, *, indent: int | None = 1) -> str:
    """A value as a JSON document; numbers that JSON does not have become null. ``indent`` None: one line.

    >>> json_text({"key": "a\\x1b[31m\\u202e", "loss": float("nan")}, indent=None)
    '{"key": "a\\\\u001b[31m\\\\u202e", "loss": null}'
    """
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain(value: Any) -> Any:  # Any: Parquet values in, JSON out
    """A value in JSON's types: bytes in hexadecimal, numbers that JSON does not have as None, others as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | int | bool | None) else str(value)
