"""HTTP/1.1 over one connection: send a GET, read the response, with limits on time, bytes and header lines.

The standard library's ``http.client.HTTPResponse`` parses the response. It reads from a socket whose every read obeys
the deadline, so a server that sends one byte now and then is stopped in its headers as well as in its body.
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

from stoker.pipelines.web.http.addresses import Resolver
from stoker.pipelines.web.links import PORTS

if TYPE_CHECKING:
    from zlib import _Decompress  # typeshed's name; it has no public one

READ_SIZE = 1 << 16  # bytes
MAX_IDLE_S = 15.0  # servers close idle connections; older ones are not used again


class BodyTooLarge(Exception):
    """The body has more bytes than allowed."""


class IncompleteBody(Exception):
    """The connection ended before the body did."""


class ProtocolError(Exception):
    """The response is not HTTP, or has a Content-Encoding that was not asked for."""


class DeadlineExceeded(TimeoutError):
    """The time for the whole response is over."""


class Deadline:
    """When a fetch must be done (monotonic clock), and how long to wait for the next byte until then."""

    def __init__(self, seconds: float, read_timeout_s: float) -> None:
        self._at = time.monotonic() + seconds
        self._read_timeout_s = read_timeout_s

    def next_timeout(self) -> float:
        """Seconds to wait for the next byte. Raises DeadlineExceeded when the time is over."""
        remaining = self._at - time.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded("the whole response took too long")
        return min(remaining, self._read_timeout_s)

    def extend(self, seconds: float) -> None:
        """Allow more time: for waits that the rate limit imposed, and for bytes received of a large download."""
        self._at += seconds


class Connection:
    """An open connection to one origin (scheme, host and port)."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.sock = sock
        self.deadline = deadline
        self.last_used = time.monotonic()

    def sendall(self, payload: bytes) -> None:
        """Send all bytes before the deadline."""
        self.sock.settimeout(self.deadline.next_timeout())
        self.sock.sendall(payload)

    def makefile(self, mode: str = "rb") -> io.BufferedReader:
        """The stream that HTTPResponse reads from."""
        return io.BufferedReader(_DeadlineReader(self), READ_SIZE)

    def is_reusable(self) -> bool:
        """Whether it may carry another request: not too old, not closed by the server, no unread bytes."""
        if time.monotonic() - self.last_used > MAX_IDLE_S:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


class _DeadlineReader(io.RawIOBase):
    """Reads from a connection's socket; each read waits no longer than the deadline allows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed has no name for it
        self._connection.sock.settimeout(self._connection.deadline.next_timeout())
        return self._connection.sock.recv_into(buffer)


def connect(url: str, resolver: Resolver, deadline: Deadline) -> Connection:
    """A new connection to the URL's origin. Raises OSError (PrivateAddress and ssl.SSLError among them)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    sock = resolver.connect(host, parts.port or PORTS[parts.scheme], timeout_s=deadline.next_timeout())
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            sock.settimeout(deadline.next_timeout())
            sock = tls_context().wrap_socket(sock, server_hostname=host)
        return Connection(sock, deadline)
    except BaseException:
        sock.close()
        raise


@cache
def tls_context() -> ssl.SSLContext:
    """The TLS context for all connections. Cached: loading the certificates takes about 25 ms of processor time."""
    context = ssl.create_default_context()
    try:
        import certifi  # beside the system's certificates, which minimal containers lack
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context


class Response:
    """Status and headers of a response; the body is read from the connection as it arrives."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = _merge_headers(response.headers.items())  # names in lower case
        declared = response.headers.get("content-length", "").strip()
        self.length = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else None

    def body(self, limit: int) -> Iterator[bytes]:
        """The body as sent, at most ``limit`` bytes. Raises BodyTooLarge, IncompleteBody, ProtocolError, OSError."""
        if self.length is not None and self.length > limit and not self._response.chunked:
            raise BodyTooLarge(f"{self.length} bytes announced, at most {limit} allowed")
        received = 0
        while not self._response.isclosed():
            try:
                piece = self._response.read(READ_SIZE)
            except http.client.IncompleteRead as error:
                received += len(error.partial)
                raise IncompleteBody(f"cut after {received} bytes") from None
            except (http.client.HTTPException, ValueError) as error:
                raise ProtocolError(type(error).__name__) from None
            if not piece:
                break
            received += len(piece)
            if received > limit:
                raise BodyTooLarge(f"more than {limit} bytes")
            yield piece
        if self.length is not None and not self._response.chunked and received < self.length:
            raise IncompleteBody(f"cut after {received} of {self.length} bytes")

    def is_reusable(self) -> bool:
        """Whether the body was read to its end and the connection stays open."""
        return self._response.isclosed() and not self._response.will_close

    def close(self) -> None:
        """Stop reading the response; the connection stays open."""
        self._response.close()


def send_get(connection: Connection, url: str, headers: Mapping[str, str]) -> Response:
    """Send a GET for a URL in normal form; read the response's status and headers. Raises ProtocolError, OSError."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    response = http.client.HTTPResponse(connection, method="GET")  # type: ignore[arg-type]  # it only calls makefile()
    try:
        response.begin()
        return Response(response)
    except http.client.RemoteDisconnected:
        response.close()
        raise ConnectionResetError("closed without a response") from None
    except (http.client.HTTPException, ValueError) as error:
        response.close()
        raise ProtocolError(f"not HTTP ({type(error).__name__})") from None
    except BaseException:
        response.close()
        raise


def decode_content(pieces: Iterator[bytes], coding: str, limit: int) -> Iterator[bytes]:
    """The pieces with their Content-Encoding undone, at most ``limit`` bytes in all and ``READ_SIZE`` at once.

    Raises BodyTooLarge, IncompleteBody, ProtocolError.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        yield from pieces
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise ProtocolError(f"Content-Encoding {coding[:20]!r}, which was not asked for")
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
        raise IncompleteBody("the compressed body ends too early")


def _window_bits(coding: str, start: bytes) -> int:
    """zlib's wbits: servers send "deflate" with and without zlib's header (its first byte is 0x78 in practice)."""
    if coding != "deflate":
        return 31
    return 15 if start[:1] == b"\x78" else -15


def _merge_headers(headers: list[tuple[str, str]]) -> dict[str, str]:
    """The headers by name in lower case; values of a repeated name are joined by commas."""
    merged: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        merged[name] = f"{merged[name]}, {value}" if name in merged else value
    return merged
