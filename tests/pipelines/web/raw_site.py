"""A server on loopback that sends what a test says, byte by byte: for responses that no correct server sends."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Send = Callable[[bytes], None]


class RawSite:
    """Calls ``answer(path, number, send)`` for each request; ``number`` counts those of one connection from 0.

    The connection ends when ``answer`` returns True. robots.txt is a 404 with ``Connection: close``.
    """

    def __init__(self, answer: Callable[[str, int, Send], object]) -> None:
        self.connections: list[list[str]] = []  # the paths asked for on each
        site = self

        class Handler(socketserver.BaseRequestHandler):
            request: socket.socket

            def handle(self) -> None:
                paths: list[str] = []
                buffer = b""
                with contextlib.suppress(OSError):
                    while True:
                        while b"\r\n\r\n" not in buffer:
                            piece = self.request.recv(65536)
                            if not piece:
                                return
                            buffer += piece
                        head, _, buffer = buffer.partition(b"\r\n\r\n")
                        path = head.split(b" ")[1].decode()
                        if path == "/robots.txt":
                            self.request.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                            return
                        if not paths:
                            site.connections.append(paths)
                        paths.append(path)
                        if answer(path, len(paths) - 1, self.request.sendall):
                            return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def response(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
