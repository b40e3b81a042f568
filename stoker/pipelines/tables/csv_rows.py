"""Rows of csv and tsv lists. A missing quote costs its own row, and none of those behind it."""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stoker.pipelines.memory.rows_read import Look
from stoker.pipelines.tables.list_lines import Line

MAX_SPAN = 1000  # lines of one row: of a longer one a quote is missing
_MAX_TRIES = 16  # fields that a line may turn out not to be in, before it begins none of several lines itself
_URL = re.compile(r"\s*https?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CsvRow:
    """The fields of a row, or what is wrong with it; an empty line has neither."""

    number: int  # of its first line
    fields: Sequence[str]
    fault: str = ""
    written: int = 0  # hash of its line; 0: not looked up, or it has several


def tsv_rows(lines: Iterator[Line]) -> Iterator[CsvRow]:
    """A row a line. Quotes are characters like any other: captions begin with them, and no field holds a tab."""
    for line in lines:
        blank = line.fault or not line.text.strip()
        yield CsvRow(line.number, () if blank else line.text.split("\t"), line.fault, line.written)


class CsvRows:
    """The rows of a csv list (RFC 4180); a quoted field may go on over several lines.

    It does where its quote is closed, before a comma or the end of a line, and the row has as many columns as the
    header. It is a fault of its first line if not, and if more than one of the lines inside would by itself be a row
    with a URL in its column: then a quote is missing. The lines behind the first are then read as rows of their own.

    ``columns``, the number of the header's, and ``url_index``, the URL's, are set when the header is known. No line of
    URLs is part of a header. Known lines are passed over where they would be rows of their own.
    """

    def __init__(self, lines: Iterator[Line], *, header: bool = True, look: Look | None = None) -> None:
        self._look = look
        self.columns = 0
        self.url_index = 0
        self._header = header
        self._lines = lines
        self._again: deque[tuple[Line, int]] = deque()  # with the number of fields that they turned out not to be in

    def __iter__(self) -> Iterator[CsvRow]:
        while (following := self._next()) is not None:
            line, tries = following
            if line.is_known:
                continue
            if line.fault or '"' not in line.text:
                blank = line.fault or not line.text.strip()
                yield CsvRow(line.number, () if blank else line.text.split(","), line.fault, line.written)
                continue
            inside: list[tuple[Line, int]] = []
            fault = self._swallow(line, inside, most=MAX_SPAN if tries < _MAX_TRIES else 0)
            if not fault:
                try:
                    texts = [f"{part.text}\n" for part in (line, *(part for part, _ in inside))]
                    fields = next(csv.reader(texts, strict=True))
                    for part, _ in inside:
                        if part.is_known and self._look is not None:
                            self._look.inside(part.written)
                    yield CsvRow(line.number, fields, written=0 if inside else line.written)
                    continue
                except csv.Error as error:
                    fault = f"not CSV: {error}"
            self._again.extendleft((part, tries + 1) for part, tries in reversed(inside))
            yield CsvRow(line.number, (), fault)

    def _next(self) -> tuple[Line, int] | None:
        if self._again:
            return self._again.popleft()
        line = next(self._lines, None)
        return None if line is None else (line, 0)

    def _swallow(self, first: Line, inside: list[tuple[Line, int]], *, most: int) -> str:
        """Collect the lines behind ``first`` that belong to its row, at most so many. What is wrong with it, or ""."""
        is_open, columns, damaged = _scan(first.text, is_open=False)
        url_line = whole_rows = 0
        fault = ""
        while is_open and not damaged and not fault:
            if len(inside) >= most:
                fault = f"its quote is not closed in {most} lines" if most else "a quote is not closed"
            elif (following := self._next()) is None:
                fault = "a quote is not closed"
            else:
                inside.append(following)
                line = following[0]
                is_open, more, damaged = _scan(line.text, is_open=True)
                columns += more
                has_url, is_whole = self._looks_like_row(line.text)
                url_line = url_line or (line.number if has_url else 0)
                whole_rows += is_whole
                if line.fault:
                    return f"its quote is not closed before line {line.number}: {line.fault}"
                if whole_rows > (1 if self.columns or not self._header else 0):
                    fault = "its quote is not closed"
                elif is_open and columns >= self.columns > 0:
                    fault = f"more columns than the first line, which has {self.columns}"
        if damaged and inside:
            fault = f"not CSV: text behind a quote that ends a field, in line {inside[-1][0].number}"
        if url_line and (fault or columns + 1 != self.columns > 0):
            return f"its quote is not closed before line {url_line}, which has a URL of its own"
        return fault

    def _looks_like_row(self, text: str) -> tuple[bool, bool]:
        """Whether a line has a URL in its column, and whether it has as many columns as the header then."""
        try:
            fields = text.split(",") if '"' not in text else next(csv.reader([text]), [])
        except csv.Error:  # too long for a field
            return False, False
        has_url = self.url_index < len(fields) and _URL.match(fields[self.url_index]) is not None
        return has_url, has_url and self.columns in (0, len(fields))


def _scan(text: str, *, is_open: bool) -> tuple[bool, int, bool]:
    """Whether a line ends in an open quote, how many fields end in it before its end, and whether a quote is misplaced.

    ``is_open``: a quoted field goes on from the line before.

    >>> _scan('b",c,"d', is_open=True), _scan('a,b "c"', is_open=False), _scan('"a"b', is_open=False)
    ((True, 2, False), (False, 1, False), (False, 0, True))
    """
    fields = position = 0
    while True:
        if is_open:
            end = text.find('"', position)
            while end >= 0 and text[end + 1 : end + 2] == '"':
                end = text.find('"', end + 2)
            if end < 0:
                return True, fields, False
            is_open, position = False, end + 1
            if text[position : position + 1] not in ("", ","):
                return False, fields, True
        elif text[position : position + 1] == '"':
            is_open, position = True, position + 1
            continue
        comma = text.find(",", position)
        if comma < 0:
            return False, fields, False
        fields, position = fields + 1, comma + 1


def header_indexes(
    header: Sequence[str], names: Sequence[str], on_repeat: Callable[[str], Exception]
) -> dict[str, int]:
    """The index of each name in the header; raises ``on_repeat`` for one that stands there twice."""
    for name in names:
        if header.count(name) > 1:
            raise on_repeat(name)
    return {name: header.index(name) for name in names}
