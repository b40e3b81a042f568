"""DumpFile files: what they are, where they can be cut, and their bytes from there on, uncompressed and bounded."""

import bz2
import codecs
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from stoker.pipelines.errors import SourceBroken

Kind = Literal["xml", "bz2", "gz"]
CHUNK = 1 << 20  # bytes
_HEAD = 1 << 20  # bytes; siteinfo ends long before
_STREAM = re.compile(rb"BZh[1-9]1AY&SY")  # the head of a bz2 stream and of its first block, ten bytes
_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class DumpFile:
    """A file as it was found."""

    path: Path
    kind: Kind
    size: int  # bytes
    sha256: str
    streams: tuple[int, ...]  # where its bz2 streams begin
    head: bytes  # the first bytes, uncompressed
    utf16: bool

    def byte_ranges(self, size: int) -> list[tuple[int, int]]:
        """Ranges of about ``size`` bytes of the file that can be read one by one; together they are the file."""
        if self.utf16 or self.kind == "gz":
            return [(0, self.size)]
        starts = list(self.streams) if self.kind == "bz2" else list(range(0, self.size, size))
        chosen = [0]
        for start in starts[1:]:
            if start - chosen[-1] >= size:
                chosen.append(start)
        return list(zip(chosen, [*chosen[1:], self.size], strict=True))


class CorruptStream(Exception):  # caught by the source, which knows what is lost
    """The file cannot be uncompressed from somewhere in the stream at ``offset`` on."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset


def open_dump(path: Path) -> DumpFile:
    """The file by its first bytes alone, without hash and streams. Raises SourceBroken if it is no dump."""
    try:
        with path.open("rb") as file:
            kind = _kind(path, file.read(16))
        size = path.stat().st_size
        head = _head(DumpFile(path, kind, size, "", (), b"", False))
    except CorruptStream as error:
        raise SourceBroken(f"{path.name}: {error} (stream at byte {error.offset})") from None
    except OSError as error:
        raise SourceBroken(f"{path}: cannot be read: {error.strerror or error}") from error
    utf16 = head.startswith(_BOMS)
    text = head.decode("utf-16", "replace").encode("utf-8", "replace") if utf16 else head
    if b"<mediawiki" not in text and b"<page>" not in text:
        begins = text[:60].decode("utf-8", "replace")
        raise SourceBroken(f"{path.name}: no MediaWiki export: it begins with {begins!r}; download it again")
    if b"<!DOCTYPE" in text.partition(b"<page>")[0]:
        raise SourceBroken(f"{path.name}: it holds a document type, which no MediaWiki export has")
    return DumpFile(path, kind, size, "", (), text, utf16)


def scan_dump(path: Path) -> DumpFile:
    """The file read through once: also its hash, and where it can be cut. Raises SourceBroken if it is no dump."""
    dump = open_dump(path)
    whole = hashlib.sha256()
    try:
        found = tuple(streams(dump, 0, dump.size, whole.update))
    except OSError as error:
        raise SourceBroken(f"{path}: cannot be read: {error.strerror or error}") from error
    return replace(dump, sha256=whole.hexdigest(), streams=found if dump.kind == "bz2" else ())


def streams(dump: DumpFile, start: int, stop: int, see: Callable[[bytes], object] = len) -> Iterator[int]:
    """Where bz2 streams begin in a range of the file; ``see`` is shown all its bytes."""
    place, before = start, b""
    with dump.path.open("rb") as file:
        file.seek(start)
        while data := file.read(min(CHUNK, stop - place)):
            see(data)
            joined = before + data
            yield from (place - len(before) + found.start() for found in _STREAM.finditer(joined))
            before = joined[-9:]  # of a head that is cut, at most so much
            place += len(data)


def chunks(dump: DumpFile, start: int, stop: int) -> Iterator[bytes]:
    """The XML in a range of the file, in pieces of at most ``CHUNK`` bytes. Raises CorruptStream, OSError."""
    with dump.path.open("rb") as file:
        file.seek(start)
        if dump.kind == "bz2":
            found = _bz2(file, start, stop)
        elif dump.kind == "gz":
            found = _gz(file)
        else:
            found = _plain(file, stop - start)
        yield from _utf8(found) if dump.utf16 else found


def index_beside(path: Path) -> Path | None:
    """The index of a multistream dump, if it lies beside it under the name that Wikimedia gives it.

    >>> index_beside(Path("enwiki-pages-articles.xml.bz2")) is None
    True
    """
    if "multistream" not in path.name:
        return None
    name = path.name.replace("multistream", "multistream-index", 1).replace(".xml", ".txt", 1)
    for candidate in (path.with_name(name), path.with_name(name.removesuffix(".bz2"))):
        if candidate != path and candidate.is_file():
            return candidate
    return None


def entries(index: Path) -> Iterator[tuple[int, int, str]]:
    """The lines of an index: where the page's stream begins, its number and its title. Raises SourceBroken."""
    number = 0
    try:
        with bz2.open(index, "rb") if index.name.endswith(".bz2") else index.open("rb") as file:
            while line := file.readline(4096):
                number += 1
                offset, page, title = line.decode("utf-8", "replace").rstrip("\n").split(":", 2)
                yield int(offset), int(page), title
    except (OSError, EOFError, ValueError) as error:
        raise SourceBroken(
            f"{index.name}: near line {number}: expected offset:page:title ({error}); download the index again, "
            "or remove it: the dump can be read without"
        ) from error


def _kind(path: Path, beginning: bytes) -> Kind:
    if not beginning:
        raise SourceBroken(f"{path.name}: an empty file; download it again")
    if beginning.startswith(b"BZh"):
        return "bz2"
    if beginning.startswith(b"\x1f\x8b"):
        return "gz"
    if beginning.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \r\n\t").startswith(b"<"):
        return "xml"
    what = "7z, which is not read; download the .bz2 instead" if beginning.startswith(b"7z") else repr(beginning[:12])
    raise SourceBroken(f"{path.name}: neither XML nor bz2 nor gzip: it begins with {what}")


def _head(dump: DumpFile) -> bytes:
    head = b""
    for chunk in chunks(dump, 0, dump.size):
        head += chunk
        if len(head) >= _HEAD or b"<page>" in head:
            break
    return head


def _plain(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0 and (data := file.read(min(CHUNK, left))):
        left -= len(data)
        yield data


def _bz2(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """All streams of a range, one after the other. What follows the end of the XML and is no bz2 is passed over."""
    place, stream, tail = start, start, b""
    decoder = bz2.BZ2Decompressor()
    data = b""
    while True:
        if decoder.eof:
            data = decoder.unused_data
            stream = place - len(data)
            if len(data) < 4 and place < stop:
                read = file.read(min(CHUNK, stop - place))
                place, data = place + len(read), data + read
            if not data:
                return
            if not data.startswith(b"BZh"):
                if b"</mediawiki>" in tail:
                    return
                raise CorruptStream(stream, "what follows a bz2 stream is no bz2")
            decoder = bz2.BZ2Decompressor()
        elif decoder.needs_input:
            data = file.read(min(CHUNK, stop - place))
            place += len(data)
            if not data:
                raise CorruptStream(stream, "the file ends in the middle of a bz2 stream: it is cut short or damaged")
        else:
            data = b""
        try:
            made = decoder.decompress(data, CHUNK)
        except (OSError, ValueError) as error:
            raise CorruptStream(stream, f"its bz2 is damaged: {error}") from error
        if made:
            tail = made[-64:]
            yield made


def _gz(file: BinaryIO) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    data = b""
    while True:
        if not data and not (data := file.read(CHUNK)):
            if not decoder.eof:
                raise CorruptStream(0, "the file ends in the middle of its gzip data: it is cut short")
            return
        if decoder.eof:
            if not data.startswith(b"\x1f"):
                return
            decoder = zlib.decompressobj(wbits=31)
        try:
            made = decoder.decompress(data, CHUNK)
        except zlib.error as error:
            raise CorruptStream(0, f"its gzip data is damaged: {error}") from error
        data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        if made:
            yield made


def _utf8(found: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for chunk in found:
        yield decoder.decode(chunk).encode("utf-8", "replace")
