"""A network that misbehaves as told: an HTTP proxy on loopback before a real server."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal[
    "lose answer",
    "cut body",
    "reset",
    "drip",
    "trickle",
    "refuse",
    "throttle",
    "expire",
    "hang up",
    "say 200",
    "alter body",
    "stall",
    "stall body",
    "shorten",
    "flip",
    "say html",
    "say nothing",
    "redirect",
    "misdate",
    "forget more",
]
# What a busy server says, and one whose keys have run out.
_SAID = {
    "refuse": (503, b"<Error><Code>SlowDown</Code></Error>"),
    "throttle": (429, b"<Error><Code>TooManyRequests</Code></Error>"),
    "say html": (200, b"<html><body>Welcome to our network</body></html>"),
    "say nothing": (200, b""),
    "expire": (403, b"<Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error>"),
}


@dataclass
class Proxy:
    """Each request of a method suffers the next fault planned for it; ``always`` befalls those without."""

    target: int  # port
    port: int = 0
    plan: list[tuple[str, Fault]] = field(default_factory=list)
    always: Fault | None = None
    requests: list[str] = field(default_factory=list)  # "METHOD path", in order of arrival
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)  # stalled connections end with the proxy

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append(f"{method} {path}")
            for planned in self.plan:
                if planned[0] == method:
                    self.plan.remove(planned)
                    return planned[1]
        return self.always


@contextmanager
def faulty(target: int) -> Iterator[Proxy]:
    """A proxy before the port of a server on loopback."""
    proxy = Proxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.fault(self.command, self.path)
            if fault == "hang up":
                self.close_connection = True
                return
            if fault in _SAID:
                status, said = _SAID[fault]
                self.answer(status, {"Content-Type": "application/xml"}, said)
                return
            if fault == "stall":
                self.close_connection = True
                proxy.ended.wait()
                return
            if fault == "redirect":
                self.answer(301, {"Location": f"{self.path}/"}, b"")
                return
            if fault == "say 200":
                self.answer(200, {"ETag": '"0"'}, b"")
                return
            onward = http.client.HTTPConnection("127.0.0.1", proxy.target)
            try:
                onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "expect":
                        onward.putheader(name, value)
                onward.endheaders(bytes(len(body)) if fault == "alter body" else body)
                answer = onward.getresponse()
                content = answer.read()
            finally:
                onward.close()
            if fault == "lose answer":
                self.close_connection = True
                return
            if fault == "shorten":  # by a middlebox, with a length that matches
                content = content[: len(content) // 2]
            if fault == "misdate":
                content = content.replace(b"<LastModified>20", b"<LastModified>2x")
            if fault == "forget more":
                content = content.replace(b"<IsTruncated>true", b"<IsTruncated>tsue")
            if fault == "flip" and content:
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            if self.command == "HEAD":
                headers["Content-Length"] = answer.getheader("Content-Length") or "0"
            self.answer(answer.status, headers, content, fault)

        def answer(self, status: int, headers: dict[str, str], content: bytes, fault: Fault | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if fault in ("cut body", "reset", "stall body"):
                content = content[: len(content) * 2 // 3]
                self.close_connection = True
            if fault == "trickle":  # a byte at a time, so slowly that it never ends
                self.close_connection = True
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    if proxy.ended.wait(0.02):
                        break
            elif self.command != "HEAD":
                for start in range(0, len(content), len(content) // 20 + 1 if fault == "drip" else len(content) or 1):
                    self.wfile.write(content[start : start + len(content) // 20 + 1] if fault == "drip" else content)
                    time.sleep(0.01 if fault == "drip" else 0)
            if fault == "stall body":
                self.wfile.flush()
                proxy.ended.wait()
            if fault == "reset":  # closed with what it had not read: the other side gets a reset and no end
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.wfile.flush()
                self.connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


_HOP = {"content-length", "transfer-encoding", "connection", "date", "server"}
