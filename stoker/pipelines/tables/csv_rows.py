"""Rows of csv and tsv lists. A missing quote costs its own row, and none of those behind it."""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stoker.pipelines.tables.list_lines import Line

MAX_SPAN = 1000  # lines of one row: of a longer one a quote is missing
_URL = re.compile(r"\s*https?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CsvRow:
    """The fields of a row, or what is wrong with it; an empty line has neither."""

    number: int  # of its first line
    fields: Sequence[str]
    fault: str = ""


def tsv_rows(lines: Iterator[Line]) -> Iterator[CsvRow]:
    """A row a line. Quotes are characters like any other: captions begin with them, and no field holds a tab."""
    for line in lines:
        blank = line.fault or not line.text.strip()
        yield CsvRow(line.number, () if blank else line.text.split("\t"), line.fault)


class CsvRows:
    """The rows of a csv list (RFC 4180); a quoted field may go on over several lines.

    It is a fault of its first line if a quote is not closed, or if one of the lines that it would swallow has a URL in
    the column of the URL (``url_index``, set when the header is known): then a quote is missing. The lines behind the
    first are then read as rows of their own.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self.url_index = 0
        self._lines = lines
        self._again: deque[Line] = deque()

    def __iter__(self) -> Iterator[CsvRow]:
        while (line := self._next()) is not None:
            if line.fault or '"' not in line.text:
                blank = line.fault or not line.text.strip()
                yield CsvRow(line.number, () if blank else line.text.split(","), line.fault)
                continue
            swallowed: list[Line] = []
            fault = self._swallow(line, swallowed)
            if not fault:
                try:
                    fields = next(csv.reader([f"{part.text}\n" for part in (line, *swallowed)], strict=True))
                    yield CsvRow(line.number, fields)
                    continue
                except csv.Error as error:
                    fault = f"not CSV: {error}"
            self._again.extendleft(reversed(swallowed))
            yield CsvRow(line.number, (), fault)

    def _next(self) -> Line | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def _swallow(self, first: Line, swallowed: list[Line]) -> str:
        """Collect the lines that belong to the row of ``first``. What is wrong with it, or ""."""
        _, inside = _quoted_start(first.text, inside=False)
        while inside:
            line = self._next()
            if line is None:
                return "a quote is not closed"
            swallowed.append(line)
            if line.fault:
                return f"its quote is not closed before line {line.number}: {line.fault}"
            quoted, inside = _quoted_start(line.text, inside=True)
            if self._has_url(quoted):
                return f"its quote is not closed before line {line.number}, which has a URL of its own"
            if len(swallowed) > MAX_SPAN:
                return f"its quote is not closed in {MAX_SPAN} lines"
        return ""

    def _has_url(self, text: str) -> bool:
        fields = text.split(",") if '"' not in text else next(csv.reader([text]), [])
        return self.url_index < len(fields) and _URL.match(fields[self.url_index]) is not None


def _quoted_start(text: str, *, inside: bool) -> tuple[str, bool]:
    """What of a line belongs to a quoted field that began before it, and whether the line ends in a quoted field.

    >>> _quoted_start('b",c,"d', inside=True), _quoted_start('a,b "c"', inside=False)
    (('b', True), ('', False))
    """
    quoted = text if inside else ""
    began_before = inside
    position = 0
    while True:
        if inside:
            end = text.find('"', position)
            while end >= 0 and text[end + 1 : end + 2] == '"':
                end = text.find('"', end + 2)
            if end < 0:
                return quoted, True
            if began_before:
                quoted, began_before = text[:end], False
            inside, position = False, end + 1
        elif text[position : position + 1] == '"':
            inside, position = True, position + 1
            continue
        comma = text.find(",", position)
        if comma < 0:
            return quoted, False
        position = comma + 1


def header_indexes(
    header: Sequence[str], names: Sequence[str], on_repeat: Callable[[str], Exception]
) -> dict[str, int]:
    """The index of each name in the header; raises ``on_repeat`` for one that stands there twice."""
    for name in names:
        if header.count(name) > 1:
            raise on_repeat(name)
    return {name: header.index(name) for name in names}
