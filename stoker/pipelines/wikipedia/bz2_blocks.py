"""The data of bz2 streams, verified block by block: a damaged block is left out and named, and costs no other.

A block (at most 900 kB before compression) has a CRC of its own, and begins with 48 bits that occur nowhere else, at
any bit of a byte. Sound streams go through one decoder, which checks the CRC of each block before it returns its data.
Only where it fails are the blocks looked for by their first bits and decoded one by one, as bzip2recover does.

Source of the format: Joe Tsai, "BZIP2: Format Specification", 2016.
"""

import bz2
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_PIECE = 1 << 16  # bytes of the file that are decoded at a time
_MAX_AT_ONCE = 4 << 20  # bytes of data: a piece of the file that holds more is decoded block by block
_BLOCK, _END = 0x314159265359, 0x177245385090  # the first 48 bits of a block, and of the end of a stream
_MAX_BLOCK = 2 << 20  # bytes of a compressed block; the format's longest code is 20 bits a symbol, for 900,000 symbols
_LEAST_BLOCK = 20  # bytes: no block is as short, so that so few bytes that belong to no block have held none
_HEADER = b"BZh9"  # of a stream whose blocks may have any size
_HEADER_PATTERN = re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)")  # and of its first block, or its end


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a file that give no data, in the place of the data that they held."""

    offset: int  # of the first of them in the file
    size: int  # bytes
    message: str  # what is wrong with them
    block: bool = True  # whether they hold the beginning of a block; else they may be anything


@dataclass(frozen=True, slots=True)
class _Stopped:
    """Where and why decoding of a stream stopped, and what must not be returned again."""

    offset: int  # no block that begins before this byte is missing
    latest: int  # the next block begins at this byte of the file at the latest, unless its beginning is damaged
    data: bytes  # the last data that was returned: blocks that begin at ``offset`` or later may be among it
    message: str


def read_bz2(file: BinaryIO, start: int, stop: int) -> Iterator[bytes | Gap]:
    """The data of all streams in a range of a file, in order; a Gap for each run of bytes that cannot be decoded.

    ``start`` is where a stream begins. Every piece of data consists of whole blocks whose CRC is right. Raises OSError.
    """
    offset = start
    while offset < stop:
        file.seek(offset)
        result = yield from _read_stream(file, offset, stop)
        if isinstance(result, _Stopped):
            offset = yield from _read_blocks(file, result, stop)
        else:
            offset = result


def _read_stream(file: BinaryIO, start: int, stop: int) -> Generator[bytes | Gap, None, int | _Stopped]:
    """The data of a stream as far as it is sound; returns where it ends, or where it stopped."""
    decoder = bz2.BZ2Decompressor()
    offset = start
    known = _Stopped(start, start + len(_HEADER), b"", "")
    while not decoder.eof:
        piece = file.read(min(_PIECE, stop - offset))
        if not piece:
            message = "the file ends in the middle of a bz2 stream: it is cut short"
            return _Stopped(known.offset, known.latest, known.data, message)
        try:
            data = _decompress(decoder, piece)
        except (OSError, ValueError) as error:
            return _Stopped(known.offset, known.latest, known.data, f"its bz2 is damaged: {error}")
        if len(data) >= _MAX_AT_ONCE:
            return _Stopped(known.offset, known.latest, known.data, "its bz2 is damaged")
        offset += len(piece)
        if data:
            known = _Stopped(offset - len(piece), offset, data, "")
            yield data
    return offset - len(decoder.unused_data)


def _decompress(decoder: bz2.BZ2Decompressor, piece: bytes) -> bytes:
    """The data of all blocks that end in a piece, their CRCs compared; of the limit's length: not all of them.

    Raises OSError, ValueError.
    """
    pieces = [decoder.decompress(piece, _MAX_AT_ONCE)]
    size = len(pieces[0])
    # One call may return only a part of a block; the CRC is compared when nothing is left of it.
    while pieces[-1] and size < _MAX_AT_ONCE and not decoder.eof:
        pieces.append(decoder.decompress(b"", _MAX_AT_ONCE))
        size += len(pieces[-1])
    return b"".join(pieces)


def _read_blocks(file: BinaryIO, stopped: _Stopped, stop: int) -> Generator[bytes | Gap, None, int]:
    """The blocks from where a decoder stopped; returns where the next stream begins, or ``stop``."""
    returned, end, latest = stopped.data, 8 * stopped.offset, 8 * stopped.latest
    marks = _find_marks(file, stopped.offset, stop)
    mark = next(marks)
    while True:
        nothing = mark.kind == "stop" and end == 8 * stopped.offset and not stopped.data
        if nothing or mark.bit > latest + 8 * _LEAST_BLOCK:
            yield Gap(end // 8, (mark.bit - end) // 8, stopped.message, block=False)
        if mark.kind == "stop":
            return stop
        following = next(marks)
        if mark.kind == "end":
            end = 8 * -(-(mark.bit + 80) // 8)  # 48 bits, a CRC of 32, and none to seven to fill the byte
            file.seek(end // 8)
            if end // 8 < stop and _HEADER_PATTERN.match(file.read(10)):
                return end // 8
            returned, latest = b"", end + 8 * len(_HEADER)
        else:
            block = _Block(_read_bits(file, mark.bit, min(following.bit, mark.bit + 8 * _MAX_BLOCK)))
            if not block.verify():
                what = "cut short" if following.kind == "stop" else "damaged"
                yield Gap(mark.bit // 8, (following.bit - mark.bit) // 8, f"a bz2 block is {what}")
                end = latest = following.bit
            else:
                if not (mark.bit <= 8 * stopped.latest and block.is_in(returned)):
                    yield from block.data()
                end = latest = min(mark.bit + 8 * block.size, following.bit)
        mark = following


class _Block:
    """The bits of a block, and perhaps more behind them, as the beginning of a stream."""

    def __init__(self, bits: bytes) -> None:
        self._stream = _HEADER + bits
        self.size = 0  # bytes that the block takes, known once it is verified
        self._small: bytes | None = None  # its data, unless they are too large to be kept

    def verify(self) -> bool:
        """Whether the block is whole and has its CRC."""
        decoder, fed = bz2.BZ2Decompressor(), len(self._stream) - 1
        try:
            if self._take(decoder, self._stream[:fed]):
                return self._find_size()
            if not self._take(decoder, self._stream[fed:]):
                return False
        except (OSError, ValueError):
            return self._find_size()
        self.size = fed + 1 - len(_HEADER)
        return True

    def _find_size(self) -> bool:
        """``verify`` for a block that is followed by something else: a decoder tells its end if fed byte by byte."""
        decoder, fed = bz2.BZ2Decompressor(), 0
        try:
            while fed < len(self._stream):
                before, fed = fed, min(fed + 1024, len(self._stream))
                if self._take(decoder, self._stream[before:fed]):
                    break
            else:
                return False
            fed = before
        except (OSError, ValueError):
            fed = before
        try:
            decoder = bz2.BZ2Decompressor()
            self._take(decoder, self._stream[:fed])
            while fed < len(self._stream):
                fed += 1
                if self._take(decoder, self._stream[fed - 1 : fed]):
                    self.size = fed - len(_HEADER)
                    return True
        except (OSError, ValueError):
            return False
        return False

    def _take(self, decoder: bz2.BZ2Decompressor, piece: bytes) -> bool:
        """Whether the decoder returned all of the block with this piece."""
        if not (data := _decompress(decoder, piece)):
            return False
        self._small = data if len(data) < _MAX_AT_ONCE else None
        while data and not decoder.eof:
            data = decoder.decompress(b"", _MAX_AT_ONCE)
        return True

    def is_in(self, data: bytes) -> bool:
        """Whether the block's data are among these."""
        return self._small is not None and self._small in data

    def data(self) -> Iterator[bytes]:
        """Its data, if it is verified."""
        if self._small is not None:
            yield self._small
            return
        decoder, piece = bz2.BZ2Decompressor(), self._stream[: len(_HEADER) + self.size]
        while data := _decompress(decoder, piece):
            yield data
            piece = b""


@dataclass(frozen=True, slots=True)
class _Mark:
    bit: int  # of the file
    kind: str  # "block", "end" (of a stream) or "stop" (of the range)


def _find_marks(file: BinaryIO, start: int, stop: int) -> Iterator[_Mark]:
    """Where blocks and ends of streams begin in a range of the file, then the range's end."""
    offset, tail, latest = start, b"", -1
    while offset < stop:
        file.seek(offset)
        piece = file.read(min(_PIECE, stop - offset))
        if not piece:
            break
        joined = tail + piece
        for match in _CORES.finditer(joined):
            mark = _mark_at(joined, match.start() - 1, offset - len(tail))
            if mark is not None and mark.bit > latest:
                latest = mark.bit
                yield mark
        offset += len(piece)
        tail = joined[-6:]  # seven bytes hold a mark
    yield _Mark(8 * stop, "stop")


def _mark_at(data: bytes, index: int, offset: int) -> _Mark | None:
    """The mark whose 48 bits begin in the byte at an index, if one does; ``offset`` is that of the data."""
    if index < 0:
        return None
    window = int.from_bytes(data[index : index + 7].ljust(7, b"\0"), "big")
    for shift in range(8):
        bits = window >> (8 - shift) & (1 << 48) - 1
        if bits in (_BLOCK, _END) and (shift == 0 or index + 7 <= len(data)):
            return _Mark(8 * (offset + index) + shift, "block" if bits == _BLOCK else "end")
    return None


def _cores() -> Iterator[bytes]:
    """The five whole bytes that lie in a mark behind the byte where it begins, for each bit where it may begin."""
    for mark in (_BLOCK, _END):
        for shift in range(8):
            yield re.escape((mark << 8 - shift).to_bytes(7, "big")[1:6])


_CORES = re.compile(b"|".join(_cores()))


def _read_bits(file: BinaryIO, start: int, stop: int) -> bytes:
    """The bits of a range of the file, in bytes of which the last is filled with zeros."""
    first, last = start // 8, -(-stop // 8)
    file.seek(first)
    raw = file.read(last - first)
    length = stop - start
    number = int.from_bytes(raw, "big") >> max(0, 8 * len(raw) - start % 8 - length)
    number &= (1 << length) - 1
    filling = -length % 8
    return (number << filling).to_bytes((length + filling) // 8, "big")
