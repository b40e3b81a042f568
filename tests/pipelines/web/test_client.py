"""The polite client against a real server that misbehaves in every known way."""

import gzip
import hashlib
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path

import pytest

from stoker.pipelines.rejected import REASONS, Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched, Transient
from tests.site import Reply, Site

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
MEGABYTE = 1 << 20


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def web() -> Iterator[Web]:
    yield FAST
    FAST.close()


def get(web: Web, site: Site, path: str, max_size: int = MEGABYTE) -> Fetched | Rejected:
    outcome = web.get(site.url(path), max_size=max_size)
    assert isinstance(outcome, Fetched) or outcome.reason in REASONS
    return outcome


def reason(outcome: Fetched | Rejected) -> str:
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def test_an_answer_comes_whole_with_its_hash_and_headers(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x" * 100_000, headers={"Content-Type": "Image/JPEG; q=1"})
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.content == b"x" * 100_000
    assert fetched.sha256 == hashlib.sha256(fetched.content).hexdigest()
    assert (fetched.size, fetched.content_type) == (100_000, "image/jpeg")
    assert fetched.url == fetched.final_url == site.url("/a")
    assert fetched.fetched_at.endswith("+00:00")


def test_the_policy_can_be_pickled_and_used_again(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x")
    assert isinstance(get(web, site, "/a"), Fetched)
    assert isinstance(get(pickle.loads(pickle.dumps(web)), site, "/a"), Fetched)
    assert len(site.asked("/robots.txt")) == 1, "equal policies share what they know"


def test_the_user_agent_is_honest_and_names_a_contact(site: Site, web: Web) -> None:
    get(web, site, "/a")
    assert {one.headers["user-agent"].split()[0].split("/")[0] for one in site.log} == {"stoker"}
    assert all("(+mailto:us@example.org)" in one.headers["user-agent"] for one in site.log)


def test_connections_are_used_again(site: Site, web: Web) -> None:
    for number in range(5):
        site.pages[f"/{number}"] = Reply(b"x") if number % 2 else Reply(b"no", 404)
        get(web, site, f"/{number}")
    assert len({one.connection for one in site.log}) == 1


def test_a_connection_that_the_server_closed_meanwhile_is_no_failed_attempt(site: Site) -> None:
    web = replace(FAST, attempts=1)
    site.pages["/a"] = [Reply(b"x", headers={"Connection": "keep-alive"}), Reply(b"y")]
    site.pages["/b"] = Reply(
        raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz"
    )  # keeps open in words, closes in deed
    try:
        assert all(isinstance(get(web, site, path), Fetched) for path in ("/b", "/a", "/b", "/a"))
    finally:
        web.close()


@pytest.mark.parametrize(("status", "expected"), [(404, "gone"), (410, "gone"), (403, "forbidden"), (401, "forbidden")])
def test_a_refusal_is_final_and_asked_once(site: Site, web: Web, status: int, expected: str) -> None:
    site.pages["/a"] = Reply(b"no", status)
    assert reason(get(web, site, "/a")) == expected
    assert len(site.asked("/a")) == 1


def test_an_error_that_stays_is_tried_a_bounded_number_of_times(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"no", 500)
    outcome = get(web, site, "/a")
    assert reason(outcome) == "unreachable"
    assert isinstance(outcome, Transient)
    assert len(site.asked("/a")) == 3


def test_an_error_that_passes_is_no_reject(site: Site, web: Web) -> None:
    site.pages["/a"] = [Reply(b"busy", 503), Reply(b"here")]
    assert isinstance(get(web, site, "/a"), Fetched)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_nobody_asks_the_host_again_before_its_retry_after(site: Site, web: Web, status: int, dated: bool) -> None:
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
        assert all(isinstance(one.result(), Fetched) for one in [first, *others])
    refused, *later = [one for one in site.log if one.path != "/robots.txt"]
    due = moment - time.time() + time.monotonic() if dated else refused.at + 1
    assert min(one.at for one in later) >= due - 0.02


def test_a_host_that_asks_to_stay_away_for_long_is_left_alone(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"later", 429, {"Retry-After": "3600"})
    assert isinstance(get(web, site, "/a"), Transient)
    assert web.is_down(site.url("/"))
    assert isinstance(get(web, site, "/b"), Transient)
    assert site.pages_asked == ["/a"]


def test_requests_to_a_host_keep_their_distance_and_their_number(site: Site) -> None:
    web = replace(FAST, requests_per_second=10, connections_per_host=2)
    for number in range(10):
        site.pages[f"/{number}"] = Reply(b"x", delay_s=0.3)
    with ThreadPoolExecutor(8) as pool:
        assert all(isinstance(one, Fetched) for one in pool.map(lambda n: get(web, site, f"/{n}"), range(10)))
    web.close()
    times = sorted(one.at for one in site.log)
    assert len(times) == 11, "robots.txt counts, too"
    assert times[-1] - times[0] >= 0.95
    assert min(after - before for before, after in pairwise(times)) >= 0.05  # 0.1 as sent, less jitter on the way
    assert site.most_at_once == 2


def test_a_crawl_delay_is_honoured_up_to_a_cap(site: Site, web: Web) -> None:
    site.pages["/robots.txt"] = Reply(b"User-agent: *\nCrawl-delay: 0.3\n")
    for number in range(3):
        get(web, site, f"/{number}")
    times = [one.at for one in site.log]
    assert min(after - before for before, after in pairwise(times)) >= 0.2  # 0.3 as sent, less jitter on the way


def test_a_dripping_body_is_cut_at_the_deadline(site: Site) -> None:
    web = replace(FAST, deadline_s=0.8)
    site.pages["/a"] = Reply(b"x" * 1000, drip_s=0.05)
    began = time.monotonic()
    assert reason(get(web, site, "/a")) == "timeout"
    assert time.monotonic() - began < 2
    assert len(site.asked("/a")) == 1
    web.close()


def test_a_dripping_head_is_cut_at_the_deadline(site: Site) -> None:
    web = replace(FAST, deadline_s=0.8)
    site.pages["/a"] = Reply(b"x", headers={"X": "y" * 500}, drip_s=0.05, drip_head=True)
    began = time.monotonic()
    assert reason(get(web, site, "/a")) == "timeout"
    assert time.monotonic() - began < 2
    web.close()


def test_silence_is_a_timeout(site: Site) -> None:
    web = replace(FAST, timeout_s=0.2, attempts=2)
    site.pages["/a"] = Reply(b"x", delay_s=5)
    assert reason(get(web, site, "/a")) == "timeout"
    assert len(site.asked("/a")) == 2
    web.close()


def test_an_announced_excess_is_refused_before_it_is_read(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x" * 1000, length=10**10)
    assert reason(get(web, site, "/a")) == "too_large"
    assert len(site.asked("/a")) == 1


def test_an_unannounced_excess_is_cut(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x" * 2 * MEGABYTE, length=-1)
    assert reason(get(web, site, "/a")) == "too_large"


@pytest.mark.parametrize("layers", [1, 20])
def test_a_gzip_bomb_never_unfolds(site: Site, web: Web, layers: int) -> None:
    bomb = gzip.compress(bytes(30 * MEGABYTE)) if layers == 1 else gzip.compress(bytes(MEGABYTE)) * layers
    site.pages["/a"] = Reply(bomb, headers={"Content-Encoding": "gzip"})
    assert reason(get(web, site, "/a")) == "too_large"


def test_a_packed_body_is_unpacked(site: Site, web: Web) -> None:
    page = b"hello " * 50_000
    site.pages["/a"] = Reply(gzip.compress(page), headers={"Content-Encoding": "gzip"})
    site.pages["/b"] = Reply(gzip.compress(page)[:-20], headers={"Content-Encoding": "gzip"})
    site.pages["/c"] = Reply(page, headers={"Content-Encoding": "br"})
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.content == page
    assert reason(get(web, site, "/b")) == "truncated"
    assert reason(get(web, site, "/c")) == "corrupt"


def test_a_chunked_body_is_joined_and_its_end_is_watched(site: Site, web: Web) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    site.pages["/a"] = Reply(raw=head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    site.pages["/b"] = Reply(raw=head + b"3\r\nabc\r\n5\r\nde")
    site.pages["/c"] = Reply(raw=head + b"zz\r\nabc")
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.content == b"abcde"
    assert reason(get(web, site, "/b")) == "truncated"
    assert isinstance(get(web, site, "/c"), Transient)


def test_a_body_that_ends_too_early_is_tried_again_and_then_truncated(site: Site, web: Web) -> None:
    site.pages["/a"] = [Reply(b"x" * 1000, cut=500), Reply(b"x" * 1000)]
    site.pages["/b"] = Reply(b"x" * 1000, length=2000)
    assert isinstance(get(web, site, "/a"), Fetched)
    assert reason(get(web, site, "/b")) == "truncated"


def test_an_empty_body_is_empty(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"")
    site.pages["/b"] = Reply(b"", 204)
    assert reason(get(web, site, "/a")) == reason(get(web, site, "/b")) == "empty"


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"\0" * 100_000]
)
def test_what_is_not_http_is_no_answer(site: Site, web: Web, raw: bytes) -> None:
    site.pages["/a"] = Reply(raw=raw)
    assert isinstance(get(web, site, "/a"), Transient)


def test_redirects_are_followed_and_told(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 301, {"Location": "/b"})
    site.pages["/b"] = Reply(b"", 307, {"Location": "c/../d?q=1#f"})
    site.pages["/d?q=1"] = Reply(b"here")
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert (fetched.url, fetched.final_url) == (site.url("/a"), site.url("/d?q=1"))


def test_a_redirect_loop_ends(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 302, {"Location": "/a"})
    assert reason(get(web, site, "/a")) == "redirects"
    assert len(site.asked("/a")) == 6


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/a", "http://me:secret@127.0.0.1/", "", "http://"]
)
def test_a_redirect_to_what_is_no_url_is_refused(site: Site, web: Web, target: str) -> None:
    site.pages["/a"] = Reply(b"", 302, {"Location": target})
    outcome = get(web, site, "/a")
    assert reason(outcome) == "redirects"
    assert "secret" not in str(outcome)


def test_robots_txt_is_asked_once_and_obeyed(site: Site, web: Web) -> None:
    site.pages["/robots.txt"] = Reply(
        b"User-agent: stoker\nDisallow: /no/*.jpg$\nAllow: /no/yes.jpg\n\nUser-agent: *\nDisallow: /"
    )
    site.pages |= {path: Reply(b"x") for path in ("/a", "/no/a.jpg", "/no/yes.jpg", "/no/a.png")}
    outcomes = [get(web, site, path) for path in ("/a", "/no/a.jpg", "/no/yes.jpg", "/no/a.png")]
    assert [isinstance(one, Fetched) for one in outcomes] == [True, False, True, True]
    assert reason(outcomes[1]) == "robots"
    assert site.asked("/no/a.jpg") == []
    assert len(site.asked("/robots.txt")) == 1


def test_robots_txt_holds_for_redirects_too(site: Site, web: Web) -> None:
    site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /no/")
    site.pages["/a"] = Reply(b"", 302, {"Location": "/no/b"})
    assert reason(get(web, site, "/a")) == "robots"
    assert site.asked("/no/b") == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_no_robots_txt_allows_everything(site: Site, web: Web, status: int) -> None:
    site.pages["/robots.txt"] = Reply(b"", status)
    site.pages["/a"] = Reply(b"x")
    assert isinstance(get(web, site, "/a"), Fetched)


@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_robots_txt_in_trouble_forbids_everything_for_now(site: Site, web: Web, status: int) -> None:
    site.pages["/robots.txt"] = Reply(b"", status)
    site.pages["/a"] = Reply(b"x")
    outcome = get(web, site, "/a")
    assert isinstance(outcome, Transient)
    assert "robots.txt" in outcome.detail
    assert site.pages_asked == []


def test_an_opt_out_header_on_robots_txt_itself_means_nothing(site: Site, web: Web) -> None:
    site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /a", headers={"X-Robots-Tag": "noindex"})
    assert reason(get(web, site, "/a")) == "robots"


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("X-Robots-Tag", "noai", True),
        ("X-Robots-Tag", "NoImageAI, nofollow", True),
        ("X-Robots-Tag", "stoker: noml", True),
        ("X-Robots-Tag", "otherbot: noai", False),
        ("X-Robots-Tag", "unavailable_after: 25 Jun 2010 15:00:00 PST", False),
        ("TDM-Reservation", "1", True),
        ("TDM-Reservation", "0", False),
    ],
)
def test_an_owner_who_opts_out_is_heard(site: Site, web: Web, name: str, value: str, refused: bool) -> None:
    site.pages["/a"] = Reply(b"x", headers={name: value})
    outcome = get(web, site, "/a")
    assert (reason(outcome) == "opted_out") if refused else isinstance(outcome, Fetched)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.2:{}/", "http://localhost:{}/", "http://0x7f000001:{}/", "http://2130706433:{}/", "http://127.1:{}/",
     "http://[::1]:{}/", "http://[::ffff:127.0.0.1]:{}/", "http://0.0.0.0:{}/", "http://169.254.169.254/latest/meta-data",
     "http://10.0.0.1/", "http://[fe80::1]/", "http://[64:ff9b::7f00:1]/"],
)  # fmt: skip
def test_a_private_address_is_never_asked(site: Site, url: str) -> None:
    web = replace(FAST, allow_private=False)
    assert reason(web.get(url.format(site.port), max_size=100)) in ("private_address", "bad_url")
    assert site.log == []
    web.close()


def test_a_redirect_into_a_private_network_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loopback stands for the open internet here, but for 127.0.0.2.
    monkeypatch.setattr("stoker.pipelines.web.http.addresses.is_public", lambda address: address == "127.0.0.1")
    web = replace(FAST, allow_private=False)
    with Site("127.0.0.2") as inner:
        site.pages["/a"] = Reply(b"", 302, {"Location": inner.url("/secret")})
        assert reason(get(web, site, "/a")) == "private_address"
        assert inner.log == []
    web.close()


def test_a_name_that_changes_its_address_gains_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # DNS rebinding: the name is public when it is looked up first, and private ever after.
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    monkeypatch.setattr("stoker.pipelines.web.http.addresses.is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr("stoker.pipelines.web.http.addresses._getaddrinfo", lambda host: next(answers))
    web = replace(FAST, allow_private=False)
    site.pages["/a"] = Reply(b"x", headers={"Connection": "close"})
    for _ in range(3):
        assert isinstance(web.get(f"http://rebind.example:{site.port}/a", max_size=100), Fetched)
    assert next(answers) == ["127.0.0.2"], "resolved once"
    web.close()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.org/a", "file:///etc/passwd", "data:image/png;base64,xx", "http://", "example.org/a.jpg",
     "http://me:secret@example.org/", "http://me:secret@ex ample/", "http://example.org:99999/", "http://a\ud800b/",
     "http://me:secret", "http://" + "a" * 5000, "http://[::1", "http://exa%6dple.org/"],
)  # fmt: skip
def test_a_bad_url_is_refused_without_its_password(web: Web, url: str) -> None:
    outcome = web.get(url, max_size=100)
    assert reason(outcome) == "bad_url"
    assert "secret" not in str(outcome)


def test_a_host_that_never_answers_is_given_up_for_a_while() -> None:
    with Site() as site:
        pass
    web = replace(FAST, failures_before_down=3, attempts=2, robots=False)
    outcomes = [web.get(site.url(f"/{number}"), max_size=100) for number in range(20)]
    assert all(isinstance(one, Transient) for one in outcomes)
    assert "is down" in reason_detail(outcomes[-1])
    assert not web.is_down(site.url("/")), "it never was up"
    web.close()


def reason_detail(outcome: Fetched | Rejected) -> str:
    assert isinstance(outcome, Rejected)
    return outcome.detail


def test_a_host_that_goes_down_is_told_from_a_url_that_fails() -> None:
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


def test_a_host_is_tried_again_after_its_rest(site: Site) -> None:
    web = replace(FAST, failures_before_down=2, attempts=1, cooldown_s=0.2)
    site.pages["/a"] = [Reply(b"", 503), Reply(b"", 503), Reply(b"x")]
    assert isinstance(get(web, site, "/a"), Transient)
    assert isinstance(get(web, site, "/a"), Transient)
    assert isinstance(get(web, site, "/a"), Transient), "it rests"
    assert len(site.asked("/a")) == 2
    time.sleep(0.25)
    assert isinstance(get(web, site, "/a"), Fetched)
    web.close()


def test_a_wait_ends_when_nobody_wants_the_answer(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 503, {"Retry-After": "3"})
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    assert isinstance(web.get(site.url("/a"), max_size=100, cancel=cancel), Transient)
    assert time.monotonic() - began < 1.5


def test_a_download_goes_on_where_it_was_cut(site: Site, web: Web, tmp_path: Path) -> None:
    body = bytes(range(256)) * 4000
    site.pages["/a"] = [
        Reply(body, cut=300_000, etag='"v1"'),
        Reply(body, cut=300_000, etag='"v1"'),
        Reply(body, etag='"v1"'),
    ]
    fetched = web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)
    assert isinstance(fetched, Fetched)
    assert (tmp_path / "a").read_bytes() == body
    assert (fetched.sha256, fetched.size, fetched.content) == (hashlib.sha256(body).hexdigest(), len(body), b"")
    first, second, third = site.asked("/a")
    assert "range" not in first.headers
    assert (second.headers["range"], second.headers["if-range"]) == ("bytes=300000-", '"v1"')
    assert third.headers["range"] == "bytes=600000-"


def test_a_download_begins_anew_when_the_file_changed(site: Site, web: Web, tmp_path: Path) -> None:
    site.pages["/a"] = [Reply(b"old" * 1000, cut=1500, etag='"v1"'), Reply(b"new" * 1000, etag='"v2"')]
    fetched = web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)
    assert isinstance(fetched, Fetched)
    assert (tmp_path / "a").read_bytes() == b"new" * 1000
    assert fetched.sha256 == hashlib.sha256(b"new" * 1000).hexdigest()


def test_a_server_that_sends_another_part_is_not_believed(site: Site, web: Web, tmp_path: Path) -> None:
    body = b"0123456789" * 100
    wrong = Reply(body[:500], 206, {"Content-Range": "bytes 0-499/1000", "ETag": '"v1"'})
    site.pages["/a"] = [Reply(body, cut=500, etag='"v1"'), wrong, Reply(body, etag='"v1"')]
    assert isinstance(web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE), Fetched)
    assert (tmp_path / "a").read_bytes() == body


def test_a_download_that_fails_leaves_no_file(site: Site, web: Web, tmp_path: Path) -> None:
    site.pages["/a"] = Reply(b"x" * 1000, cut=500)
    site.pages["/b"] = Reply(b"x" * 2000)
    assert reason(web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)) == "truncated"
    assert reason(web.download(site.url("/b"), tmp_path / "b", max_size=1000)) == "too_large"
    assert list(tmp_path.iterdir()) == []
