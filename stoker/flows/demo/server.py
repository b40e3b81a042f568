"""The demo's web server on loopback: byte ranges, ETags, and a page that answers 503 to its first request."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stoker.flows.demo import dump, film
from stoker.flows.demo.dump import put
from stoker.flows.demo.site import BUSY_ONCE, HTML, PHOTOGRAPHERS, PHOTOGRAPHS_LICENCE, Response, build, html, listing
from stoker.flows.services.prefect_server import free_port

HOST = "127.0.0.1"
PORT = 8747  # the one that recipes/*.toml name
FILM = "/film.mp4"
HANDBOOK = "/handbook/"
WIKI = "/wiki/"
_HANDBOOK_AUTHOR = "Python documentation authors"
_PSF = "https://docs.python.org/3/license.html"
_DATE = "Wed, 01 Jan 2025 00:00:00 GMT"  # the same in every run, like everything that is served
_MISSING = Response(b"There is no such page.\n", "text/plain; charset=utf-8", status=404)
_BUSY = Response(b"Busy, ask again.\n", "text/plain; charset=utf-8", status=503, headers={"Retry-After": "1"})


def content(folder: Path, port: int = PORT) -> dict[str, Response]:
    """Everything the site serves, by path. The film and the dump are made once and kept in the folder."""
    site = build()
    if not (folder / "film.mp4").exists():
        film.make(folder / "film.mp4")
    if not (folder / f"{dump.NAME}.xml.bz2").exists():
        dump.make(folder, f"http://{HOST}:{port}{WIKI}Main_Page")
    site[FILM] = Response((folder / "film.mp4").read_bytes(), "video/mp4")
    player = f'<video src="{FILM}" width="{film.WIDTH}" height="{film.HEIGHT}" controls></video>'
    by = " and ".join(PHOTOGRAPHERS.values())
    page = html("A short film made from the photographs", PHOTOGRAPHS_LICENCE, by, player)
    site["/film.html"] = Response(page, HTML)
    names = [f"{dump.NAME}{end}" for end in (".xml.bz2", "-index.txt.bz2")]
    for name in names:
        site[HANDBOOK + name] = Response((folder / name).read_bytes(), "application/x-bzip2")
    links = listing([(HANDBOOK + name, name) for name in names])
    page = html("The Python handbook as a wiki dump", _PSF, _HANDBOOK_AUTHOR, links)
    site[HANDBOOK] = Response(page, HTML)
    for article in dump.pages():  # at the addresses that the samples of the dump have as their source
        text = f"<pre style='white-space:pre-wrap'>{escape(article.text)}</pre>"
        page = html(article.title, _PSF, _HANDBOOK_AUTHOR, text)
        site[WIKI + article.title.replace(" ", "_")] = Response(page, HTML)
    return site


class SiteServer(ThreadingHTTPServer):
    """The site's HTTP server; it listens as soon as it is constructed. ``requests`` counts those for each path."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, pages: Mapping[str, Response], port: int = 0) -> None:
        self.pages = pages
        self.requests: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The address of the first page, with its slash."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def respond(self, path: str) -> Response:
        """Count a request for a path, and return its response."""
        with self._lock:
            self.requests[path] += 1
            first = self.requests[path] == 1
        return _BUSY if path == BUSY_ONCE and first else self.pages.get(path, _MISSING)


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    protocol_version = "HTTP/1.1"
    server_version = "StokerDemo/1"
    disable_nagle_algorithm = True
    wbufsize = -1  # buffered: header and body go in one packet, or each small picture waits for a delayed ACK
    timeout = 30

    def do_GET(self) -> None:
        self._send(body=True)

    def do_HEAD(self) -> None:
        self._send(body=False)

    def _send(self, *, body: bool) -> None:
        response = self.server.respond(unquote(urlsplit(self.path).path))
        tag = f'"{hashlib.sha256(response.payload).hexdigest()[:32]}"'
        if response.status == 200:
            response = self._range(response, tag)
        self.send_response(response.status)
        headers = {"Content-Type": response.content_type, "Content-Length": str(len(response.payload))}
        if response.status in (200, 206):
            headers |= {"ETag": tag, "Last-Modified": _DATE, "Accept-Ranges": "bytes"}
        for name, text in (headers | dict(response.headers)).items():
            self.send_header(name, text)
        self.end_headers()
        if body:
            self.wfile.write(response.payload)

    def _range(self, response: Response, tag: str) -> Response:
        """The response, or the byte range of it that the request asks for (RFC 9110, 14.2)."""
        byte_range = self.headers.get("Range", "")
        if not byte_range.startswith("bytes=") or self.headers.get("If-Range", tag) not in (tag, _DATE):
            return response
        first, _, last = byte_range.removeprefix("bytes=").partition("-")
        size = len(response.payload)
        if not (first + last).isdecimal():  # several ranges, or a malformed one: a server may send the whole
            return response
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            return replace(response, payload=b"", status=416, headers={"Content-Range": f"bytes */{size}"})
        content_range = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return replace(
            response, payload=response.payload[start:stop], status=206, headers=dict(response.headers) | content_range
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        """Log nothing: this terminal shows the demo's progress."""


@contextmanager
def serving(pages: Mapping[str, Response], port: int = 0) -> Iterator[SiteServer]:
    """Serve the site from a thread of this process while the context lasts."""
    with SiteServer(pages, port) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def main(folder: Path) -> None:
    """Serve the demo's site at its recorded address until the process is ended."""
    port = port_of(folder)
    with SiteServer(content(folder, port), port) as site:
        site.serve_forever()


def port_of(folder: Path) -> int:
    """The site's port: the recorded one, or else a free one."""
    try:
        return int((folder / "port").read_text())
    except (FileNotFoundError, ValueError):
        return free_port(PORT)


def record_port(folder: Path, port: int) -> None:
    """Record the port, so that later runs use the same addresses; from now on `stoker up` serves the site."""
    put(folder / "port", f"{port}\n".encode())
