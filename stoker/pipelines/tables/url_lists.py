"""Read lists of URLs row by row: txt, csv, tsv, json, jsonl (also as .gz, .bz2 or .zst) and parquet."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.pipelines.errors import RecipeError, SourceBroken, as_broken_source, one_line
from stoker.pipelines.memory.rows_read import Look
from stoker.pipelines.registry import suggestion
from stoker.pipelines.tables.csv_rows import CsvRow, CsvRows, header_indexes, tsv_rows
from stoker.pipelines.tables.json_array import NotAnArray, json_elements
from stoker.pipelines.tables.list_lines import COMPRESSIONS, Line, check_encoding, is_unicode, open_list, read_lines
from stoker.pipelines.tables.row_batches import Row, Unreadable, batch_rows, doubled_name, open_parquet, rows_of
from stoker.pipelines.tables.values import MAX_DEPTH
from stoker.storage.plain_file import check_plain
from stoker.storage.strict_json import parse_json

FORMATS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
JSON_LIST = re.compile(r"\.(json|jsonl|ndjson)(\.[a-z0-9]+)?$", re.IGNORECASE)  # names of lists of any columns
_BLANK = object()  # in the place of a row's value: an empty line
_BATCH_ROWS = 4096  # of parquet, at most
MAX_CHECKED_FILES = 100  # whose columns are looked at before a run


class ListRow(NamedTuple):  # quicker to make than a dataclass
    """One row of a list: its number, its columns by name, or what is wrong with it."""

    number: int  # from 1: of a text file the line, of json and parquet the element or row
    values: Mapping[str, Any]  # Any: JSON values, dates and bytes as Parquet has them
    fault: str = ""  # why the row cannot be read
    written: int = 0  # hash of its line; 0: not looked up, or it has not one line of its own


@dataclass(frozen=True, slots=True)
class ListSyntax:
    """How text lists are written.

    Args:
        header: csv and tsv begin with a line of names; without it columns are called "1", "2" and so on.
        encoding: of text without a byte order mark.
    """

    header: bool = True
    encoding: str = "utf-8"


def read_list(
    path: Path,
    *,
    required: Sequence[str],
    optional: Sequence[str],
    syntax: ListSyntax = ListSyntax(),
    look: Look | None = None,
) -> Iterator[ListRow]:
    """The rows of a list, with the required columns and the optional ones that it has; the first is that of the URL.

    Each line is a row, also an empty one, but for the header and for lines inside a quoted field. A text list has one
    column, which gets the first required name. A row that cannot be read has a ``fault``. Of text lists, but for .json,
    ``look`` says which lines are known: these are passed over, see ``read_lines``. Raises RecipeError for an
    unknown format, encoding or column, SourceBroken for a damaged file and for one of 0 bytes: most likely it was never
    written.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    kind = suffixes[-1] if suffixes else ""
    if kind not in FORMATS or (packed and kind == ".parquet"):
        ends = f"{', '.join(FORMATS)} (text also with {', '.join(COMPRESSIONS)})"
        raise RecipeError(f"{path}: unknown kind of list; expected a name that ends in {ends}")
    check_encoding(syntax.encoding)
    with _broken_source_errors(path):
        if kind == ".parquet":
            yield from _parquet(path, required, optional)
            return
        with open_list(path) as file:
            if kind == ".json":
                values = _json_array(path, file, syntax)
                yield from (_json_row(number, value, required, optional) for number, value in values)
                return
            lines = read_lines(file, encoding=syntax.encoding, look=look, keeps_known=kind == ".csv")
            lines = _not_empty(path, lines, kind, syntax)
            if kind == ".txt":
                yield from (
                    ListRow(line.number, {required[0]: line.text.strip()}, line.fault, line.written) for line in lines
                )
            elif kind in (".csv", ".tsv"):
                yield from _table(path, lines, kind, required, optional, syntax, look)
            else:
                for line in lines:
                    value, fault = _json_line(line)
                    blank = fault or value is _BLANK
                    if blank:
                        yield ListRow(line.number, {}, fault)
                    else:
                        yield _json_row(line.number, value, required, optional)._replace(written=line.written)


def _broken_source_errors(path: Path) -> AbstractContextManager[None]:
    kind = "".join(suffix.lower() for suffix in path.suffixes[-2:] if suffix.lower() in (*FORMATS, *COMPRESSIONS))
    return as_broken_source(path, f"cannot be read as {kind[1:]}", OSError, EOFError, zlib.error, pa.ArrowException)


def column_names(path: Path, syntax: ListSyntax) -> list[str]:
    """The names of the columns of a csv, tsv or parquet list that ``read_list`` reads; none for other kinds.

    Raises RecipeError and SourceBroken as ``read_list`` does.
    """
    kind = _kind(path)
    if kind not in (".csv", ".tsv", ".parquet"):
        return []
    check_encoding(syntax.encoding)
    with _broken_source_errors(path):
        if kind == ".parquet":
            check_plain(path)
            return list(pq.read_schema(path).names)
        with open_list(path) as file:
            lines = read_lines(file, encoding=syntax.encoding)
            rows = iter(CsvRows(lines, header=syntax.header)) if kind == ".csv" else tsv_rows(lines)
            first = next((row for row in rows if row.fields or row.fault), None)
    return _header(path, first, syntax) if first is not None else []


def _kind(path: Path) -> str:
    """The suffix that tells the format, in lower case; it may stand before one of a compression."""
    return next((suffix.lower() for suffix in reversed(path.suffixes) if suffix.lower() not in COMPRESSIONS), "")


def has_types(path: Path) -> bool:
    """Whether the values of a list have types: those of json and parquet do, those of csv, tsv and txt are text."""
    return _kind(path) not in (".csv", ".tsv", ".txt")


def json_names(path: Path, syntax: ListSyntax) -> Iterator[Iterable[str]]:
    """The names that each row of a json or jsonl list has; of one that cannot be read none."""
    with _broken_source_errors(path), open_list(path) as file:
        if _kind(path) == ".json":
            values = (value for _, value in _json_array(path, file, syntax))
        else:
            values = (_json_line(line)[0] for line in read_lines(file, encoding=syntax.encoding))
        yield from (value if isinstance(value, dict) else () for value in values)


def _table(
    path: Path,
    lines: Iterator[Line],
    kind: str,
    required: Sequence[str],
    optional: Sequence[str],
    syntax: ListSyntax,
    look: Look | None,
) -> Iterator[ListRow]:
    """The rows of a csv or tsv list."""
    quoted = CsvRows(lines, header=syntax.header, look=look) if kind == ".csv" else None
    indexes: dict[str, int] | None = None
    columns = 0
    for row in quoted if quoted is not None else tsv_rows(lines):
        if indexes is None and (row.fields or row.fault):
            header = _header(path, row, syntax)
            columns = len(header)
            names = _columns_to_read(path, header, required, optional, syntax)
            indexes = header_indexes(header, names, lambda name: _two_columns(path, name))
            if quoted is not None:
                quoted.url_index, quoted.columns = indexes[required[0]], columns
            if syntax.header:
                continue
        if row.fault or not row.fields or indexes is None:
            yield ListRow(row.number, {}, row.fault)
            continue
        values = {name: row.fields[index] for name, index in indexes.items() if index < len(row.fields)}
        matches = len(row.fields) <= columns and len(values) == len(indexes)
        fault = "" if matches else f"{len(row.fields)} columns, but the first line has {columns}"
        yield ListRow(row.number, values, fault, row.written)


def _not_empty(path: Path, lines: Iterator[Line], kind: str, syntax: ListSyntax) -> Iterator[Line]:
    """The lines. Raises SourceBroken if there is none."""
    first = next(lines, None)
    if first is None:
        names = kind in (".csv", ".tsv") and syntax.header
        raise SourceBroken(f"{path}: 0 bytes; expected {'a line of names' if names else 'rows'}")
    yield first
    yield from lines


def _header(path: Path, row: CsvRow, syntax: ListSyntax) -> list[str]:
    """The names of the columns. Raises SourceBroken if the first row cannot be read."""
    if row.fault:
        raise SourceBroken(f"{path}: line {row.number}, which says what columns there are: {row.fault}")
    if syntax.header:
        return [name.strip() for name in row.fields]
    return [str(number) for number in range(1, len(row.fields) + 1)]


def _json_line(line: Line) -> tuple[Any, str]:  # Any: JSON
    """The value of a line and what is wrong with it; _BLANK for an empty one."""
    if line.fault or not line.text.strip():
        return _BLANK, line.fault
    try:
        return parse_json(line.text), ""
    except (ValueError, RecursionError) as error:
        return _BLANK, f"not JSON: {one_line(error)}"


def _json_array(path: Path, file: BinaryIO, syntax: ListSyntax) -> Iterator[tuple[int, Any]]:  # Any: JSON
    """The elements of a .json file. Raises SourceBroken: behind a fault, nothing tells where an element begins."""
    try:
        yield from enumerate(json_elements(file, encoding=syntax.encoding), 1)
    except NotAnArray as error:
        raise SourceBroken(f"{path}: {one_line(error)}") from None


def _json_row(number: int, value: object, required: Sequence[str], optional: Sequence[str]) -> ListRow:
    if isinstance(value, str):
        value = {required[0]: value}
    if not isinstance(value, dict):
        return ListRow(number, {}, "neither a JSON object nor a string")
    values = {name: value[name] for name in (*required, *optional) if name in value}
    return _checked(number, values)


def _checked(number: int, values: Row) -> ListRow:
    """The row, with a fault for texts that are not Unicode and for lists within lists without end, at any depth."""
    open_values: list[tuple[object, int]] = [(value, 0) for value in values.values()]
    while open_values:
        value, depth = open_values.pop()
        if isinstance(value, str):
            if not is_unicode(value):
                return ListRow(number, {}, "half a character of UTF-16 (a lone surrogate)")
        elif isinstance(value, dict | list | tuple):
            if depth == MAX_DEPTH:
                return ListRow(number, {}, f"lists or objects within each other, more than {MAX_DEPTH} deep")
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            open_values += [(element, depth + 1) for element in inner]
    return ListRow(number, values)


def _parquet(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[ListRow]:
    check_plain(path)
    schema = pq.read_schema(path)
    columns = _columns_to_read(path, schema.names, required, optional, ListSyntax())
    doubled = doubled_name([field for field in schema if field.name in columns])
    if doubled:
        raise _two_columns(path, doubled)
    with open_parquet(path, columns) as file:
        number = 0
        for group in range(file.num_row_groups):
            rows = batch_rows(file, group, _BATCH_ROWS, columns)
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
                for values in rows_of(batch):
                    number += 1
                    yield _parquet_row(number, values)


def _parquet_row(number: int, values: Row) -> ListRow:
    for name, value in values.items():
        if isinstance(value, Unreadable):
            return ListRow(number, {}, f"column {name}: {value.detail}")
    return _checked(number, {name: _text_of_bytes(value) for name, value in values.items()})


def _text_of_bytes(value: object) -> object:
    """Text where bytes are text: Hive, Impala and older Spark write text as columns of bytes."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    return value


def _two_columns(path: Path, name: str) -> RecipeError:
    return RecipeError(f"{path}: two columns are called {name!r}")


def _columns_to_read(
    path: Path, names: Sequence[str], required: Sequence[str], optional: Sequence[str], syntax: ListSyntax
) -> list[str]:
    """The required columns, then the optional ones among ``names``. Raises RecipeError."""
    for name in required:
        if name not in names:
            hint = suggestion(name, list(names))
            if not syntax.header:
                hint = f'without a header columns are called "1" to "{len(names)}"'
            elif any("://" in field for field in names):
                hint = 'its first line is no header: set header = false and url_column = "1", or the number that it has'
            raise RecipeError(f"{path}: no column is called {name!r}; {hint}")
    return [*required, *(name for name in dict.fromkeys(optional) if name in names and name not in required)]
