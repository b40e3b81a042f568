"""Samples and tables as HTML for notebooks: all text escaped, no links, few and small pictures, bounded in size.

What is shown comes from the web, so nothing of it becomes markup: a picture is a data URI whose type is told by its
first bytes, and which is left out if it declares more pixels than a thumbnail needs.
"""

import base64
import struct
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_MAX_PICTURE = 64 * 2**10  # bytes
_MAX_PIXELS = 2**20  # a browser allocates what a picture declares, however few bytes follow
_MAX_PICTURES = 3
_MAX_ROWS = 24
_MAX_TEXT = 300  # characters of a value
_CELL = "text-align:left;vertical-align:top"
_PICTURE = "max-width:192px;max-height:192px"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def table(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values. Whatever is no Html is text: cut, and escaped."""
    listed = list(rows)
    lines = [
        f'<tr><th style="{_CELL}">{_cell(name)}</th><td style="{_CELL}">{_cell(value)}</td></tr>'
        for name, value in listed[:_MAX_ROWS]
    ]
    if len(listed) > _MAX_ROWS:
        lines.append(f"<tr><td></td><td>and {len(listed) - _MAX_ROWS:,} more</td></tr>")
    return f'<div><table><caption style="{_CELL}">{_cell(title)}</caption>{"".join(lines)}</table></div>'


def sample_html(key: str, fields: Mapping[str, bytes], record: Mapping[str, Any]) -> str:  # Any: JSON values
    """A sample's fields, with small pictures and the beginnings of texts, and its record."""
    rows: list[tuple[str, object]] = []
    pictures = 0
    for extension, payload in fields.items():
        shown = thumbnail(payload) if pictures < _MAX_PICTURES else None
        pictures += shown is not None
        rows.append((extension, shown or f"{_beginning(payload)}{len(payload):,} bytes"))
    rows += record.items()
    return table(key, rows)


def thumbnail(payload: bytes) -> Html | None:
    """An ``img`` that holds the picture; None for large pictures and for what is no PNG, GIF or JPEG.

    >>> thumbnail(b"GIF89a" + bytes([1, 0, 1, 0]))[:36], thumbnail(b"<svg onload=alert(1)>")
    ('<img alt="" style="max-width:192px;m', None)
    """
    kind, width, height = _dimensions(payload) if len(payload) <= _MAX_PICTURE else ("", 0, 0)
    if not 0 < width * height <= _MAX_PIXELS:
        return None
    encoded = base64.b64encode(payload).decode("ascii")
    return Html(f'<img alt="" style="{_PICTURE}" src="data:image/{kind};base64,{encoded}">')


def _dimensions(payload: bytes) -> tuple[str, int, int]:
    """Type, width and height of a picture; zeros if unknown."""
    if payload[:8] == b"\x89PNG\r\n\x1a\n" and payload[12:16] == b"IHDR" and len(payload) >= 24:
        return "png", *struct.unpack(">II", payload[16:24])
    if payload[:6] in (b"GIF87a", b"GIF89a") and len(payload) >= 10:
        return "gif", *struct.unpack("<HH", payload[6:10])
    at = 2
    while payload[:2] == b"\xff\xd8" and at + 9 <= len(payload) and payload[at] == 0xFF:
        marker, size = payload[at + 1], int.from_bytes(payload[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame (ISO/IEC 10918-1, B.1.1.3)
            height, width = struct.unpack(">HH", payload[at + 5 : at + 9])
            return "jpeg", width, height
        at += 2 + max(2, size)
    return "", 0, 0


def _beginning(payload: bytes) -> str:
    """The beginning of a text; "" for other bytes."""
    head = payload[: 4 * _MAX_TEXT].decode("utf-8", "replace")[: _MAX_TEXT - 40]
    text = " ".join(head.split())
    cut = "..." if len(payload) > len(head.encode()) else ""
    return f"{text}{cut} · " if text.isprintable() and "\ufffd" not in text else ""


def _cell(value: object) -> str:
    if isinstance(value, Html):
        return value
    text = str(value)
    return escape(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}...")
