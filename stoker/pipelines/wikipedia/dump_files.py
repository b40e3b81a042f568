"""MediaWiki dump files: their format, the ranges they can be read in, and their XML uncompressed."""

import codecs
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.wikipedia.bz2_blocks import Gap, read_bz2
from stoker.storage.plain_file import open_plain

DumpFormat = Literal["xml", "bz2", "gz"]
CHUNK = 1 << 20  # bytes
_MAX_HEAD = 1 << 20  # bytes of XML; siteinfo ends long before
_STREAM_HEAD = re.compile(rb"BZh[1-9]1AY&SY")  # of a bz2 stream and of its first block: ten bytes
_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class DumpFile:
    """A dump file: format, size and head, and after ``scan_dump`` also its hash and its bz2 streams."""

    path: Path
    format: DumpFormat
    size: int  # bytes
    sha256: str  # empty until it is scanned
    streams: tuple[int, ...]  # offsets of its bz2 streams; empty until it is scanned
    head: bytes  # the first bytes of its XML, in UTF-8
    utf16: bool
    damage: str = ""  # what is wrong with its beginning, of which ``head`` then lacks some or all

    def byte_ranges(self, size: int) -> list[tuple[int, int]]:
        """Ranges of at least about ``size`` bytes that can be read independently; together they are the file."""
        if self.utf16 or self.format == "gz":
            return [(0, self.size)]
        starts = list(self.streams) if self.format == "bz2" else list(range(0, self.size, size))
        chosen = [0]
        for start in starts[1:]:
            if start - chosen[-1] >= size:
                chosen.append(start)
        return list(zip(chosen, [*chosen[1:], self.size], strict=True))


def open_dump(path: Path) -> DumpFile:
    """The dump file from its first bytes alone, without hash and streams. Raises SourceBroken if it is no dump.

    A bz2 file whose first blocks are damaged counts as one.
    """
    try:
        with open_plain(path) as file:
            form = _detect_format(path, file.read(16))
        size = path.stat().st_size
        head, damage = _read_head(DumpFile(path, form, size, "", (), b"", False))
    except OSError as error:
        raise SourceBroken(f"{path}: cannot be read: {error.strerror or error}") from error
    utf16 = head.startswith(_BOMS)
    text = head.decode("utf-16", "replace").encode("utf-8", "replace") if utf16 else head
    if b"<mediawiki" not in text and b"<page>" not in text and not damage:
        begins = text[:60].decode("utf-8", "replace")
        raise SourceBroken(f"{path.name}: no MediaWiki export: it begins with {begins!r}; download it again")
    if b"<!DOCTYPE" in text.partition(b"<page>")[0]:
        raise SourceBroken(f"{path.name}: it holds a document type, which no MediaWiki export has")
    return DumpFile(path, form, size, "", (), text, utf16, damage)


def scan_dump(path: Path) -> DumpFile:
    """The dump file with its hash and its streams; reads all of it. Raises SourceBroken if it is no dump."""
    dump = open_dump(path)
    sha256 = hashlib.sha256()
    try:
        streams = tuple(find_streams(dump, 0, dump.size, sha256.update))
    except OSError as error:
        raise SourceBroken(f"{path}: cannot be read: {error.strerror or error}") from error
    return replace(dump, sha256=sha256.hexdigest(), streams=streams if dump.format == "bz2" else ())


def find_streams(dump: DumpFile, start: int, stop: int, on_data: Callable[[bytes], object] = len) -> Iterator[int]:
    """The offsets of bz2 streams in a range of the file; ``on_data`` is called with each piece of its bytes."""
    offset, tail = start, b""
    with open_plain(dump.path) as file:
        file.seek(start)
        while data := file.read(min(CHUNK, stop - offset)):
            on_data(data)
            joined = tail + data
            yield from (offset - len(tail) + match.start() for match in _STREAM_HEAD.finditer(joined))
            tail = joined[-9:]  # a head may lie across two pieces
            offset += len(data)


def read_xml(dump: DumpFile, start: int, stop: int) -> Iterator[bytes | Gap]:
    """The XML in a range of the file, in UTF-8, in pieces; a Gap where bz2 cannot be decoded.

    Raises SourceBroken for other damage, OSError.
    """
    with open_plain(dump.path) as file:
        file.seek(start)
        if dump.format == "bz2":
            pieces: Iterator[bytes | Gap] = read_bz2(file, start, stop)
        elif dump.format == "gz":
            pieces = _read_gzip(file, dump.path.name)
        else:
            pieces = _read_plain(file, stop - start)
        yield from _utf16_to_utf8(pieces, dump.path.name) if dump.utf16 else pieces


def _detect_format(path: Path, beginning: bytes) -> DumpFormat:
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


def _read_head(dump: DumpFile) -> tuple[bytes, str]:
    """The first bytes of the XML, and what is damaged among them: of such a dump, those behind the damage."""
    head = b""
    damage: Gap | None = None
    for piece in read_xml(dump, 0, dump.size):
        if isinstance(piece, Gap):
            damage = damage or piece
            continue
        head += piece
        if len(head) >= _MAX_HEAD or b"<page>" in head:
            break
    return head, "" if damage is None else describe(damage)


def describe(gap: Gap) -> str:
    """What is missing, for people."""
    return f"{gap.message} ({gap.size:,} bytes at byte {gap.offset:,} of the file)"


def _read_plain(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (data := file.read(min(CHUNK, size))):
        size -= len(data)
        yield data


def _read_gzip(file: BinaryIO, name: str) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    data = b""
    while True:
        if not data and not (data := file.read(CHUNK)):
            if not decoder.eof:
                raise SourceBroken(
                    f"{name}: it ends in the middle of its gzip data: it is cut short; download it again"
                )
            return
        if decoder.eof:
            if not data.startswith(b"\x1f"):
                return
            decoder = zlib.decompressobj(wbits=31)
        try:
            xml = decoder.decompress(data, CHUNK)
        except zlib.error as error:
            raise SourceBroken(f"{name}: its gzip data are damaged: {error}; download it again") from error
        data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        if xml:
            yield xml


def _utf16_to_utf8(pieces: Iterator[bytes | Gap], name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for piece in pieces:
        if isinstance(piece, Gap):
            raise SourceBroken(f"{name}: {describe(piece)}, and UTF-16 cannot be read behind it; download it again")
        yield decoder.decode(piece).encode("utf-8", "replace")
