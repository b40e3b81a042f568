"""Physical lines of a text list, plain or compressed: each is given, with its number and what is wrong with it."""

import bz2
import codecs
import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, compress, islice
from operator import not_
from pathlib import Path
from typing import AnyStr, BinaryIO, NamedTuple, Protocol

import zstandard

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory.rows_read import Look
from stoker.storage.plain_file import open_plain

COMPRESSIONS = (".gz", ".bz2", ".zst")
MAX_LINE = 1 << 20  # bytes
_READ_SIZE = 1 << 16  # bytes
_MAX_BATCH = 1 << 24  # bytes of lines that are looked up at a time
_FEW = 64  # lines of the greatest length that may be in memory besides
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
    lines = _cut_lines(pieces, b"\n", b"\r")
    if look is None:
        yield from (_line(number, line, complete, encoding) for number, (line, complete) in enumerate(lines, 1))
        return
    before = 0
    while some := _many(lines, look.at_once):
        hashes, known = look([line for line, _ in some])
        for place in range(len(some)) if keeps_known else compress(range(len(some)), map(not_, known)):
            yield _line(before + place + 1, *some[place], encoding, hashes[place], known[place])
        before += len(some)


def _many(lines: Iterator[tuple[bytes, bool]], most: int) -> list[tuple[bytes, bool]]:
    """The next lines, about so many at most, and not much more than ``_MAX_BATCH`` bytes."""
    some: list[tuple[bytes, bool]] = []
    size = 0
    while len(some) < most and size < _MAX_BATCH and (more := list(islice(lines, _FEW))):
        some += more
        size += sum(len(line) for line, _ in more)
    return some


def _line(number: int, line: bytes, complete: bool, encoding: str, written: int = 0, is_known: bool = False) -> Line:
    if not complete:
        return Line(number, "", f"longer than {MAX_LINE} bytes")
    if b"\0" in line:
        return Line(number, "", "it holds a NUL character")
    try:
        return Line(number, line.decode(encoding), "", written, is_known)
    except UnicodeDecodeError:
        return Line(number, "", f"not {encoding.upper()}; if the list has another encoding, set encoding")


def _cut_lines(pieces: Iterable[AnyStr], lf: AnyStr, cr: AnyStr) -> Iterator[tuple[AnyStr, bool]]:
    """Lines without their ends, and whether they are complete; one that is too long is not.

    LF ends a line, also behind one CR or several, as programs leave that write CR LF as text; so does each other CR. At
    most a line of the greatest length is in memory, wherever pieces begin.
    """
    nothing: AnyStr = lf[:0]
    pending, complete = nothing, True
    for piece in pieces:
        lines = (pending + piece).split(lf)
        pending = lines.pop()
        for line in lines:
            for part in line.rstrip(cr).split(cr) if cr in line else (line,):
                yield part, complete and len(part) <= MAX_LINE
                complete = True
        lines = pending.rstrip(cr).split(cr)
        last = lines.pop()
        ends: AnyStr = pending[len(pending.rstrip(cr)) :]  # they may stand before an LF that is still to come
        if len(ends) > MAX_LINE:
            lines += [last]
            lines += [nothing] * (len(ends) - 2)
            last, ends = nothing, cr
        for line in lines:
            yield line, complete and len(line) <= MAX_LINE
            complete = True
        if len(last) > MAX_LINE:
            last, complete = nothing, False
        pending = last + ends
    if pending or not complete:
        for part in pending.removesuffix(cr).split(cr):
            yield part, complete
            complete = True


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
    for number, (text, complete) in enumerate(_cut_lines(_utf16_pieces(start, file), "\n", "\r"), 1):
        if not complete:
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
