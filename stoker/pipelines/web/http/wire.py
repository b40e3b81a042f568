"""One HTTP/1.1 exchange over one connection, with an end to everything: time, bytes, header lines.

The standard library's ``http.client.HTTPResponse`` reads the answer from a socket whose every read knows the
deadline, so a server that sends a byte now and then is cut in its headers as in its body.
"""

import http.client
import io
import select
import socket
import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stoker.pipelines.web.http.addresses import Addresses
from stoker.pipelines.web.links import PORTS

if TYPE_CHECKING:
    from zlib import _Decompress  # typeshed's name; it has no public one

CHUNK = 1 << 16
IDLE_S = 15.0  # servers close idle connections; older ones are not tried again


class TooLarge(Exception):
    """More bytes than allowed."""


class Cut(Exception):
    """The body ended before its end."""


class Garbled(Exception):
    """The answer is not HTTP, or packed otherwise than it was asked for."""


class TooSlow(TimeoutError):
    """The deadline has passed."""


class Deadline:
    """A moment on the monotonic clock, and the longest silence before it."""

    def __init__(self, seconds: float, silence_s: float) -> None:
        self._at = time.monotonic() + seconds
        self._silence_s = silence_s

    def left(self) -> float:
        """Seconds to wait for the next byte. Raises TooSlow when none are left."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TooSlow("the whole answer took too long")
        return min(left, self._silence_s)

    def extend(self, seconds: float) -> None:
        """Move the moment on: waiting in politeness, or bytes that have come, are not held against a server."""
        self._at += seconds


class Line:
    """An open connection to one origin."""

    def __init__(self, raw: socket.socket, deadline: Deadline) -> None:
        self.raw = raw
        self.deadline = deadline
        self.used = time.monotonic()

    def sendall(self, payload: bytes) -> None:
        """Send it all before the deadline."""
        self.raw.settimeout(self.deadline.left())
        self.raw.sendall(payload)

    def makefile(self, mode: str = "rb") -> io.BufferedReader:
        """What HTTPResponse reads from."""
        return io.BufferedReader(_Timed(self), CHUNK)

    def is_fresh(self) -> bool:
        """Whether it may carry another request: not old, not closed by the server, nothing left over in it."""
        if time.monotonic() - self.used > IDLE_S:
            return False
        poll = select.poll()
        poll.register(self.raw, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()


class _Timed(io.RawIOBase):
    def __init__(self, line: Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed has no name for it
        self._line.raw.settimeout(self._line.deadline.left())
        return self._line.raw.recv_into(buffer)


def connect(url: str, addresses: Addresses, deadline: Deadline) -> Line:
    """A new connection to the URL's origin. Raises OSError (PrivateAddress and ssl.SSLError among them)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    raw = addresses.connect(host, parts.port or PORTS[parts.scheme], timeout_s=deadline.left())
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            raw.settimeout(deadline.left())
            raw = tls().wrap_socket(raw, server_hostname=host)
        return Line(raw, deadline)
    except BaseException:
        raw.close()
        raise


@cache
def tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes some 25 ms of processor time, on every call."""
    context = ssl.create_default_context()
    try:
        import certifi  # beside the system's certificates, which minimal containers lack
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context


class Answer:
    """Status and headers of an answer, and its body as it comes."""

    def __init__(self, response: http.client.HTTPResponse, line: Line) -> None:
        self._response, self._line = response, line
        self.status = response.status
        self.headers: Mapping[str, str] = _joined(response.headers.items())
        declared = response.headers.get("content-length", "").strip()
        self.length = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else None

    def body(self, limit: int) -> Iterator[bytes]:
        """The body as sent, at most ``limit`` bytes. Raises TooLarge, Cut, Garbled, OSError."""
        if self.length is not None and self.length > limit and not self._response.chunked:
            raise TooLarge(f"{self.length} bytes announced, at most {limit} allowed")
        received = 0
        while not self._response.isclosed():
            try:
                piece = self._response.read(CHUNK)
            except http.client.IncompleteRead as error:
                received += len(error.partial)
                raise Cut(f"cut after {received} bytes") from None
            except (http.client.HTTPException, ValueError) as error:
                raise Garbled(f"{type(error).__name__}") from None
            if not piece:
                break
            received += len(piece)
            if received > limit:
                raise TooLarge(f"more than {limit} bytes")
            yield piece
        if self.length is not None and not self._response.chunked and received < self.length:
            raise Cut(f"cut after {received} of {self.length} bytes")

    def is_reusable(self) -> bool:
        """Whether the body was read to its end and the connection stays open."""
        return self._response.isclosed() and not self._response.will_close

    def close(self) -> None:
        """Let go of the answer; the connection itself stays with its line."""
        self._response.close()


def ask(line: Line, url: str, headers: Mapping[str, str]) -> Answer:
    """Send a GET for a URL in normal form and read the answer's head. Raises Garbled, OSError."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    line.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    response = http.client.HTTPResponse(line, method="GET")  # type: ignore[arg-type]  # it only calls makefile()
    try:
        response.begin()
        return Answer(response, line)
    except http.client.RemoteDisconnected:
        response.close()
        raise ConnectionResetError("closed without an answer") from None
    except (http.client.HTTPException, ValueError) as error:
        response.close()
        raise Garbled(f"not HTTP ({type(error).__name__})") from None
    except BaseException:
        response.close()
        raise


def unpacked(pieces: Iterator[bytes], coding: str, limit: int) -> Iterator[bytes]:
    """The pieces without their Content-Encoding, never more than ``limit`` bytes in all or ``CHUNK`` at once.

    Raises TooLarge, Cut, Garbled.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        yield from pieces
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise Garbled(f"Content-Encoding {coding[:20]!r}, which was not asked for")
    inflater: _Decompress | None = None
    total = 0
    for piece in pieces:
        while piece:
            if inflater is None or (inflater.eof and coding != "deflate"):  # a gzip file may have several members
                inflater = zlib.decompressobj(_window(coding, piece))
            elif inflater.eof:
                break
            try:
                out = inflater.decompress(piece, CHUNK)
            except zlib.error:
                raise Garbled(f"Content-Encoding {coding}, but the body is not") from None
            total += len(out)
            if total > limit:
                raise TooLarge(f"more than {limit} bytes when unpacked")
            if out:
                yield out
            piece = inflater.unconsumed_tail or inflater.unused_data
    if inflater is not None and not inflater.eof:
        yield inflater.flush()  # the rest of one symbol, if all input was used as the last chunk filled up
    if inflater is not None and not inflater.eof:
        raise Cut("the packed body ends too early")


def _window(coding: str, start: bytes) -> int:
    """zlib's wbits: servers send "deflate" with and without zlib's header (its first byte is 0x78 in practice)."""
    if coding != "deflate":
        return 31
    return 15 if start[:1] == b"\x78" else -15


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined
