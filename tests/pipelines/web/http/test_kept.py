"""No response is ever taken for that of another request, whatever a server sends and when."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from stoker.pipelines.web.client import Web
from stoker.pipelines.web.http import kept
from stoker.pipelines.web.policy import Fetched
from tests.pipelines.web.raw_site import RawSite, Send, response
from tests.site import FAST, MEGABYTE, Reply, Site, get


@pytest.fixture
def eager() -> Iterator[Web]:
    """A client that sends requests to one host as fast as it answers, on four connections."""
    web = replace(FAST, connections_per_host=4, attempts=2, backoff_s=0.001)
    yield web
    web.close()


def outcomes(web: Web, site: RawSite, count: int = 24, pause_s: float = 0.0) -> Counter[str]:
    """How many URLs got their own body ("right"), and the reasons of the others; fails for another URL's body."""

    def fetch(number: int) -> str:
        time.sleep(pause_s)
        outcome = web.get(site.url(f"/{number}"), max_size=MEGABYTE)
        if isinstance(outcome, Fetched):
            assert outcome.content == f"body of /{number}".encode(), "another URL's body"
            return "right"
        return outcome.reason

    with ThreadPoolExecutor(4) as pool:
        return Counter(pool.map(fetch, range(count)))


def own(path: str) -> bytes:
    return response(f"body of {path}".encode())


@pytest.mark.parametrize("status", ["102 Processing", "103 Early Hints", "100 Continue"])
def test_an_interim_response_and_a_late_final_one_belong_together(eager: Web, status: str) -> None:
    def answer(path: str, number: int, send: Send) -> None:
        send(f"HTTP/1.1 {status}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode())
        time.sleep(0.1)
        send(own(path))

    with RawSite(answer) as site:
        assert outcomes(eager, site) == {"right": 24}


@pytest.mark.parametrize(
    "stray", [response(b"stray"), response(b"no", "400 Bad Request"), b"HTTP/1.1 408 Late\r\n\r\n", b"\r\n"]
)
@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.02, pytest.param(0.3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pause_s", [0.0, 0.25])
def test_a_response_that_nobody_asked_for_is_nobodys(eager: Web, stray: bytes, delay_s: float, pause_s: float) -> None:
    def answer(path: str, number: int, send: Send) -> None:
        send(own(path))
        time.sleep(delay_s)
        send(stray)

    with RawSite(answer) as site:
        assert outcomes(eager, site, 12, pause_s) == {"right": 12}


def test_a_stray_that_takes_the_place_of_a_response_on_a_used_connection_is_thrown_away(eager: Web) -> None:
    def answer(path: str, number: int, send: Send) -> None:
        if number:
            send(response(b"stray"))
        send(own(path))

    with RawSite(answer) as site:
        assert outcomes(eager, site, 12, 0.25) == {"right": 12}
        assert sum(len(paths) > 1 for paths in site.connections) <= 4, "after the first, no connection is used twice"


def test_an_error_on_a_used_connection_that_then_closes_is_asked_for_again(eager: Web) -> None:
    def answer(path: str, number: int, send: Send) -> bool:
        send(response(b"too many", "400 Bad Request") if number else own(path))
        return number > 0

    with RawSite(answer) as site:
        assert outcomes(eager, site, 12, 0.25)["right"] >= 8


@pytest.mark.parametrize(
    "disorder",
    [
        lambda path: own(path) + b"more than announced",
        lambda path: own(path).replace(b"Content-Length", b"no colon\r\nContent-Length"),
        lambda path: own(path).replace(b"HTTP/1.1", b"HTTP/1.0"),
        lambda path: own(path).replace(b"\r\n", b"\n"),
        lambda path: b"HTTP/1.1 103 Hints\r\n\r\n" + own(path),
    ],
)
def test_a_connection_is_not_used_again_after_any_doubt(eager: Web, disorder: Callable[[str], bytes]) -> None:
    def answer(path: str, number: int, send: Send) -> None:
        send(disorder(path))

    with RawSite(answer) as site:
        assert outcomes(eager, site, 8, 0.21) == {"right": 8}
        assert all(len(paths) == 1 for paths in site.connections)


def test_a_connection_is_used_again_after_a_rest_in_silence(site: Site, web: Web) -> None:
    for number in range(4):
        site.pages[f"/{number}"] = Reply(b"x") if number % 2 else Reply(b"no", 404)
        get(web, site, f"/{number}")
        time.sleep(kept.REST_S + 0.02)
    assert len({request.connection for request in site.log}) <= 2


def test_connections_to_a_host_that_proved_itself_are_used_at_once(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x")
    for _ in range(kept.RESTS + 3):
        get(web, site, "/a")
        time.sleep(kept.REST_S + 0.02)
    site.log.clear()
    for _ in range(20):
        get(web, site, "/a")
    assert len({request.connection for request in site.log}) <= 2


def test_a_kept_connection_that_the_server_closed_is_no_failed_attempt(site: Site) -> None:
    web = replace(FAST, attempts=1)
    site.pages["/a"] = [Reply(b"x", headers={"Connection": "keep-alive"}), Reply(b"y")]
    site.pages["/b"] = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz")  # keeps open in words alone
    try:
        for path in ("/b", "/a", "/b", "/a"):
            assert isinstance(get(web, site, path), Fetched)
            time.sleep(kept.REST_S + 0.02)
    finally:
        web.close()
