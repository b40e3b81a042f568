"""What a partition knows of each image before it is fetched: plain JSON, without a password in it."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from stoker.pipelines.tables.url_lists import Row
from stoker.pipelines.web.crawl import Found
from stoker.pipelines.web.links import normalise, shown
from stoker.pipelines.web.pages.licences import spdx

KEY = 24  # hex digits of the URL's SHA-256: 96 bits
MAX_TEXT = 10_000  # characters of a caption or another column of a list

Entry = Mapping[str, Any]  # Any: JSON. {"url", "record"?, "refused"?: [reason, detail]}


def key_of(url: str) -> str:
    """The key of the image at a URL in normal form.

    >>> key_of("http://example.com/a.jpg")
    '4fd63207a70baba7076795ee'
    """
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:KEY]


def once(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The entries; of those with the same URL only the first is to be fetched."""
    seen: set[bytes] = set()
    for entry in entries:
        if "refused" not in entry:
            mark = hashlib.blake2b(entry["url"].encode(), digest_size=12).digest()
            if mark in seen:
                entry = {**entry, "refused": ["duplicate_key", "an earlier row has the same URL"]}
            seen.add(mark)
        yield entry


def entry_of_row(row: Row, url_column: str, carried: Mapping[str, str]) -> Entry:
    """The entry of a row of a list; ``carried`` maps names in records to columns."""
    written = row.values.get(url_column)
    written = written if isinstance(written, str) else "" if written is None else str(written)
    record = {name: _plain(row.values.get(column)) for name, column in carried.items()}
    if record.get("licence") is None:
        record["licence"] = _plain(row.values.get("license"))
    if isinstance(record["licence"], str):
        record["licence"] = spdx(record["licence"])
    for name in ("caption", "label", "licence", "author", "page_url"):
        if record[name] is not None and not isinstance(record[name], str):
            record[name] = str(record[name])
    kept = {name: value for name, value in record.items() if value not in (None, "") and name != "url"}
    entry: dict[str, Any] = {"url": shown(written)} | ({"record": kept} if kept else {})  # Any: JSON
    where = f"row {row.number}"
    if row.fault:
        return entry | {"refused": ["bad_url", row.fault]}
    if not written.strip():
        return entry | {"refused": ["empty", f"{where}: no URL"]}
    try:
        return entry | {"url": normalise(written)}
    except ValueError as error:
        return entry | {"refused": ["bad_url", f"{where}: {error}"]}


def entry_of_image(found: Found) -> Entry:
    """The entry of what was found on a page."""
    record = {
        "page_url": found.page_url,
        "title": found.title,
        "caption": found.caption,
        "licence": spdx(found.licence),
        "author": found.author,
    }
    entry: dict[str, Any] = {"url": shown(found.url), "record": {name: one for name, one in record.items() if one}}
    if found.refused is not None:  # Any: JSON
        return entry | {"refused": [found.refused.reason, found.refused.detail]}
    try:
        return entry | {"url": normalise(found.url)}
    except ValueError as error:
        return entry | {"refused": ["bad_url", str(error)]}


def _plain(value: object) -> Any:  # Any: JSON
    """A column's value as JSON that is the same in every run."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    if isinstance(value, float):
        return value if value - value == 0 else None  # JSON has no infinity
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value[:MAX_TEXT]).decode()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value[:1000]]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return str(value)
