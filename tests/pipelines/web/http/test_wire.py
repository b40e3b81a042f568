"""Bodies, encodings, limits and deadlines, against a server that misbehaves."""

import gzip
import threading
import time
from dataclasses import replace

import pytest

from stoker.pipelines.web.client import Web
from stoker.pipelines.web.http import exchange
from stoker.pipelines.web.http.kept import REST_S
from stoker.pipelines.web.policy import Fetched, Transient
from tests.conftest import HANGS_S
from tests.pipelines.web.raw_site import RawSite, Send, response
from tests.site import FAST, MEGABYTE, Reply, Site, get, reason


def test_a_slow_body_ends_at_the_deadline(site: Site) -> None:
    web = replace(FAST, deadline_s=0.8)
    site.pages["/a"] = Reply(b"x" * 1000, drip_s=0.05)
    began = time.monotonic()
    assert reason(get(web, site, "/a")) == "timeout"
    assert time.monotonic() - began < 10  # the whole answer takes more than 20
    assert len(site.asked("/a")) == 1
    web.close()


def test_slow_headers_end_at_the_deadline(site: Site) -> None:
    web = replace(FAST, deadline_s=0.8)
    site.pages["/a"] = Reply(b"x", headers={"X": "y" * 500}, drip_s=0.05, drip_head=True)
    began = time.monotonic()
    assert reason(get(web, site, "/a")) == "timeout"
    assert time.monotonic() - began < 10  # the whole answer takes more than 20
    web.close()


def test_a_server_that_sends_nothing_is_a_timeout(site: Site) -> None:
    web = replace(FAST, timeout_s=0.2, attempts=2)
    site.pages["/a"] = Reply(b"x", delay_s=5)
    assert reason(get(web, site, "/a")) == "timeout"
    assert len(site.asked("/a")) == 2
    web.close()


def test_a_content_length_over_the_limit_is_rejected_before_the_body_is_read(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x" * 1000, length=10**10)
    assert reason(get(web, site, "/a")) == "too_large"
    assert len(site.asked("/a")) == 1


def test_a_body_over_the_limit_without_content_length_is_rejected(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x" * 2 * MEGABYTE, length=-1)
    assert reason(get(web, site, "/a")) == "too_large"


@pytest.mark.parametrize("layers", [1, 20])
def test_a_gzip_bomb_is_rejected_before_it_is_decompressed(site: Site, web: Web, layers: int) -> None:
    bomb = gzip.compress(bytes(30 * MEGABYTE)) if layers == 1 else gzip.compress(bytes(MEGABYTE)) * layers
    site.pages["/a"] = Reply(bomb, headers={"Content-Encoding": "gzip"})
    assert reason(get(web, site, "/a")) == "too_large"


def test_a_compressed_body_is_decompressed(site: Site, web: Web) -> None:
    page = b"hello " * 50_000
    site.pages["/a"] = Reply(gzip.compress(page), headers={"Content-Encoding": "gzip"})
    site.pages["/b"] = Reply(gzip.compress(page)[:-20], headers={"Content-Encoding": "gzip"})
    site.pages["/c"] = Reply(page, headers={"Content-Encoding": "br"})
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.content == page
    assert reason(get(web, site, "/b")) == "truncated"
    assert reason(get(web, site, "/c")) == "corrupt"


def test_a_chunked_body_is_joined_and_an_incomplete_one_is_detected(site: Site, web: Web) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    site.pages["/a"] = Reply(raw=head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    site.pages["/b"] = Reply(raw=head + b"3\r\nabc\r\n5\r\nde")
    site.pages["/c"] = Reply(raw=head + b"zz\r\nabc")
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.content == b"abcde"
    assert reason(get(web, site, "/b")) == "truncated"
    assert isinstance(get(web, site, "/c"), Transient)


def test_an_incomplete_body_is_tried_again_and_then_truncated(site: Site, web: Web) -> None:
    site.pages["/a"] = [Reply(b"x" * 1000, cut=500), Reply(b"x" * 1000)]
    site.pages["/b"] = Reply(b"x" * 1000, length=2000)
    assert isinstance(get(web, site, "/a"), Fetched)
    assert reason(get(web, site, "/b")) == "truncated"


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"\0" * 100_000]
)
def test_a_response_that_is_not_http_is_transient(site: Site, web: Web, raw: bytes) -> None:
    site.pages["/a"] = Reply(raw=raw)
    assert isinstance(get(web, site, "/a"), Transient)


@pytest.mark.parametrize("size", [1, 9, 17, 40])
def test_a_head_that_is_cut_is_truncated_and_tried_again(site: Site, web: Web, size: int) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: b\r\n\r\nhere"
    site.pages["/a"] = [Reply(raw=whole[:size]), Reply(raw=whole)]
    site.pages["/b"] = Reply(raw=whole[:size])
    assert isinstance(get(web, site, "/a"), Fetched)
    outcome = get(web, site, "/b")
    assert (reason(outcome), isinstance(outcome, Transient)) == ("truncated", True)


def test_a_header_behind_a_line_without_a_colon_counts(site: Site, web: Web) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nthis is no header\r\n"
    site.pages["/a"] = Reply(raw=head + b"\r\nx")
    site.pages["/b"] = Reply(raw=head + b"X-Robots-Tag: noai\r\n\r\nx")
    assert isinstance(get(web, site, "/a"), Fetched)
    assert reason(get(web, site, "/b")) == "opted_out"


@pytest.mark.parametrize(
    "framing", ["Content-Length: 5000", "Content-Length: 9000000000", "Transfer-Encoding: chunked", "X: y"]
)
@pytest.mark.parametrize("status", ["302 Found", "404 No", "500 Oops"])
def test_a_body_that_nobody_wants_is_not_waited_for(status: str, framing: str) -> None:
    """The server sends its head and then nothing, or a byte now and then."""

    def answer(path: str, number: int, send: Send) -> object:
        if path == "/target":
            send(response(b"here"))
            return True
        send(f"HTTP/1.1 {status}\r\nLocation: /target\r\n{framing}\r\n\r\n".encode())
        for _ in range(0 if path == "/silent" else 3000):
            send(b"1\r\nx\r\n")
            time.sleep(0.01)
        over.wait(HANGS_S)
        return True

    over = threading.Event()
    web = replace(FAST, timeout_s=30, deadline_s=90, attempts=1)
    with RawSite(answer) as site:
        for path in ("/silent", "/drip"):
            began = time.monotonic()
            outcome = web.get(site.url(path), max_size=100)
            assert time.monotonic() - began < 15, "the whole body would take at least 30 s"
            expected = {"302": "", "404": "gone", "500": "unreachable"}[status[:3]]
            assert ("" if isinstance(outcome, Fetched) else reason(outcome)) == expected
        over.set()
    web.close()


def test_a_short_unwanted_body_still_leaves_its_connection_open(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_DRAIN_S", HANGS_S)  # a busy machine may take longer than real servers are given
    web = replace(FAST, connections_per_host=1, robots=False)
    site.pages["/a"] = Reply(b"x")
    for _ in range(2):
        get(web, site, "/gone")
        time.sleep(2 * REST_S)  # what ``kept`` asks for before a connection carries another request
    first, second = (request.connection for request in site.asked("/gone"))
    assert first == second
    web.close()
