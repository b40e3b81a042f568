"""The page, and a receiver of notices, on real servers on free ports of this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from tests.conftest import HANGS_S

TOKEN = "test-owner-token-0123456789"


def visit(address: str, **options: Any) -> httpx.Client:
    """A client that sends the owner's token TOKEN."""
    return httpx.Client(base_url=address, timeout=30, headers={"Authorization": f"Bearer {TOKEN}"}, **options)


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """The address of the application, as long as the context lasts."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
    up = threading.Event()
    started = server.startup

    async def startup(sockets: object = None) -> None:
        await started(sockets)  # type: ignore[arg-type]  # passed on as it is
        up.set()

    server.startup = startup  # type: ignore[method-assign]  # uvicorn tells nobody that it listens
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert up.wait(HANGS_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def receiving() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of a server for notices, and the JSON of those that it got so far."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def take(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    setattr(Handler, "do_POST", Handler.take)  # noqa: B010  # the name that the standard library asks for
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"json://127.0.0.1:{server.server_port}/token", received
        finally:
            server.shutdown()
