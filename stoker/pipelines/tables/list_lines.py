"""Physical lines of a text list, plain or compressed: each is given, with its number and what is wrong with it."""

import bz2
import codecs
import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import AnyStr, BinaryIO, NamedTuple, Protocol

import numpy as np
import zstandard

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory.rows_read import Look
from stoker.storage.plain_file import open_plain

COMPRESSIONS = (".gz", ".bz2", ".zst")
MAX_LINE = 1 << 20  # bytes
_READ_SIZE = 1 << 16  # bytes
_MAX_READS = 1 << 8  # of which lines are looked up at a time: 16 MB, and a line
_FEED = 1 << 10  # compressed bytes at once: zstd can make 32 MB of them
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SYNTAX = b'\t\r\n ",.:/?&={}[]0aZ'  # bytes that must mean the same in an encoding as in ASCII


class Line(NamedTuple):  # quicker to make than a dataclass
    """A line without its end; "" if it has a fault."""

    number: int  # from 1
    text: str
    fault: str = ""
    written: int = 0  # hash of its bytes; 0: not looked up
    is_known: bool = False  # it is passed over, unless it lies inside a row


@contextmanager
def open_list(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed by the end of its name. Reading raises OSError or EOFError for a damaged file."""
    suffix = path.suffix.lower()
    with open_plain(path) as file:
        if suffix in COMPRESSIONS and not path.stat().st_size:
            raise EOFError("an empty file, where compressed data should be")
        if suffix == ".gz":
            with gzip.open(file) as unpacked:
                yield unpacked  # type: ignore[misc]  # typeshed: GzipFile is no BinaryIO; it reads as one
        elif suffix in COMPRESSIONS:
            yield io.BufferedReader(_Unpacked(file, suffix), _READ_SIZE)
        else:
            yield file


def check_encoding(name: str) -> None:
    """Raise RecipeError unless it is a text encoding of which ASCII is a part."""
    try:
        fits = _SYNTAX.decode(name) == _SYNTAX.decode("ascii")
    except (LookupError, ValueError):
        fits = False
    if not fits:
        raise RecipeError(f"encoding {name!r}: expected one that extends ASCII, such as 'utf-8', 'cp1252' or 'gb18030'")


def read_lines(file: BinaryIO, *, encoding: str, look: Look | None = None, keeps_known: bool = False) -> Iterator[Line]:
    """All lines, also empty ones; LF, CR LF and CR end a line. A byte order mark decides over ``encoding``.

    Args:
        file: the list's bytes.
        encoding: of its text.
        look: is given many lines at a time, and says which are known: they are left out. Not of a file in another
            encoding than that.
        keeps_known: known lines are given as well, and say so.
    """
    start = file.read(_READ_SIZE)
    if start[:2] in _UTF16:
        yield from _utf16_lines(start, file)
        return
    if start.startswith(codecs.BOM_UTF8):
        if codecs.lookup(encoding) != codecs.lookup("utf-8"):
            look = None  # the same bytes mean something else in other files
        start, encoding = start[len(codecs.BOM_UTF8) :], "utf-8"
    pieces = chain([start], iter(lambda: file.read(_READ_SIZE), b""))
    cut = _cut_lines(pieces, b"\n", b"\r")
    if look is None:
        yield from (_line(number, line, is_whole, encoding) for number, line, is_whole in _numbered(cut))
        return
    before = 1
    for lines, parts in _together(cut, look.at_once):
        hashes, known = look(lines)
        places = np.arange(len(lines)) if keeps_known else np.flatnonzero(~known)
        for place, *told in zip(places.tolist(), hashes[places].tolist(), known[places].tolist(), strict=True):
            yield _line(before + place, lines[place], place not in parts, encoding, *told)
        before += len(lines)


def _numbered(cut: Iterable[tuple[list[AnyStr], bool]]) -> Iterator[tuple[int, AnyStr, bool]]:
    """Each line with its number from 1, and whether it is whole."""
    number = 0
    for lines, is_whole in cut:
        for line in lines:
            number += 1
            yield number, line, is_whole
            is_whole = True


def _together(cut: Iterator[tuple[list[bytes], bool]], most: int) -> Iterator[tuple[list[bytes], set[int]]]:
    """Lines, about so many at a time of not too many reads; and the places of those not whole."""
    reads = 0
    lines, parts = list[bytes](), set[int]()
    for some, is_whole in cut:
        parts.update(() if is_whole else [len(lines)])
        lines += some
        reads += 1 + len(some[0]) // _READ_SIZE  # the first line alone may be of several
        if len(lines) >= most or reads >= _MAX_READS:
            yield lines, parts
            reads, lines, parts = 0, [], set()
    if lines:
        yield lines, parts


def _line(number: int, line: bytes, is_whole: bool, encoding: str, written: int = 0, is_known: bool = False) -> Line:
    if not is_whole:
        return Line(number, "", f"longer than {MAX_LINE} bytes")
    if b"\0" in line:
        return Line(number, "", "it holds a NUL character")
    try:
        return Line(number, line.decode(encoding), "", written, is_known)
    except UnicodeDecodeError:
        return Line(number, "", f"not {encoding.upper()}; if the list has another encoding, set encoding")


def _cut_lines(pieces: Iterable[AnyStr], lf: AnyStr, cr: AnyStr) -> Iterator[tuple[list[AnyStr], bool]]:
    """Lines without their ends, those that end in one piece together, and whether the first of them is whole.

    One that is too long is not, and is empty. It is the first: a piece is shorter than the longest line.

    LF ends a line, also behind one CR or several, as programs leave that write CR LF as text; so does each other CR. At
    most a line of the greatest length is in memory, wherever pieces begin.
    """
    nothing: AnyStr = lf[:0]
    pending, is_whole = nothing, True
    for piece in pieces:
        text = pending + piece
        lines = text.split(lf)
        last = lines.pop()
        ends = nothing
        if cr in text:  # of others nothing is done for each line
            lines = [part for line in lines for part in line.rstrip(cr).split(cr)]
            ends = last[len(last.rstrip(cr)) :]  # they may stand before an LF that is still to come
            lines += last.rstrip(cr).split(cr)
            last = lines.pop()
            if len(ends) > MAX_LINE:
                lines += [last]
                lines += [nothing] * (len(ends) - 2)
                last, ends = nothing, cr
        if lines:
            yield _checked(lines, is_whole, nothing)
            is_whole = True
        if len(last) > MAX_LINE:
            last, is_whole = nothing, False
        pending = last + ends
    if pending or not is_whole:
        yield _checked(pending.removesuffix(cr).split(cr), is_whole, nothing)


def _checked(lines: list[AnyStr], is_whole: bool, nothing: AnyStr) -> tuple[list[AnyStr], bool]:
    """The lines, the first one empty if it is too long or ``is_whole`` says that it is the end of such a one."""
    if is_whole and len(lines[0]) <= MAX_LINE:
        return lines, True
    lines[0] = nothing
    return lines, False


def _utf16_pieces(start: bytes, file: BinaryIO) -> Iterator[str]:
    """The text of a file in UTF-16; its byte order mark says which. Raises EOFError for half a character at its end."""
    decoder = codecs.getincrementaldecoder("utf-16")(errors="surrogatepass")
    try:
        for piece in chain([start], iter(lambda: file.read(_READ_SIZE), b"")):
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise EOFError("half a character of UTF-16 at its end") from None


def _utf16_lines(start: bytes, file: BinaryIO) -> Iterator[Line]:
    for number, text, is_whole in _numbered(_cut_lines(_utf16_pieces(start, file), "\n", "\r")):
        if not is_whole:
            yield Line(number, "", f"longer than {MAX_LINE} characters")
        elif "\0" in text or not is_unicode(text):
            yield Line(number, "", "it holds a NUL or half a character of UTF-16")
        else:
            yield Line(number, text)


def is_unicode(text: str) -> bool:
    """Whether the text is free of lone surrogates, which are half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Unpacked(io.RawIOBase):
    """Decompresses bz2 or zstd, several streams one after the other. Bytes that belong to none are an error.

    The readers of ``bz2`` and ``zstandard`` end without one where a later stream is damaged, or the last one is cut.
    """

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self._file = file
        self._suffix = suffix
        self._decompressor: _Decompressor | None = None
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed has no name for it
        while not self._output:
            if not self._input:
                self._input = self._file.read(_FEED)
                if not self._input:
                    if self._decompressor is not None:
                        raise EOFError("the compressed data ends too early")
                    return 0
            self._output = memoryview(self._unpack())
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _unpack(self) -> bytes:
        decompressor = self._decompressor
        if decompressor is None:
            is_bz2 = self._suffix == ".bz2"
            decompressor = bz2.BZ2Decompressor() if is_bz2 else zstandard.ZstdDecompressor().decompressobj()
        try:
            output = decompressor.decompress(self._input)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from None
        self._input = decompressor.unused_data if decompressor.eof else b""
        self._decompressor = None if decompressor.eof else decompressor
        return output
