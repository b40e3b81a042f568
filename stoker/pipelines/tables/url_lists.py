"""Lists of URLs in files: txt, csv, tsv, jsonl and parquet, the first four also as .gz; row by row, never whole."""

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


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list: its number (lines for text, from 1), its columns by name, or what is wrong with it."""

    number: int
    values: Mapping[str, Any]  # Any: JSON values, dates and bytes as Parquet has them
    fault: str = ""


def rows(path: Path, *, needed: Sequence[str], wished: Sequence[str]) -> Iterator[Row]:
    """The rows of a list, with the needed columns and those of the wished ones that are there.

    A text list has one column, the first of those needed; its empty lines are no rows. A row that cannot be read has
    a fault. Raises RecipeError for an unknown format or a missing column, SourceBroken for a file that is no such
    list.
    """
    suffixes = [one.lower() for one in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = suffixes[-2] if packed and len(suffixes) > 1 else (suffixes or [""])[-1]
    if kind not in FORMATS or (packed and kind == ".parquet"):
        raise RecipeError(f"{path}: unknown kind of list; expected a name that ends in {', '.join(FORMATS)} (or .gz)")
    try:
        if kind == ".parquet":
            yield from _parquet(path, needed, wished)
            return
        with _opened(path, packed) as file:
            if kind == ".txt":
                yield from _text(file, needed[0])
            elif kind in (".csv", ".tsv"):
                yield from _csv(path, file, "," if kind == ".csv" else "\t", needed, wished)
            else:
                yield from _json(file, needed, wished)
    except (OSError, EOFError, gzip.BadGzipFile, pa.ArrowException) as error:
        raise SourceBroken(
            f"{path}: cannot be read as {kind[1:]}{'.gz' if packed else ''}: {_one_line(error)}"
        ) from error


def _opened(path: Path, packed: bool) -> IO[str]:
    """The file as text: UTF-8, or UTF-16 with its mark. Bytes that are neither come as lone surrogates."""
    with gzip.open(path) if packed else path.open("rb") as file:
        start = file.read(2)
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    if packed:
        return gzip.open(path, "rt", encoding=encoding, errors=errors, newline="")
    return path.open("r", encoding=encoding, errors=errors, newline="")


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; of one that is too long, the beginning."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        whole = line.endswith("\n") or len(line) < MAX_LINE
        yield number, line.rstrip("\r\n")
        while not whole:
            rest = file.readline(MAX_LINE)
            whole = rest.endswith("\n") or len(rest) < MAX_LINE


def _text(file: IO[str], column: str) -> Iterator[Row]:
    for number, line in _lines(file):
        if line.strip():
            yield Row(number, {column: line.strip()})


def _csv(path: Path, file: IO[str], delimiter: str, needed: Sequence[str], wished: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader((line.replace("\0", "") + "\n" for _, line in _lines(file)), delimiter=delimiter)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(number, {}, f"line {number}: {error}")
            continue
        if not values:
            continue  # an empty line
        if header is None:
            header = [name.strip() for name in values]
            places = {name: header.index(name) for name in _present(path, header, needed, wished)}
            continue
        found = {name: values[place] for name, place in places.items() if place < len(values)}
        if len(values) > len(header):
            yield Row(number, found, f"line {number}: {len(values)} columns, but the header has {len(header)}")
        else:
            yield Row(number, found)


def _json(file: IO[str], needed: Sequence[str], wished: Sequence[str]) -> Iterator[Row]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            yield Row(number, {}, f"line {number}: not JSON")
            continue
        if isinstance(value, str):
            value = {needed[0]: value}
        if isinstance(value, dict):
            yield Row(number, {name: value[name] for name in (*needed, *wished) if name in value})
        else:
            yield Row(number, {}, f"line {number}: neither a JSON object nor a string")


def _parquet(path: Path, needed: Sequence[str], wished: Sequence[str]) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        columns = _present(path, file.schema_arrow.names, needed, wished)
        number = 0
        for batch in file.iter_batches(batch_size=4096, columns=columns):
            for values in batch.to_pylist():
                number += 1
                yield Row(number, values)


def _present(path: Path, names: Sequence[str], needed: Sequence[str], wished: Sequence[str]) -> list[str]:
    for name in needed:
        if name not in names:
            raise RecipeError(f"{path}: no column is called {name!r}; {suggestion(name, list(names))}")
    return [*needed, *(name for name in dict.fromkeys(wished) if name in names and name not in needed)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
