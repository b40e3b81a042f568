"""Undo the Content-Encoding of a body; where the header contradicts the bytes, the bytes decide."""

import zlib
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.web.http.faults import BodyTooLarge, IncompleteResponse, ProtocolError
from stoker.pipelines.web.http.response import READ_SIZE

if TYPE_CHECKING:
    from zlib import _Decompress  # typeshed's name; it has no public one

MAX_CODINGS = 4  # one over the other
# Registered codings that are not asked for, so a body in one of them cannot be read. Any other word that is not gzip or
# deflate is no coding: servers send "none", "utf-8", "binary" and "aws-chunked" with bodies that are not encoded.
_UNREADABLE = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"})
_READABLE = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_GZIP = b"\x1f\x8b"


def codings_of(header: str) -> list[str]:
    """The codings that a Content-Encoding names, in the order in which they were applied.

    >>> codings_of("GZIP, none"), codings_of("aws-chunked"), codings_of("x-gzip, br")
    (['gzip'], [], ['gzip', 'br'])
    """
    words = [word.strip().lower() for word in header.split(",")]
    return [_READABLE.get(word, word) for word in words if word in _READABLE or word in _UNREADABLE]


def decode_content(pieces: Iterator[bytes], header: str, limit: int) -> Iterator[bytes]:
    """The pieces with their Content-Encoding undone, at most ``limit`` bytes in all and ``READ_SIZE`` at once.

    Raises BodyTooLarge, IncompleteResponse, ProtocolError.
    """
    codings = codings_of(header)
    if len(codings) > MAX_CODINGS:
        raise ProtocolError(f"{len(codings)} codings one over the other")
    for coding in reversed(codings):
        pieces = _undo(pieces, coding, limit)
    return pieces


def _undo(pieces: Iterator[bytes], coding: str, limit: int) -> Iterator[bytes]:
    """The pieces decoded, or as they are if their first bytes show that they are not encoded."""
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= len(_GZIP):
            break
    if not start:
        return
    pieces = chain([start], pieces)
    is_plain = not start.startswith(_GZIP) if coding == "gzip" else isinstance(extension_of(start), str)
    if is_plain:
        yield from pieces
    elif coding in _UNREADABLE:
        raise ProtocolError(f"Content-Encoding {coding!r}, which was not asked for")
    else:
        yield from _inflate(pieces, coding, limit)


def _inflate(pieces: Iterator[bytes], coding: str, limit: int) -> Iterator[bytes]:
    inflater: _Decompress | None = None
    total = 0
    for piece in pieces:
        while piece:
            if inflater is None or (inflater.eof and coding != "deflate"):  # a gzip file may have several members
                inflater = zlib.decompressobj(_window_bits(coding, piece))
            elif inflater.eof:
                break
            try:
                output = inflater.decompress(piece, READ_SIZE)
            except zlib.error:
                raise ProtocolError(f"Content-Encoding {coding}, but the body is not") from None
            total += len(output)
            if total > limit:
                raise BodyTooLarge(f"more than {limit} bytes when unpacked")
            if output:
                yield output
            piece = inflater.unconsumed_tail or inflater.unused_data
    if inflater is not None and not inflater.eof:
        yield inflater.flush()  # the rest of one symbol, if all input was used as the last output filled up
    if inflater is not None and not inflater.eof:
        raise IncompleteResponse("the compressed body ends too early")


def _window_bits(coding: str, start: bytes) -> int:
    """zlib's wbits: servers send "deflate" with and without zlib's header (its first byte is 0x78 in practice)."""
    if coding != "deflate":
        return 31
    return 15 if start[:1] == b"\x78" else -15
