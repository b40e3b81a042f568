"""Elements of a JSON array one by one, in bounded memory and linear time, from a file of any length."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from stoker.storage.strict_json import unique_object

MAX_ELEMENT = 4 << 20  # characters: ``[],`` many times is 20 times as many bytes in memory
_READ_SIZE = 1 << 18  # bytes
_OPEN = 16  # characters: a fault so near to the end of what is read may be a value that goes on
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=[^ \t\n\r])")
_MARKS = {  # those of UTF-32 first: one begins like one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}


class NotAnArray(ValueError):
    """A file that holds no JSON array, and where that shows."""


def json_elements(file: BinaryIO, *, encoding: str) -> Iterator[Any]:  # Any: JSON
    """The elements of the array; a byte order mark decides over ``encoding``.

    Raises NotAnArray where the fault is, behind the elements before it: nothing tells where the next one begins.
    """
    window = _Window(file, encoding)
    if window.next_character() != "[":
        raise window.not_an_array()
    window.at += 1
    if window.next_character() == "]":
        window.at += 1
    else:
        yield from _elements(window)
    if window.next_character():
        raise window.fault("Extra data")


def _elements(window: "_Window") -> Iterator[Any]:  # Any: JSON
    """The elements of an array that is not empty; the window is behind its end then."""
    while True:
        window.number += 1
        yield window.value()
        comma = _COMMA.match(window.text, window.at)
        if comma:
            window.at = comma.end()
            continue
        following = window.next_character()
        if following not in (",", "]"):
            raise window.fault("Expecting ',' or ']'")
        window.at += 1
        if following == "]":
            return
        window.next_character()


class _Window:
    """A part of a text in memory, and the place in it up to which it was read."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        start = file.read(_READ_SIZE)
        mark = next((mark for mark in _MARKS if start.startswith(mark)), b"")
        self.encoding = _MARKS.get(mark, encoding)
        if not mark and b"\0" in start[:4]:
            raise NotAnArray("UTF-16 or UTF-32 without a byte order mark; save it as UTF-8, or with one")
        # Half a character of UTF-16 costs the row that it is in.
        errors = "surrogatepass" if self.encoding in ("utf-16", "utf-32") else "strict"
        self._decoder = codecs.getincrementaldecoder(self.encoding)(errors)
        self._file = file
        self._scan = json.JSONDecoder(object_pairs_hook=unique_object).raw_decode
        self._line = self._column = 0  # before the text
        self._bytes = len(mark) if mark == codecs.BOM_UTF8 else 0  # before what is read next
        self._at_end = False
        self.text, self.at = "", 0
        self.number = 0  # of the element
        self._add(start[self._bytes :])

    def next_character(self) -> str:
        """The next one that is no white space, where the window is then; "" behind the last."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if self._at_end:
                return ""
            self._read_on(_READ_SIZE)

    def value(self) -> Any:  # Any: JSON
        """The value that begins here; the window is behind it then."""
        while True:
            try:
                value, end = self._scan(self.text, self.at)
            except RecursionError:
                raise self.fault("lists or objects within each other, too deep") from None
            except ValueError as error:
                self._raise_unless_open(error)
            else:
                if end - self.at > MAX_ELEMENT:
                    raise self._too_long()
                # A number may go on behind the text that is read; what is in brackets or quotes is complete.
                if self._at_end or self.text[self.at] in '{["' or self.text[end : end + 1] in tuple(",] \t\r\n"):
                    self.at = end
                    return value
                if len(self.text) - self.at > MAX_ELEMENT:
                    raise self._too_long()
            read = len(self.text) - self.at
            self._read_on(max(_READ_SIZE, min(read, MAX_ELEMENT - read)))  # twice as much each time: linear in all

    def _raise_unless_open(self, error: ValueError) -> None:
        """Raise unless the value may go on behind the text."""
        at = error.pos if isinstance(error, json.JSONDecodeError) else self.at
        message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        is_open = message.startswith("Unterminated string") or at > len(self.text) - _OPEN
        if self._at_end or not (is_open or not isinstance(error, json.JSONDecodeError)):
            raise self.fault(message, at) from None
        if len(self.text) - self.at > MAX_ELEMENT:
            raise (self._too_long() if is_open else self.fault(message, at)) from None

    def _read_on(self, size: int) -> None:
        """Leave out the text up to here and read so many bytes more."""
        lines = self.text.count("\n", 0, self.at)
        self._line += lines
        self._column = self.at - self.text.rindex("\n", 0, self.at) - 1 if lines else self._column + self.at
        self.text, self.at = self.text[self.at :], 0
        self._add(self._file.read(size))

    def _add(self, piece: bytes) -> None:
        self._at_end = not piece
        pending = len(self._decoder.getstate()[0])
        try:
            self.text += self._decoder.decode(piece, final=self._at_end)
        except UnicodeDecodeError as error:
            place = f"byte {self._bytes - pending + error.start + 1}"
            remedy = "save it as UTF-8, or with a byte order mark as UTF-16 or UTF-32, or set encoding"
            raise NotAnArray(f"not {self.encoding.upper()} ({place}); {remedy}") from None
        self._bytes += len(piece)

    def _too_long(self) -> NotAnArray:
        return self.fault(f"longer than {MAX_ELEMENT} characters")

    def fault(self, message: str, at: int | None = None) -> NotAnArray:
        """What is wrong at a place of the text, by default here."""
        at = self.at if at is None else at
        lines = self.text.count("\n", 0, at)
        column = at - self.text.rindex("\n", 0, at) if lines else self._column + at + 1
        element = f"element {self.number}: " if self.number else ""
        return NotAnArray(f"not JSON: {element}{message}: line {self._line + lines + 1} column {column}")

    def not_an_array(self) -> NotAnArray:
        """What the file holds instead."""
        no_array = NotAnArray("expected a JSON array of objects or strings")
        if not self.next_character():
            return self.fault("Expecting value")
        try:
            self.value()
        except NotAnArray as error:
            return no_array if "longer than" in str(error) else error
        if not self.next_character():
            return no_array
        return NotAnArray(f"{self.fault('Extra data')}; a file with an element a line is .jsonl")
