"""Read one response from a connection: interim responses, the head, and the body by its framing (RFC 9110, RFC 9112).

Written here, because http.client takes 102 and 103 for the final response and loses headers behind a malformed line,
and h11 refuses a response for one such line, and costs twice the processor time.
"""

import re
from collections.abc import Iterator
from typing import Protocol

from stoker.pipelines.web.http.faults import BodyTooLarge, IncompleteResponse, ProtocolError
from stoker.pipelines.web.http.head import Head, parse_head

READ_SIZE = 1 << 16  # bytes
_SMALL = 1 << 12  # bytes
MAX_HEAD = 256 << 10  # bytes of all heads together, the interim ones too
MAX_INTERIM = 32  # responses with a status below 200 before the final one
MAX_CHUNK_LINE = 1 << 12  # bytes of a chunk's size with its extensions
MAX_TRAILER = 1 << 16  # bytes of the lines after the last chunk
_START = b"HTTP/"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?\r\n")


class Readable(Protocol):
    """What bytes are read from; ``wire.Connection`` is one."""

    def receive(self, size: int) -> bytes:
        """The next bytes, at most ``size``; b"" at the end. Raises OSError, TimeoutError."""


class Response:
    """Status and headers of a final response; the body is read from the connection as it arrives."""

    def __init__(self, connection: Readable, head: Head, start: bytes, *, interim: int = 0) -> None:
        self.status = head.status
        self.headers = head.headers
        self._head = head
        self._connection = connection
        self._buffer = start  # bytes that were read and not yet used, from ``_at`` on
        self._at = 0
        self._orderly = head.orderly and not interim
        self._complete = False

    def is_orderly(self) -> bool:
        """Whether the body was read to its end, all was as the standard has it, and the connection stays open."""
        return self._complete and self._orderly and not self.has_surplus()

    def has_surplus(self) -> bool:
        """Whether bytes came that belong to no part of it."""
        return self._complete and self._at < len(self._buffer)

    def body(self, limit: int) -> Iterator[bytes]:
        """The body as sent, at most ``limit`` bytes.

        Raises BodyTooLarge, IncompleteResponse, ProtocolError, OSError.
        """
        length = self._head.length
        if length is not None and length > limit:
            raise BodyTooLarge(f"{length} bytes announced, at most {limit} allowed")
        pieces = self._chunks() if self._head.chunked else self._plain(length)
        received = 0
        small = bytearray()  # pieces of a few bytes are joined: millions of them would take much memory
        try:
            for piece in pieces:
                received += len(piece)
                if received > limit:
                    raise BodyTooLarge(f"more than {limit} bytes")
                if len(piece) >= _SMALL and not small:
                    yield piece
                    continue
                small += piece
                if len(small) >= READ_SIZE:
                    yield bytes(small)
                    small.clear()
        except (IncompleteResponse, ProtocolError, OSError):
            yield bytes(small)  # a download is resumed behind it
            raise
        self._complete = True
        if small:
            yield bytes(small)

    def _plain(self, length: int | None) -> Iterator[bytes]:
        """A body of so many bytes, or all until the connection ends. Bytes beyond the length are no part of it."""
        received = 0
        while length is None or received < length:
            piece = self._take(READ_SIZE if length is None else length - received)
            if not piece:
                if length is None:
                    return
                raise IncompleteResponse(f"cut after {received} of {length} bytes")
            received += len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        """A chunked body (RFC 9112, 7.1); extensions and trailers are read and ignored."""
        received = 0
        while size := self._chunk_size(received):
            remaining = size
            while remaining:
                piece = self._take(remaining)
                if not piece:
                    raise IncompleteResponse(f"cut after {received} bytes")
                remaining -= len(piece)
                received += len(piece)
                yield piece
            if self._line(2, received) != b"\r\n":
                raise ProtocolError("a chunk that is longer than announced")
        trailer = 0
        while (line := self._line(MAX_TRAILER, received)) not in (b"\r\n", b"\n"):
            trailer += len(line)
            if trailer > MAX_TRAILER:
                raise ProtocolError(f"a trailer of more than {MAX_TRAILER} bytes")

    def _chunk_size(self, received: int) -> int:
        match = _CHUNK_LINE.fullmatch(self._line(MAX_CHUNK_LINE, received))
        if match is None:
            raise ProtocolError("a chunk without a size")
        return int(match[1], 16)

    def _line(self, limit: int, received: int) -> bytes:
        """The next line with its end. Raises IncompleteResponse, ProtocolError if it is longer than ``limit``."""
        while (end := self._buffer.find(b"\n", self._at, self._at + limit)) < 0:
            if len(self._buffer) - self._at >= limit:
                raise ProtocolError(f"a line of more than {limit} bytes between chunks")
            more = self._connection.receive(READ_SIZE)
            if not more:
                raise IncompleteResponse(f"cut after {received} bytes")
            self._buffer = self._buffer[self._at :] + more
            self._at = 0
        line, self._at = self._buffer[self._at : end + 1], end + 1
        return line

    def _take(self, size: int) -> bytes:
        """The next bytes, at most ``size``; b"" at the end of the connection."""
        if self._at >= len(self._buffer):
            return self._connection.receive(min(size, READ_SIZE))
        piece = self._buffer[self._at : self._at + size]
        self._at += len(piece)
        return piece


def read_response(connection: Readable) -> Response:
    """The final response: those with a status below 200 are read and passed over (RFC 9110, 15.2).

    Raises ConnectionResetError if not one byte came, IncompleteResponse, ProtocolError, OSError.
    """
    buffer = bytearray()
    total = 0
    for interim in range(MAX_INTERIM + 1):
        size = _read_head(connection, buffer, MAX_HEAD - total)
        total += size
        head = parse_head(bytes(buffer[:size]))
        del buffer[:size]
        if head.status == 101:
            raise ProtocolError("HTTP 101: a change of protocol that was not asked for")
        if head.status >= 200:
            return Response(connection, head, bytes(buffer), interim=interim)
    raise ProtocolError(f"more than {MAX_INTERIM} interim responses")


def _read_head(connection: Readable, buffer: bytearray, limit: int) -> int:
    """Read until the buffer holds a whole head; the number of its bytes with the empty line at its end."""
    searched = 0
    while True:
        if not buffer.startswith(_START[: len(buffer)]):
            raise ProtocolError("not HTTP")
        end = _END_OF_HEAD.search(buffer, max(0, searched - 2))
        if end is not None and end.end() <= limit:
            return end.end()
        if len(buffer) >= limit:
            raise ProtocolError(f"a head of more than {MAX_HEAD} bytes")
        searched = len(buffer)
        piece = connection.receive(READ_SIZE)
        if not piece:
            if not buffer:
                raise ConnectionResetError("closed without a response")
            raise IncompleteResponse(f"cut in its head, after {len(buffer)} bytes")
        buffer += piece
