"""Files that describe those beside them: captions in .txt, columns of the record in .json, and tables.

A table is metadata.csv, .jsonl or .parquet with a column ``file_name``. And how such files are found, in a folder.
"""

import codecs
import json
import math
import os
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.tables.record_names import MAX_COLUMNS, MAX_VALUE, is_fit, record_name, visible
from stoker.pipelines.tables.text_types import TextTypes
from stoker.pipelines.tables.url_lists import (
    JSON_LIST,
    ListRow,
    ListSyntax,
    column_names,
    has_types,
    json_names,
    read_list,
)
from stoker.pipelines.tables.values import is_too_deep, json_value, text_of
from stoker.storage.strict_json import parse_json

FILE_COLUMN = "file_name"
NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # as Hugging Face's imagefolder calls them
_OTHERS = (".csv", ".tsv", ".jsonl", ".parquet")  # names of tables that a folder may hold beside its files
_MAX_HINTS = 3
_MAX_ROWS = 5_000_000
_MAX_NAMED_ROWS = 1000  # of a jsonl table whose keys are looked at
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


@dataclass(frozen=True, slots=True)
class FolderRow:
    """A row of a table: the file that it describes, or what is wrong with it."""

    table: str  # relative to the source's folder, as ``path``
    number: int
    path: str
    values: str  # JSON: a text takes a tenth of the memory of its values
    fault: str = ""

    @property
    def line(self) -> str:
        """The row's place, such as "cats/metadata.csv:7"."""
        return f"{self.table}:{self.number}"


class FolderTables:
    """What the tables of a folder say of its files; of several rows for a file the first counts.

    All rows are in memory, as JSON text. Raises RecipeError, SourceBroken.
    """

    def __init__(self, base: Path, paths: Iterable[str], encoding: str) -> None:
        self.columns: dict[str, list[str]] = {}  # of each table
        self.bad_rows: list[FolderRow] = []
        self._rows: dict[str, FolderRow] = {}
        for path in paths:
            if PurePosixPath(path).name in NAMES and (columns := _columns(base, path, encoding)):
                self.columns[path] = columns
                for row in _read_table(base, path, columns, encoding):
                    self._add(base, row)

    def typed(self, paths: Iterable[str]) -> dict[str, list[Any]]:  # Any: JSON
        """Line and values of the rows of these files. Values of csv have the types that all of these rows allow."""
        rows = [row for path in paths if (row := self._rows.get(path)) is not None]
        types, values = TextTypes(), [json.loads(row.values) for row in rows]
        for row, named in zip(rows, values, strict=True):
            types.add(named, is_typed=has_types(Path(row.table)))
        return {
            row.path: [row.line, named if has_types(Path(row.table)) else types.typed(named)]
            for row, named in zip(rows, values, strict=True)
        }

    def values(self, path: str) -> str:
        """What the row of a file says, as JSON text; "" if there is none."""
        return row.values if (row := self._rows.get(path)) else ""

    def describe(self, files: Iterable[str]) -> Iterator[str]:
        """What `stoker check` says of the tables, of rows without a file, and of other tables among the files."""
        for path, columns in self.columns.items():
            named = ", ".join(visible(name) for name in columns if name != FILE_COLUMN)
            yield f"{visible(path)}, for the files that {FILE_COLUMN} names: {named or 'no other column'}"
        if self.bad_rows:
            first = self.bad_rows[0]
            more = f" (and {len(self.bad_rows) - 1:,} more rows)" if len(self.bad_rows) > 1 else ""
            yield f"not read: {visible(first.line)}: {visible(first.fault)}{more}"
        others = (path for path in files if path not in self.columns and path.lower().endswith(_OTHERS))
        for path in islice(others, _MAX_HINTS):
            yield (
                f"not read: {visible(path)}: if it describes the files, call it {NAMES[0]} (or .jsonl, .parquet), "
                f"with their paths in a column {FILE_COLUMN}; its column label is their label"
            )

    def _add(self, base: Path, row: FolderRow) -> None:
        fault = row.fault
        if not fault and row.path in self._rows:
            fault = f"{self._rows[row.path].line} names the same file"
        elif not fault and not os.path.lexists(base / row.path):
            fault = f"there is no file {row.path}"
        if fault:
            self.bad_rows.append(replace(row, fault=fault))
        else:
            self._rows[row.path] = row


def _columns(base: Path, path: str, encoding: str) -> list[str]:
    """The columns of a table that describes files; none if the file is no such table.

    It is one by its name and its column ``file_name``; a link that leads out of the folder is none.
    """
    full, syntax = base / path, ListSyntax(encoding=encoding)
    if not full.resolve().is_relative_to(base.resolve()) or not full.is_file() or not full.stat().st_size:
        return []
    names = column_names(full, syntax)
    if JSON_LIST.search(path):
        rows = islice(json_names(full, syntax), _MAX_NAMED_ROWS)
        names = list(islice(dict.fromkeys(name for row in rows for name in row), MAX_COLUMNS))
    return names if FILE_COLUMN in names else []


def _read_table(base: Path, path: str, columns: Collection[str], encoding: str) -> Iterator[FolderRow]:
    optional = [name for name in columns if name != FILE_COLUMN]
    syntax = ListSyntax(encoding=encoding)
    for row in read_list(base / path, required=[FILE_COLUMN], optional=optional, syntax=syntax):
        if row.number > _MAX_ROWS:
            raise RecipeError(f"{base / path}: more than {_MAX_ROWS:,} rows; divide the folder, with a table in each")
        if row.values or row.fault:  # no empty line
            yield _folder_row(path, row)


def _folder_row(table: str, row: ListRow) -> FolderRow:
    name = row.values.get(FILE_COLUMN)
    if row.fault or not isinstance(name, str) or not name.strip():
        return FolderRow(table, row.number, "", "", row.fault or f"no {FILE_COLUMN}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(table), name.strip()))
    if path.startswith(("/", "../")) or path == "..":
        return FolderRow(table, row.number, "", "", f"{FILE_COLUMN} {name!r} leads out of the folder")
    values = {
        key: json_value(value)
        for key, value in row.values.items()
        if key != FILE_COLUMN and value not in (None, "") and not is_too_deep(value)
    }
    return FolderRow(table, row.number, path, json.dumps(values, ensure_ascii=False))


def walk(base: Path) -> Iterator[str]:
    """The paths of all files below, without hidden ones; links to folders are listed like files, not followed."""
    for folder, folders, files in os.walk(base):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        for name in sorted((*files, *links)):
            if not name.startswith("."):
                yield relative_path(base, Path(folder) / name)


def walk_matches(base: Path, pattern: str) -> Iterator[str]:
    """The files that a source reads, in no order of their paths, and without a list of all."""
    if not pattern:
        yield from walk(base)
        return
    for path in base.glob(pattern):
        name = relative_path(base, path)
        is_hidden = any(part.startswith(".") for part in name.split("/"))
        behind_link = any(
            parent.is_symlink() for parent in path.parents if parent.is_relative_to(base) and parent != base
        )
        if not is_hidden and not behind_link and (path.is_symlink() or path.is_file()):
            yield name


def any_case(pattern: str) -> str:
    """The glob for names in upper and lower case."""
    parts = re.split(r"(\[[^]]*\])", pattern)
    return "".join(
        part
        if index % 2
        else re.sub(r"[a-z]", lambda letter: f"[{letter[0].lower()}{letter[0].upper()}]", part, flags=re.I)
        for index, part in enumerate(parts)
    )


def relative_path(base: Path, path: Path) -> str:
    """A path as it is told, recorded and compared: below the folder, with slashes."""
    return path.relative_to(base).as_posix()
