"""Texts in the rows of CSV files."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import OutcomeClass, Reason, Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.storage.shards.sample import Sample

_MAX_FIELD = 1 << 24  # characters of one field; Python's own limit is 131,072
_HEADER = 1 << 16  # bytes in which the header of a file ends


@dataclass(frozen=True)
class CsvTexts(Source):
    """A sample a row of the CSV files that ``files`` names, a glob.

    ``text`` is the column of the text, ``key`` one whose values tell the rows apart; without it a row is known by its
    content. ``columns`` go to the record under their names. Files are UTF-8, with a header; commas, semicolons and tabs
    are told apart by the header. A row is rejected if it has too few or too many fields (``ragged_row``), no text
    (``empty``) or a text over ``max_characters`` (``too_long``), if it is not UTF-8 (``not_utf8``), and if it repeats
    an earlier row of its file (``duplicate_key``). A file is a partition; one over ``max_megabytes`` stops the run.

    Example::

        [source]
        name = "csv_texts"
        files = "data/*.csv"
        text = "body"
        columns = ["author", "title"]
    """

    planning: ClassVar[frozenset[str]] = frozenset({"files"})
    path_options: ClassVar[frozenset[str] | None] = frozenset({"files"})
    # A reject depends on the recipe unless its reason says what else it depends on.
    reasons: ClassVar[Mapping[str, str | Reason]] = {
        "ragged_row": Reason("not as many fields as the header has", OutcomeClass.BYTES)
    }

    files: str
    text: str = "text"
    key: str = ""
    columns: tuple[str, ...] = ()
    licence: str = ""
    max_characters: Annotated[int, Field(ge=1, le=_MAX_FIELD)] = 1_000_000
    max_megabytes: Annotated[int, Field(ge=1)] = 256

    def check(self, context: Context) -> None:
        """See Source: `stoker check` asks, so that a missing file or column is told before a run."""
        for path in self._paths(context)[:100]:
            beginning = _read(path, _HEADER)
            self._rows(path.name, io.StringIO(beginning.decode("utf-8-sig", "surrogateescape"), newline=""))

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source."""
        for path in self._paths(context):
            name = path.relative_to(context.root).as_posix()
            # The digest of the content: a file that changes is read again, and no other.
            yield Partition(name, {"file": name}, hashlib.sha256(self._content(path)).hexdigest())

    def _paths(self, context: Context) -> list[Path]:
        """The files. Raises RecipeError if there are none, or some lead out of the recipe's folder."""
        if not self.files or Path(self.files).is_absolute():
            raise RecipeError(
                f"source 'csv_texts': files {self.files!r}: expected a glob relative to the recipe's folder"
            )
        paths = [path for path in context.glob(self.files) if path.is_file()]
        if not paths:
            raise RecipeError(
                f"source 'csv_texts': files {self.files!r}: no files in {context.root}; expected CSV files"
            )
        return paths

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        name = partition.payload["file"]
        content = self._content(context.path(name))
        if hashlib.sha256(content).hexdigest() != partition.fingerprint:
            raise SourceBroken(f"{name}: it has changed since the work was planned; run the same command again")
        # Bytes that are not UTF-8 become single surrogates, so that their row alone is rejected.
        lines = io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline="")
        header, rows = self._rows(name, lines)
        known: Counter[str] = Counter()
        for row in rows:
            yield self._candidate(name, header, row, known)

    def _content(self, path: Path) -> bytes:
        limit = self.max_megabytes << 20
        content = _read(path, limit + 1)
        if len(content) > limit:
            raise SourceBroken(f"{path}: more than max_megabytes = {self.max_megabytes}; raise it, or split the file")
        return content

    def _rows(self, name: str, lines: io.StringIO) -> tuple[list[str], Iterator[list[str]]]:
        """The header, and the rows behind it that are not blank. Raises RecipeError for a column that is not there."""
        first = lines.readline()
        lines.seek(0)
        delimiter = max(",;\t", key=first.count)  # the first of them where none is there
        csv.field_size_limit(_MAX_FIELD)
        reader = csv.reader(lines, delimiter=delimiter)
        header = next(reader, [])
        for column in filter(None, (self.text, self.key, *self.columns)):
            if column not in header:
                raise RecipeError(
                    f"source 'csv_texts': {name} has no column {column!r}; it has: {', '.join(header) or 'none'}"
                )
        return header, _parsed(name, reader)

    def _candidate(self, name: str, header: list[str], row: list[str], known: Counter[str]) -> Candidate:
        """The row as a sample, or why it is none."""
        values = dict(zip(header, row, strict=False))
        text = values.get(self.text, "")
        identity = values.get(self.key) or "\0".join(row)
        known[identity] += 1
        times = known[identity]
        # A row that repeats another has a key of its own, so that both are found in the records.
        whole = "\0".join([name, identity, *([str(times)] if times > 1 else [])])
        key = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        record: dict[str, Any] = {"url": f"file:{name}", "group": key}
        record |= {column: _printable(values.get(column, "")) for column in self.columns}
        if self.licence:
            record["licence"] = self.licence
        rejected = self._refusal(header, row, text, times)
        return Candidate(Sample(key, {} if rejected else {"txt": text.encode()}, record), rejected)

    def _refusal(self, header: list[str], row: list[str], text: str, times: int) -> Rejected | None:
        if len(row) != len(header):
            return Rejected("ragged_row", f"{len(row)} fields, the header has {len(header)}")
        if _printable("".join(row)) != "".join(row):
            return Rejected("not_utf8")
        if not text.strip():
            return Rejected("empty", f"column {self.text!r}")
        if len(text) > self.max_characters:
            return Rejected("too_long", f"{len(text)} characters, expected at most {self.max_characters}")
        return Rejected("duplicate_key", "an earlier row of the file is the same one") if times > 1 else None


def _read(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise SourceBroken(f"{path}: cannot be read: {error.strerror}; check that it is there") from error


def _parsed(name: str, reader: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise SourceBroken(f"{name}: no CSV: {error}; mend the file") from error


def _printable(text: str) -> str:
    """The text with a mark in place of each byte that was not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
