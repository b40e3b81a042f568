"""Read lists of URLs row by row: txt, csv, tsv and jsonl files, also as .gz, and parquet."""

import codecs
import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.registry import suggestion

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
MAX_LINE = 1 << 20  # characters
MAX_CHECKED_FILES = 100  # whose columns are looked at before a run


@dataclass(frozen=True, slots=True)
class ListRow:
    """One row of a list: its number, its columns by name, or what is wrong with it."""

    number: int  # from 1; of a text file the line number
    values: Mapping[str, Any]  # Any: JSON values, dates and bytes as Parquet has them
    fault: str = ""  # why the row cannot be read


def read_list(path: Path, *, required: Sequence[str], optional: Sequence[str]) -> Iterator[ListRow]:
    """The rows of a list, with the required columns and the optional ones that it has.

    A text list has one column, which gets the first required name; empty lines are skipped. A row that cannot be read
    has a ``fault``. Raises RecipeError for an unknown format or a missing column, SourceBroken for a damaged file.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    gzipped = bool(suffixes) and suffixes[-1] == ".gz"
    kind = suffixes[-2] if gzipped and len(suffixes) > 1 else (suffixes or [""])[-1]
    if kind not in FORMATS or (gzipped and kind == ".parquet"):
        raise RecipeError(f"{path}: unknown kind of list; expected a name that ends in {', '.join(FORMATS)} (or .gz)")
    try:
        if kind == ".parquet":
            yield from _parquet(path, required, optional)
            return
        with _open_text(path, gzipped) as file:
            if kind == ".txt":
                yield from _text(file, required[0])
            elif kind in (".csv", ".tsv"):
                yield from _csv(path, file, "," if kind == ".csv" else "\t", required, optional)
            else:
                yield from _json(file, required, optional)
    except (OSError, EOFError, gzip.BadGzipFile, pa.ArrowException) as error:
        raise SourceBroken(
            f"{path}: cannot be read as {kind[1:]}{'.gz' if gzipped else ''}: {_one_line(error)}"
        ) from error


def _open_text(path: Path, gzipped: bool) -> IO[str]:
    """The file as text: UTF-8, or UTF-16 with a byte order mark. Bytes that are not UTF-8 become lone surrogates."""
    with gzip.open(path) if gzipped else path.open("rb") as file:
        start = file.read(2)
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    if gzipped:
        return gzip.open(path, "rt", encoding=encoding, errors=errors, newline="")
    return path.open("r", encoding=encoding, errors=errors, newline="")


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Numbered lines without their line ends; a line that is too long is cut to MAX_LINE."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        complete = line.endswith("\n") or len(line) < MAX_LINE
        yield number, line.rstrip("\r\n")
        while not complete:
            rest = file.readline(MAX_LINE)
            complete = rest.endswith("\n") or len(rest) < MAX_LINE


def _text(file: IO[str], column: str) -> Iterator[ListRow]:
    for number, line in _lines(file):
        if line.strip():
            yield ListRow(number, {column: line.strip()})


def _csv(
    path: Path, file: IO[str], delimiter: str, required: Sequence[str], optional: Sequence[str]
) -> Iterator[ListRow]:
    reader = csv.reader((line.replace("\0", "") + "\n" for _, line in _lines(file)), delimiter=delimiter)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield ListRow(number, {}, f"line {number}: {error}")
            continue
        if not values:
            continue  # an empty line
        if header is None:
            header = [name.strip() for name in values]
            indexes = {name: header.index(name) for name in _columns_to_read(path, header, required, optional)}
            continue
        columns = {name: values[index] for name, index in indexes.items() if index < len(values)}
        if len(values) > len(header):
            yield ListRow(number, columns, f"line {number}: {len(values)} columns, but the header has {len(header)}")
        else:
            yield ListRow(number, columns)


def _json(file: IO[str], required: Sequence[str], optional: Sequence[str]) -> Iterator[ListRow]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            yield ListRow(number, {}, f"line {number}: not JSON")
            continue
        if isinstance(value, str):
            value = {required[0]: value}
        if isinstance(value, dict):
            yield ListRow(number, {name: value[name] for name in (*required, *optional) if name in value})
        else:
            yield ListRow(number, {}, f"line {number}: neither a JSON object nor a string")


def _parquet(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[ListRow]:
    with pq.ParquetFile(path) as file:
        columns = _columns_to_read(path, file.schema_arrow.names, required, optional)
        number = 0
        for batch in file.iter_batches(batch_size=4096, columns=columns):
            for values in batch.to_pylist():
                number += 1
                yield ListRow(number, values)


def _columns_to_read(path: Path, names: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """The required columns, then the optional ones among ``names``. Raises RecipeError."""
    for name in required:
        if name not in names:
            raise RecipeError(f"{path}: no column is called {name!r}; {suggestion(name, list(names))}")
    return [*required, *(name for name in dict.fromkeys(optional) if name in names and name not in required)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
