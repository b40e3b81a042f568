"""Entries of a partition's payload: each image URL with its record, as JSON, without passwords."""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from itertools import islice
from typing import Any

from stoker.pipelines.memory.seen import Seen
from stoker.pipelines.partition import Partition, digest, ends_run
from stoker.pipelines.tables.record_names import KNOWN_NAMES, record_name
from stoker.pipelines.tables.text_types import TextTypes
from stoker.pipelines.tables.url_lists import ListRow
from stoker.pipelines.tables.values import text_of
from stoker.pipelines.web.crawl import CrawlResult
from stoker.pipelines.web.links import host_of, normalise, normalise_listed, redact
from stoker.pipelines.web.pages.licences import spdx_id

KEY_LENGTH = 24  # hex digits of the URL's SHA-256: 96 bits
_MAX_WAITING = 20  # partitions of rejects that wait for the one of URLs around them
_STAMP = 16  # hex digits
_MAX_BLANK_LINES = 1_000  # that wait for the partition around them
MAX_TEXT = 10_000  # characters of a caption or another column of a list

Entry = Mapping[str, Any]  # Any: JSON. {"url", "line"?, "record"?, "refused"?: [reason, detail]}
WITHHELD = "withheld"  # in an entry: why its owner does not give it, [reason, detail]; and the stamp of such a one
STAMP = "stamp"  # in an entry of a site: see ``stamp_of``
OF_PAGE = "page: "  # begins the detail of a page of a site that was rejected: it is no image
NO_URL = "no URL"  # ends the detail of a row without one
_BATCH = 4096  # entries that are compared with those before at a time
UNTYPED = "untyped"  # in an entry until its partition is there: its list has no types, its record may get some


def key_of(url: str) -> str:
    """The key of the image at a URL in normal form.

    >>> key_of("http://example.com/a.jpg")
    '4fd63207a70baba7076795ee'
    """
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]


def stamp_of(entry: Entry) -> str:
    """What tells that a list says other things of a URL than before; "" where it says nothing but the URL."""
    if STAMP in entry:
        return str(entry[STAMP])
    record = entry.get("record")
    return digest(record)[:_STAMP] if record else ""


def reject_repeats(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The entries; each after the first with the same URL is marked as rejected (``duplicate_key``).

    ``line`` is taken out of the others: a line that is moved must not make its picture be fetched again.
    """
    seen = Seen()
    for some in _batches(entries):
        offered = [entry for entry in some if "refused" not in entry]
        repeats = iter(seen.add([entry["url"] for entry in offered]).tolist())
        for entry in some:
            if "refused" not in entry and next(repeats):
                where = f"{entry['line']}: " if "line" in entry else ""
                entry = {**entry, "refused": ["duplicate_key", f"{where}an earlier row has the same URL"]}
            yield entry if "refused" in entry else {name: value for name, value in entry.items() if name != "line"}


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """The entries, some at a time; those before an error, and then the error."""
    while True:
        some: list[Entry] = []
        try:
            some.extend(islice(entries, _BATCH))
        except Exception:
            yield some
            raise
        if not some:
            return
        yield some


def columns_for_record(
    named: Mapping[str, str], columns: Sequence[str], url_column: str, taken: Collection[str] = ()
) -> dict[str, str]:
    """The column for each name in the record: those that options name, then the more ``columns``.

    One of these whose name means something else in the record is kept with ``list_`` before it: names of Stoker's own
    and of its measures, those ``taken``, and those for which an option names another column.

    >>> columns_for_record({"caption": "text", "label": ""}, ["caption", "width", "score", "label"], "url")
    {'caption': 'text', 'label': 'label', 'list_caption': 'caption', 'list_width': 'width', 'score': 'score'}
    """
    result = {name: column or name for name, column in named.items()}
    for column in columns:
        if column in taken or result.get(column, column) != column or (column == "url" != url_column):
            result[f"list_{column}"] = column
        elif column not in result and column != "url":
            result[column if column == "group" else record_name(column, "list_")] = column
    return result


def columns_to_type(carried: Mapping[str, str], columns: Sequence[str], url_column: str) -> list[str]:
    """The names in the record whose values may be numbers or flags: of ``columns``, those without a meaning.

    >>> columns_to_type({"label": "kind", "kind": "kind", "group": "group", "score": "score"}, ["kind", "score"], "url")
    ['score']
    """
    texts = {*KNOWN_NAMES, "license", url_column, *(carried[name] for name in KNOWN_NAMES if name in carried)}
    return [name for name, column in carried.items() if column in columns and texts.isdisjoint((name, column))]


def typed_entries(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The entries of a partition with the types that all of their values allow, under these names of the record.

    So entries that are added elsewhere change no type here.
    """
    if not names:
        return list(entries)
    types = TextTypes()
    for entry in entries:
        record = entry.get("record", {})
        types.add({name: record[name] for name in names if name in record}, is_typed=UNTYPED not in entry)
    return [_typed_entry(entry, types) for entry in entries]


def _typed_entry(entry: Entry, types: TextTypes) -> Entry:
    if UNTYPED not in entry:
        return entry
    typed = {name: value for name, value in entry.items() if name != UNTYPED}
    return typed | {"record": types.typed(entry["record"])} if "record" in entry else typed


def entry_of_row(row: ListRow, list_name: str, url_column: str, carried: Mapping[str, str]) -> Entry:
    """The entry of a row of a list; ``carried`` maps names in records to columns.

    A row without a URL gets that of its line, such as ``birds.tsv:7``, so that ``stoker why`` finds it.
    """
    value = row.values.get(url_column)
    text = value if isinstance(value, str) else "" if value is None else str(value)
    line = f"{list_name}:{row.number}"
    entry: dict[str, Any] = {"url": line, "line": line}  # Any: JSON
    if row.fault or not text.strip():
        entry["refused"] = ["bad_row", f"{line}: {row.fault}"] if row.fault else ["empty", f"{line}: {NO_URL}"]
    else:
        try:
            entry["url"] = normalise_listed(text)
        except ValueError as error:
            entry["refused"] = ["bad_url", f"{line}: {error}"]
    if "refused" in entry and text.strip():
        entry["url"] = redact(text)
    others = any(value not in (None, "") for name, value in row.values.items() if name != url_column)
    if others or url_column in carried.values():
        record = _record_of(row, url_column, carried)
        if record:
            entry["record"] = record
    return entry


def _record_of(row: ListRow, url_column: str, carried: Mapping[str, str]) -> dict[str, Any]:  # Any: JSON
    """The values of a row's other columns, without empty ones."""
    record = {name: _json_value(row.values.get(column)) for name, column in carried.items()}
    if record.get("licence") is None:
        record["licence"] = _json_value(row.values.get("license"))
    if isinstance(record["licence"], str):
        record["licence"] = spdx_id(record["licence"])
    for name in ("caption", "label", "licence", "author", "page_url"):
        if record[name] is not None and not isinstance(record[name], str):
            value = record[name]
            record[name] = text_of(value) if isinstance(value, list | dict) else str(value)
    for name, column in carried.items():
        if column == url_column and isinstance(record[name], str):
            record[name] = redact(record[name])
    return {name: value for name, value in record.items() if value not in (None, "")}


def entry_of_result(result: CrawlResult) -> Entry:
    """The entry of a crawl's result.

    What a page says of an image is taken once, so that a caption that changes makes no image be fetched again; whether
    the image may be taken is obeyed each time.
    """
    record = {
        "page_url": result.page_url,
        "title": result.title,
        "caption": result.caption,
        "licence": spdx_id(result.licence),
        "author": result.author,
    }
    entry: dict[str, Any] = {"url": redact(result.url), "record": {name: text for name, text in record.items() if text}}
    if result.is_page and result.rejected is not None:
        return entry | {"refused": [result.rejected.reason, f"{OF_PAGE}{result.rejected.detail}"]}
    told: dict[str, Any] = {STAMP: ""}
    if result.rejected is not None:  # Any: JSON
        told = {STAMP: WITHHELD, WITHHELD: [result.rejected.reason, result.rejected.detail]}
    try:
        return entry | {"url": normalise(result.url)} | told
    except ValueError as error:
        return entry | {"refused": ["bad_url", str(error)]}


def cut_entries(
    entries: Iterator[Entry], to_type: Sequence[str], *, target: int, is_finished: Callable[[Partition], bool]
) -> Iterator[tuple[Partition, Mapping[str, str | None]]]:
    """Partitions of about ``target`` entries, and the stamps of the URLs in each by their keys; None: not known.

    Rows that are rejected by themselves get partitions of their own: their line numbers change with each line that is
    inserted before them, and must not make the URLs beside them be fetched again.
    """
    names = Counter[str]()
    group: list[Entry] = []
    refused: list[Entry] = []
    for entry in with_finished_partitions(entries, to_type, target=target, is_finished=is_finished):
        if isinstance(entry, Partition):
            old = entry.payload["urls"]
            yield entry, {key_of(one["url"]): None for one in old if "refused" not in one}
            continue
        if "refused" in entry:
            refused.append(entry)
            if len(refused) < _MAX_WAITING * target:
                continue
        else:
            group.append(entry)
            if not ends_run(entry["url"], len(group), target=target):
                continue
            yield _partition(host_of(group[0]["url"]), group, to_type, names)
            group = []
        whole = len(refused) // target * target
        yield from (_partition("rejected", refused[i : i + target], to_type, names) for i in range(0, whole, target))
        del refused[:whole]
    if group:
        yield _partition(host_of(group[0]["url"]), group, to_type, names)
    for start in range(0, len(refused), target):
        yield _partition("rejected", refused[start : start + target], to_type, names)


def _partition(
    start: str, group: Sequence[Entry], to_type: Sequence[str], names: Counter[str]
) -> tuple[Partition, Mapping[str, str | None]]:
    """A partition whose name begins with ``start``, and is not among ``names`` yet."""
    stamps = {key_of(entry["url"]): stamp_of(entry) for entry in group if "refused" not in entry}
    typed = typed_entries(group, to_type)
    name = f"{start}-{digest(typed)[:10]}"
    names[name] += 1
    return Partition(name if names[name] == 1 else f"{name}-{names[name]}", {"urls": typed}), stamps


def with_finished_partitions(
    entries: Iterator[Entry], to_type: Sequence[str], *, target: int, is_finished: Callable[[Partition], bool]
) -> Iterator[Entry | Partition]:
    """The entries; in place of those of a partition that version 0.1.0 finished, that partition.

    It left rejected rows among the others; now these have partitions of their own, so that a line that is inserted
    before them fetches nothing again. Up to the first rejected row both ways to cut are the same, and ``is_finished``
    is not asked. Rows that version 0.1.0 read in another way (of too many or too few columns) are not told here: a
    partition that holds one is fetched once more.
    """
    names = Counter[str]()
    run: list[tuple[Entry, Entry | None]] = []  # of each entry also its form in version 0.1.0
    length, blank, any_refused = 0, 0, False
    for entry in entries:
        old = _old_form(entry)
        if old is None and not run:
            yield entry  # it waits for none before it
            continue
        run.append((entry, old))
        if old is None:
            blank += 1
            if blank > _MAX_BLANK_LINES:  # they are not held in memory for it, and this one is fetched once more
                yield from (waiting for waiting, _ in run)
                run, blank = [], 0
            continue
        length, any_refused = length + 1, any_refused or "refused" in entry
        if ends_run(old["url"], length, target=target):
            yield from _finished_or_entries(run, to_type, names, is_finished if any_refused else None)
            run, length, blank = [], 0, 0
    yield from _finished_or_entries(run, to_type, names, is_finished if any_refused else None)


def _finished_or_entries(
    run: Sequence[tuple[Entry, Entry | None]],
    to_type: Sequence[str],
    names: Counter[str],
    is_finished: Callable[[Partition], bool] | None,
) -> Iterator[Entry | Partition]:
    payload = typed_entries([old for _, old in run if old is not None], to_type) if is_finished else []
    if is_finished and payload:
        host = next((host_of(entry["url"]) for entry in payload if "refused" not in entry), "urls")
        name = f"{host}-{digest(payload)[:10]}"
        names[name] += 1
        partition = Partition(name if names[name] == 1 else f"{name}-{names[name]}", {"urls": payload})
        if is_finished(partition):
            yield partition
            run = [(entry, old) for entry, old in run if old is None]
    yield from (entry for entry, _ in run)


def _old_form(entry: Entry) -> Entry | None:
    """The entry as version 0.1.0 had it; None for an empty line, which it passed over."""
    if "refused" not in entry:
        return entry
    old = {name: value for name, value in entry.items() if name != "line"}
    (reason, detail), line = entry["refused"], entry.get("line", "")
    detail = detail.removeprefix(f"{line}: ")
    if reason == "empty" and line:
        if "record" not in entry:
            return None
        old["url"] = ""
    if reason in ("empty", "bad_url") and line:
        detail = f"row {line.rpartition(':')[2]}: {detail}"
    return old | {"refused": [reason, detail]}


def _json_value(value: object) -> Any:  # Any: JSON
    """A column's value as a JSON value, the same in every run; long texts and lists are cut."""
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
        return [_json_value(element) for element in value[:1000]]
    if isinstance(value, dict):
        return {str(name): _json_value(element) for name, element in value.items()}
    return str(value)
