"""Rate limits, pauses and cool-downs of hosts, shared by all threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise

import pytest

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched, Transient
from tests.site import FAST, Reply, Site, get


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_no_thread_sends_a_request_before_retry_after(site: Site, web: Web, status: int, dated: bool) -> None:
    moment = int(time.time()) + 2  # a date has whole seconds: 1 to 2 from now
    until = formatdate(moment, usegmt=True)
    site.pages["/a"] = [Reply(b"later", status, {"Retry-After": until if dated else "1"}), Reply(b"here")]
    site.pages["/b"] = Reply(b"other")
    get(web, site, "/robots.txt")
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(get, web, site, "/a")
        while not site.asked("/a"):
            time.sleep(0.01)
        time.sleep(0.1)
        others = [pool.submit(get, web, site, "/b") for _ in range(3)]
        assert all(isinstance(future.result(), Fetched) for future in [first, *others])
    refused, *later = [request for request in site.log if request.path != "/robots.txt"]
    due = moment - time.time() + time.monotonic() if dated else refused.at + 1
    assert min(request.at for request in later) >= due - 0.02


def test_a_retry_after_over_the_limit_ends_requests_to_the_host(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"later", 429, {"Retry-After": "3600"})
    assert isinstance(get(web, site, "/a"), Transient)
    assert web.is_down(site.url("/"))
    assert isinstance(get(web, site, "/b"), Transient)
    assert site.pages_asked == ["/a"]


def test_requests_to_a_host_keep_the_rate_and_the_number_of_connections(site: Site) -> None:
    web = replace(FAST, requests_per_second=10, connections_per_host=2)
    for number in range(10):
        site.pages[f"/{number}"] = Reply(b"x", delay_s=0.3)
    with ThreadPoolExecutor(8) as pool:
        assert all(isinstance(outcome, Fetched) for outcome in pool.map(lambda n: get(web, site, f"/{n}"), range(10)))
    web.close()
    times = sorted(request.at for request in site.log)
    assert len(times) == 11, "robots.txt counts, too"
    assert times[-1] - times[0] >= 0.95
    assert min(after - before for before, after in pairwise(times)) >= 0.05  # 0.1 as sent, less jitter on the way
    assert site.most_at_once == 2


def test_a_crawl_delay_is_honoured_up_to_a_cap(site: Site, web: Web) -> None:
    site.pages["/robots.txt"] = Reply(b"User-agent: *\nCrawl-delay: 0.3\n")
    for number in range(3):
        get(web, site, f"/{number}")
    times = [request.at for request in site.log]
    assert min(after - before for before, after in pairwise(times)) >= 0.2  # 0.3 as sent, less jitter on the way


def test_a_host_that_never_answers_gets_no_requests_during_its_cooldown() -> None:
    with Site() as site:
        pass
    web = replace(FAST, failures_before_down=3, attempts=2, robots=False)
    outcomes = [web.get(site.url(f"/{number}"), max_size=100) for number in range(20)]
    assert all(isinstance(outcome, Transient) for outcome in outcomes)
    assert isinstance(outcomes[-1], Rejected)
    assert "is down" in outcomes[-1].detail
    assert not web.is_down(site.url("/")), "it never was up"
    web.close()


def test_a_host_that_goes_down_is_distinguished_from_a_url_that_fails() -> None:
    web = replace(FAST, failures_before_down=3)
    with Site() as site:
        site.pages["/bad"] = Reply(b"", 500)
        site.pages["/a"] = Reply(b"x")
        for _ in range(4):
            get(web, site, "/bad")
        assert not web.is_down(site.url("/"))
        assert isinstance(get(web, site, "/a"), Fetched)
    for _ in range(3):
        web.get(site.url("/a"), max_size=100)
    assert web.is_down(site.url("/"))
    web.close()


def test_a_host_is_tried_again_after_its_cooldown(site: Site) -> None:
    web = replace(FAST, failures_before_down=2, attempts=1, cooldown_s=0.2)
    site.pages["/a"] = [Reply(b"", 503), Reply(b"", 503), Reply(b"x")]
    assert isinstance(get(web, site, "/a"), Transient)
    assert isinstance(get(web, site, "/a"), Transient)
    assert isinstance(get(web, site, "/a"), Transient), "it rests"
    assert len(site.asked("/a")) == 2
    time.sleep(0.25)
    assert isinstance(get(web, site, "/a"), Fetched)
    web.close()


def test_a_wait_ends_when_it_is_cancelled(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 503, {"Retry-After": "20"})
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    assert isinstance(web.get(site.url("/a"), max_size=100, cancel=cancel), Transient)
    assert time.monotonic() - began < 10
