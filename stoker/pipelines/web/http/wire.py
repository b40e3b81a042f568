"""A TCP or TLS connection to an origin: deadlines, connecting to allowed addresses, sending a GET.

Every read obeys the deadline, so a server that sends one byte now and then is stopped in its headers as well as in its
body. ``kept`` says when a connection may carry another request.
"""

import select
import socket
import ssl
import time
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from stoker.pipelines.web.http.addresses import Resolver
from stoker.pipelines.web.http.faults import DeadlineExceeded
from stoker.pipelines.web.http.response import Response, read_response
from stoker.pipelines.web.links import PORTS


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
    """An open connection to one origin (scheme, host and port); closed at the end of a ``with`` block."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self.deadline = deadline
        self.answered_at = 0.0  # when the last response was complete; time.monotonic()
        self.rested = False  # whether it was silent for a while before this request; see ``kept``
        self.slowest_s = 0.0  # the longest wait for a response's head so far

    def send(self, payload: bytes) -> None:
        """Send all bytes before the deadline. Raises OSError."""
        self._sock.settimeout(self.deadline.next_timeout())
        self._sock.sendall(payload)

    def receive(self, size: int) -> bytes:
        """The next bytes, at most ``size``; b"" at the end. Raises DeadlineExceeded, TimeoutError, OSError."""
        self._sock.settimeout(self.deadline.next_timeout())
        return self._sock.recv(size)

    def listen(self, wait_s: float) -> bytes | None:
        """What the server sends unasked within the time: b"" if it closes the connection, None if it is silent.

        A byte that comes is lost, so only a silent connection can be used again.
        """
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        buffered = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        if not buffered and not poll.poll(wait_s * 1000):
            return None
        self._sock.settimeout(0)
        try:
            return self._sock.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):  # TLS alone had something to say: a session ticket
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


def send_get(connection: Connection, url: str, headers: Mapping[str, str]) -> Response:
    """Send a GET for a URL in normal form; read the response's status and headers.

    Raises ProtocolError, IncompleteResponse, OSError.
    """
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    connection.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
    sent = time.monotonic()
    response = read_response(connection)
    connection.slowest_s = max(connection.slowest_s, time.monotonic() - sent)
    return response
