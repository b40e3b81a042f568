"""Partitions, one for each video, from the paths, globs, URLs and list files that a recipe names."""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import Any

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory.file_notes import FileNotes
from stoker.pipelines.partition import Partition
from stoker.pipelines.source import Context
from stoker.pipelines.tables.url_lists import MAX_CHECKED_FILES, ListRow, read_list
from stoker.pipelines.web.links import normalise_listed, redact
from stoker.storage.plain_file import describe_missing, open_plain

MAX_TEXT = 300  # characters of a title, an author or another column of a list
_KEY_DIGITS = 16  # hex digits of a key
# Columns of lists that are copied to the record.
_RECORD_COLUMNS = ("title", "licence", "license", "author", "attribution", "label", "caption", "page_url")

Record = dict[str, Any]  # Any: JSON values
Fault = tuple[str, str] | None  # reason and detail
_OUTSIDE = "outside", "a link out of the recipe's folder, which is followed with --trust"


def video_key(identity: str) -> str:
    """The key of a video: a hash of its URL, or of a file's path.

    >>> video_key("https://example.org/garden.webm")
    '6a58ff7d4df39107'
    """
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_DIGITS]


def partitions_from_names(texts: tuple[str, ...], context: Context, notes: FileNotes) -> Iterator[Partition]:
    """The partitions of URLs, paths and globs, in order. Raises RecipeError for a path or glob without a file.

    A partition's payload holds ``identity``, ``url``, ``record`` (from a list), and ``path`` for a file or
    ``refused`` (reason and detail) for a video that cannot be read.
    """
    for text in texts:
        if "://" in text:
            yield _remote(text, {})
            continue
        for path, fault in _files(text, context):
            yield _unusable(path, fault, context.root) if fault else _of_pattern(text, path, context.root, notes)


def check_names(texts: tuple[str, ...], context: Context) -> None:
    """Raise RecipeError for a path or glob without a file, and for a URL that is none. Reads no file."""
    for text in texts:
        if "://" not in text:
            _files(text, context)
            continue
        try:
            normalise_listed(text)
        except ValueError as error:
            raise RecipeError(f"videos: {redact(text)!r}: {error}; expected an http(s) URL or a path") from None


def check_lists(patterns: tuple[str, ...], context: Context, *, column: str) -> None:
    """Raise RecipeError for a path or glob without a list, and for a list without the column."""
    for path in islice(_list_files(patterns, context), MAX_CHECKED_FILES):
        next(read_list(path, required=[column], optional=()), None)


def _files(text: str, context: Context) -> list[tuple[Path, Fault]]:
    """What a path or glob names, each with why it is no video that can be read, or None; of links out the link.

    Folders, and links to folders inside, are passed over. Raises RecipeError if there is no file that can be read.
    """
    found: dict[Path, Fault] = {}
    for path in context.matches(text):
        if context.leaves_root(path):
            found[_link_out(path, context)] = _OUTSIDE
        elif os.path.isfile(path):  # of Path it would raise PermissionError where the folder may not be entered
            found[path] = None
        elif not os.path.isdir(path):
            missing = "a link to nothing" if os.path.islink(path) else "its folder may not be entered"
            found[path] = "unreadable", describe_missing(path, missing)
    if None in found.values():
        return list(found.items())
    context.glob(text)  # which says what to do about a way out
    if context.path(text).is_dir():
        raise RecipeError(f"videos: {text!r} is a folder; name its files, as in {text.rstrip('/') + '/*.mp4'!r}")
    problem = describe_missing(context.path(text), f"no such file in {context.root}; a URL begins with https://")
    raise RecipeError(f"videos: {text!r}: {problem}")


def _link_out(path: Path, context: Context) -> Path:
    """The link by which a path leaves the recipe's folder: the path, or a folder on the way to it."""
    way = [folder for folder in path.parents if folder != context.root and folder.is_relative_to(context.root)]
    return next((folder for folder in reversed(way) if context.leaves_root(folder)), path)


def _list_files(patterns: tuple[str, ...], context: Context) -> Iterator[Path]:
    """The list files. Raises RecipeError for a path or glob without one."""
    for pattern in patterns:
        paths = context.glob(pattern)
        if not paths:
            raise RecipeError(f"lists: {pattern!r}: no such file in {context.root}")
        yield from paths


def partitions_from_lists(
    patterns: tuple[str, ...], context: Context, notes: FileNotes, *, column: str
) -> Iterator[Partition]:
    """The partitions of the rows of list files; a bad row gives a refused one. Raises RecipeError, SourceBroken."""
    for path in _list_files(patterns, context):
        for row in read_list(path, required=[column], optional=_RECORD_COLUMNS):
            yield _from_row(row, path.name, column, context, notes)


def _from_row(row: ListRow, name: str, column: str, context: Context, notes: FileNotes) -> Partition:
    text = str(row.values.get(column) or "").strip()
    record = {key: clean_name(str(row.values[key]))[:MAX_TEXT] for key in _RECORD_COLUMNS if row.values.get(key)}
    if "license" in record:
        record.setdefault("licence", record.pop("license"))
    line = f"{name}:{row.number}"
    if row.fault:
        return _refused(line, record, f"{line}: {row.fault}", reason="bad_row")
    if not text:
        return _refused(line, record, f"{line}: no URL")
    if "://" in text:
        return _remote(text, record)
    path = context.path(text)
    if not os.path.isfile(path):
        return _refused(redact(text), record, "no URL and no file")
    try:
        return _local(path, record, context.root, notes)
    except OSError as error:
        return _refused(redact(text), record, error.strerror or str(error), reason="unreadable")


def _of_pattern(text: str, path: Path, root: Path, notes: FileNotes) -> Partition:
    """The partition of a file that a path or glob names. Raises RecipeError if it is the only one and unreadable."""
    try:
        return _local(path, {}, root, notes)
    except OSError as error:
        if not has_magic(text):
            raise RecipeError(f"videos: {path}: {error.strerror or error}; check its permissions") from None
        return _unusable(path, ("unreadable", error.strerror or str(error)), root)


def _unusable(path: Path, fault: tuple[str, str], root: Path) -> Partition:
    """The partition of a file that cannot be read, by the name that it would have if it could."""
    return _refused(_file_url(path, _within(path, root)), {}, fault[1], reason=fault[0])


def _remote(text: str, record: Record) -> Partition:
    try:
        url = normalise_listed(text)
    except ValueError as error:
        return _refused(redact(text), record, str(error))
    return Partition(_name(url), {"identity": url, "url": url, "record": record}, fingerprint=url)


def _refused(text: str, record: Record, detail: str, *, reason: str = "bad_url") -> Partition:
    payload = {"identity": text, "url": text, "record": record, "refused": [reason, detail]}
    return Partition(_name(text), payload, fingerprint=text)


def _local(path: Path, record: Record, root: Path, notes: FileNotes) -> Partition:
    """A file's partition. Its URL, which goes into records, names no folder outside the recipe's. Raises OSError."""
    sha256 = notes.of("sha256", [path], partial(_sha256, path))
    within = _within(path, root)
    url, location = _file_url(path, within), os.path.abspath(path) if within is None else str(within)
    identity = f"{url}#{sha256}" if within is None else url  # two files outside may have the same name
    payload = {"identity": identity, "url": url, "path": location, "record": record}
    return Partition(_name(identity), payload, fingerprint=sha256)


def _within(path: Path, root: Path) -> Path | None:
    """A path as it is inside the recipe's folder; None if it is not."""
    within = Path(os.path.relpath(os.path.abspath(path), os.path.abspath(root)))
    return None if os.pardir in within.parts or within.is_absolute() else within


def _file_url(path: Path, within: Path | None) -> str:
    return f"file:{clean_name(path.name if within is None else within.as_posix())}"


def _sha256(path: Path) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(identity: str) -> str:
    """A partition's name: the end of its URL or path for people, and its key, which makes it unique."""
    tail = identity.split("#")[0].split("?")[0].rstrip("/").rpartition("/")[2].removeprefix("file:")
    return f"{tail[:60] or 'video'}-{video_key(identity)}"


def clean_name(text: str) -> str:
    """A name or text that any tool can write, with lone surrogates replaced: names and lists may hold any bytes."""
    return text.encode("utf-8", "replace").decode("utf-8")
