"""A web site on loopback for tests: real HTTP, a plan of what each path answers, a log of requests, a fast client."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from stoker.pipelines.rejected import REASONS, Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched

MEGABYTE = 1 << 20
FAST = Web(
    contact="mailto:us@example.org",
    allow_private=True,
    requests_per_second=0,
    timeout_s=2,
    deadline_s=4,
    attempts=3,
    backoff_s=0.01,
    max_wait_s=3,
    cooldown_s=0.3,
)


@dataclass(frozen=True)
class Reply:
    """One response; fields that are not set are as a correct server sends them."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None  # Content-Length, whatever the body's; -1: none, the body ends with the connection
    cut: int | None = None  # the connection is closed after so many bytes of the body
    delay_s: float = 0.0  # before the head
    drip_s: float = 0.0  # between two bytes of the body
    drip_head: bool = False  # also between two bytes of the head
    etag: str = ""  # with it, Range and If-Range are honoured
    raw: bytes | None = None  # sent instead of everything else


@dataclass(frozen=True)
class Request:
    """A request as the server received it."""

    at: float  # time.monotonic()
    path: str  # with the query
    headers: Mapping[str, str]  # names in lower case
    connection: tuple[str, int]


Plan = Reply | Sequence[Reply] | Callable[[Request], Reply]


class Site:
    """``pages`` maps a path to its reply, to replies in turn (the last one stays), or to a function of the request.

    A path that is not there is a 404. ``with Site() as site: site.pages["/a.jpg"] = Reply(...)``.
    """

    def __init__(self, host: str = "127.0.0.1", *, port: int = 0, robots: str | None = None) -> None:
        self.pages: dict[str, Plan] = {}
        if robots is not None:
            self.pages["/robots.txt"] = Reply(robots.encode())
        self.log: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._turns: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server((host, port), self)
        self._host = host
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def url(self, path: str = "/") -> str:
        return f"http://{self._host}:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.log if request.path == path]

    @property
    def pages_asked(self) -> list[str]:
        return [request.path for request in self.log if request.path != "/robots.txt"]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._thread.join()

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self.log.append(request)
            plan = self.pages.get(request.path, Reply(b"no such page", 404))
            if isinstance(plan, Sequence):
                turn = self._turns.get(request.path, 0)
                self._turns[request.path] = turn + 1
                plan = plan[min(turn, len(plan) - 1)]
        return plan if isinstance(plan, Reply) else plan(request)

    def wait(self, seconds: float) -> None:
        if seconds:
            self._stopping.wait(seconds)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.site = site
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request_thread(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        super().process_request_thread(request, client_address)
        self._open.discard(request)

    def hang_up(self) -> None:
        """A stopped server keeps no connection open."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = 0
    server: _Server

    def log_message(self, *args: object) -> None:
        """Print nothing; see Site.log."""

    def do_GET(self) -> None:
        site = self.server.site
        headers = {name.lower(): value for name, value in self.headers.items()}
        host, port = self.client_address[:2]
        # A request counts until its answer begins: the client may send the next one before this thread goes on.
        with site.answering():
            reply = site.answer(Request(time.monotonic(), self.path, headers, (host, port)))
            site.wait(reply.delay_s)
        try:
            self._send(reply, headers)
        except OSError:
            self.close_connection = True

    def _send(self, reply: Reply, headers: Mapping[str, str]) -> None:
        if reply.raw is not None:
            self.wfile.write(reply.raw)
            self.close_connection = True
            return
        status, body, extra = reply.status, reply.body, dict(reply.headers)
        if reply.etag:
            extra["ETag"] = reply.etag
            range_ = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
            if range_ and headers.get("if-range", reply.etag) == reply.etag:
                start = int(range_[1])
                status, extra["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
        length = len(body) if reply.length is None else reply.length
        if length >= 0 and "Transfer-Encoding" not in extra:
            extra["Content-Length"] = str(length)
        self.close_connection = self.close_connection or length != len(body) or reply.cut is not None
        lines = [f"HTTP/1.1 {status} Plan", *(f"{name}: {value}" for name, value in extra.items())]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._write(head, reply.drip_s if reply.drip_head else 0.0)
        self._write(body[: reply.cut], reply.drip_s)

    def _write(self, payload: bytes, drip_s: float) -> None:
        if not drip_s:
            self.wfile.write(payload)
            return
        for index in range(len(payload)):
            if self.server.site.stopping:
                return
            self.wfile.write(payload[index : index + 1])
            self.server.site.wait(drip_s)


def get(web: Web, site: Site, path: str, max_size: int = MEGABYTE) -> Fetched | Rejected:
    """The outcome of a GET; the reason of a reject is one of the vocabulary."""
    outcome = web.get(site.url(path), max_size=max_size)
    assert isinstance(outcome, Fetched) or outcome.reason in REASONS
    return outcome


def reason(outcome: Fetched | Rejected) -> str:
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason
