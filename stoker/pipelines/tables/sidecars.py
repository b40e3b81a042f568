"""Files that describe an image beside them: captions in .txt, columns of the record in .json."""

import codecs
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.tables.record_names import MAX_COLUMNS, MAX_VALUE, is_fit, record_name, visible
from stoker.pipelines.tables.values import is_too_deep, json_value, text_of
from stoker.storage.strict_json import parse_json

_MAX_SIDECAR = 1 << 20  # bytes


def parse_sidecar(content: bytes, path: str, encoding: str) -> Mapping[str, object] | Rejected:
    """What a sidecar says, by keys, or why it says nothing. ``encoding`` is that of text without a byte order mark."""
    if len(content) > _MAX_SIDECAR:
        return Rejected("too_large", f"{len(content)} bytes, more than {_MAX_SIDECAR} beside an image")
    encoding = "utf-8-sig" if content.startswith(codecs.BOM_UTF8) else encoding
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = content.decode(encoding).strip()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Rejected("not_utf8", f"line {line}: not {encoding.upper()}; if it has another encoding, set encoding")
    if PurePosixPath(path).suffix.lower() != ".json":
        return {"caption": text} if text else {}
    try:
        document = parse_json(text)
    except json.JSONDecodeError as error:
        return Rejected("corrupt", f"line {error.lineno}, column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:  # two values for a key, very long numbers, deep nesting
        return Rejected("corrupt", f"JSON: {error}")
    if not isinstance(document, dict):
        return Rejected("corrupt", "expected a JSON object")
    return document


@dataclass
class SidecarReport:
    """What sidecars say besides values: what is wrong with each, and what is left out of the record."""

    columns: set[str]  # of the partition, that no option names
    faults: dict[str, Rejected] = field(default_factory=dict)
    omitted: dict[str, int] = field(default_factory=dict)

    def add_more(self, record: dict[str, Any], values: Mapping[str, object]) -> None:
        """Add values to the record, but for those that are too long or no numbers (NaN), and for too many columns.

        ``values``: none of them is None.
        """
        for key, value in values.items():
            name, as_json = record_name(key, "json_"), None if is_too_deep(value) else json_value(value)
            fits = is_fit(key) and (name in self.columns or len(self.columns) < MAX_COLUMNS)
            # None: too deep, NaN or infinite.
            if not fits or as_json is None or len(text_of(as_json)) > MAX_VALUE:
                self.omitted[f"key {visible(key)}"] = 1
            else:
                self.columns.add(name)
                record[name] = as_json


def is_scalar(value: object) -> bool:
    """Whether a value is text or a finite number."""
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
