"""The demo's web site over HTTP on loopback: byte ranges, ETags, and a page that is busy when first asked for."""

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
from stoker.flows.demo.site import BUSY_ONCE, HTML, PHOTOGRAPHERS, PHOTOGRAPHS_LICENCE, Answer, build, html, listing
from stoker.flows.services.prefect_server import free_port

HOST = "127.0.0.1"
PORT = 8747  # the one that recipes/*.toml name
FILM = "/film.mp4"
HANDBOOK = "/handbook/"
WIKI = "/wiki/"
_HANDBOOK_AUTHOR = "Python documentation authors"
_PSF = "https://docs.python.org/3/license.html"
_DATE = "Wed, 01 Jan 2025 00:00:00 GMT"  # the same in every run, like everything that is served
_MISSING = Answer(b"There is no such page.\n", "text/plain; charset=utf-8", status=404)
_BUSY = Answer(b"Busy, ask again.\n", "text/plain; charset=utf-8", status=503, headers={"Retry-After": "1"})


def content(folder: Path, port: int = PORT) -> dict[str, Answer]:
    """Everything the site serves, by path. The film and the dump are made in the folder once and kept there."""
    site = build()
    if not (folder / "film.mp4").exists():
        film.make(folder / "film.mp4")
    if not (folder / f"{dump.NAME}.xml.bz2").exists():
        dump.make(folder, f"http://{HOST}:{port}{WIKI}Main_Page")
    site[FILM] = Answer((folder / "film.mp4").read_bytes(), "video/mp4")
    player = f'<video src="{FILM}" width="{film.WIDTH}" height="{film.HEIGHT}" controls></video>'
    by = " and ".join(PHOTOGRAPHERS.values())
    page = html("A short film made from the photographs", PHOTOGRAPHS_LICENCE, by, player)
    site["/film.html"] = Answer(page, HTML)
    names = [f"{dump.NAME}{end}" for end in (".xml.bz2", "-index.txt.bz2")]
    for name in names:
        site[HANDBOOK + name] = Answer((folder / name).read_bytes(), "application/x-bzip2")
    links = listing([(HANDBOOK + name, name) for name in names])
    page = html("The Python handbook as a wiki dump", _PSF, _HANDBOOK_AUTHOR, links)
    site[HANDBOOK] = Answer(page, HTML)
    for one in dump.pages():  # where the samples of the dump say that they come from
        page = html(one.title, _PSF, _HANDBOOK_AUTHOR, f"<pre style='white-space:pre-wrap'>{escape(one.text)}</pre>")
        site[WIKI + one.title.replace(" ", "_")] = Answer(page, HTML)
    return site


class Site(ThreadingHTTPServer):
    """The site, listening from its construction on. ``asked`` counts the requests for each path."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, pages: Mapping[str, Answer], port: int = 0) -> None:
        self.pages = pages
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The address of the first page, with its slash."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def answer(self, path: str) -> Answer:
        """What to say to this request for a path."""
        with self._lock:
            self.asked[path] += 1
            first = self.asked[path] == 1
        return _BUSY if path == BUSY_ONCE and first else self.pages.get(path, _MISSING)


class _Handler(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"
    server_version = "StokerDemo/1"
    disable_nagle_algorithm = True
    wbufsize = -1  # header and body leave together, or each small picture waits for a delayed ACK
    timeout = 30

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        answer = self.server.answer(unquote(urlsplit(self.path).path))
        tag = f'"{hashlib.sha256(answer.payload).hexdigest()[:32]}"'
        if answer.status == 200:
            answer = self._part(answer, tag)
        self.send_response(answer.status)
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.payload))}
        if answer.status in (200, 206):
            headers |= {"ETag": tag, "Last-Modified": _DATE, "Accept-Ranges": "bytes"}
        for name, text in (headers | dict(answer.headers)).items():
            self.send_header(name, text)
        self.end_headers()
        if body:
            self.wfile.write(answer.payload)

    def _part(self, answer: Answer, tag: str) -> Answer:
        """The answer, or the range of its bytes that was asked for (RFC 9110, 14.2)."""
        asked = self.headers.get("Range", "")
        if not asked.startswith("bytes=") or self.headers.get("If-Range", tag) not in (tag, _DATE):
            return answer
        first, _, last = asked.removeprefix("bytes=").partition("-")
        size = len(answer.payload)
        if not (first + last).isdecimal():  # several ranges, or none: a server may answer with the whole
            return answer
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            return replace(answer, payload=b"", status=416, headers={"Content-Range": f"bytes */{size}"})
        span = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return replace(answer, payload=answer.payload[start:stop], status=206, headers=dict(answer.headers) | span)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        """Say nothing: the terminal belongs to the demo."""


@contextmanager
def serving(pages: Mapping[str, Answer], port: int = 0) -> Iterator[Site]:
    """The site served from a thread of this process while the context lasts."""
    with Site(pages, port) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def main(folder: Path) -> None:
    """Serve the demo's site at its remembered address until the process is ended."""
    port = port_of(folder)
    with Site(content(folder, port), port) as site:
        site.serve_forever()


def port_of(folder: Path) -> int:
    """The site's port: the remembered one, or else a free one."""
    try:
        return int((folder / "port").read_text())
    except (FileNotFoundError, ValueError):
        return free_port(PORT)


def remember_port(folder: Path, port: int) -> None:
    """Keep the port, so that a second run finds the same addresses. `stoker up` serves the site from then on."""
    put(folder / "port", f"{port}\n".encode())
