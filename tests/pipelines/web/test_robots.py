"""robots.txt: fetched once, obeyed, and what happens when it cannot be fetched."""

import pytest

from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched, Transient
from tests.site import Reply, Site, get, reason


def test_robots_txt_is_fetched_once_and_obeyed(site: Site, web: Web) -> None:
    site.pages["/robots.txt"] = Reply(
        b"User-agent: stoker\nDisallow: /no/*.jpg$\nAllow: /no/yes.jpg\n\nUser-agent: *\nDisallow: /"
    )
    site.pages |= {path: Reply(b"x") for path in ("/a", "/no/a.jpg", "/no/yes.jpg", "/no/a.png")}
    outcomes = [get(web, site, path) for path in ("/a", "/no/a.jpg", "/no/yes.jpg", "/no/a.png")]
    assert [isinstance(outcome, Fetched) for outcome in outcomes] == [True, False, True, True]
    assert reason(outcomes[1]) == "robots"
    assert site.asked("/no/a.jpg") == []
    assert len(site.asked("/robots.txt")) == 1


def test_robots_txt_applies_to_redirects_too(site: Site, web: Web) -> None:
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
def test_a_robots_txt_that_fails_forbids_everything_for_now(site: Site, web: Web, status: int) -> None:
    site.pages["/robots.txt"] = Reply(b"", status)
    site.pages["/a"] = Reply(b"x")
    outcome = get(web, site, "/a")
    assert isinstance(outcome, Transient)
    assert "robots.txt" in outcome.detail
    assert site.pages_asked == []


@pytest.mark.parametrize(
    ("agent", "allowed"),
    [("Stoker/1.0", False), ("stoker/*", False), ("STOKER 2", False), ("Stoker/1.0 (+http://a.example)", False),
     ("other, Stoker/0.1", False), ("stoker", False), ("stokerbot/1.0", True), ("other/1.0", True), ("*", False),
     ("Stoker/1.0 # us", False)],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_robot_is_named_by_its_token_whatever_its_version(
    site: Site, web: Web, agent: str, allowed: bool, end: str
) -> None:
    site.pages["/robots.txt"] = Reply(f"User-Agent : {agent}{end}Disallow: /{end}".encode())
    site.pages["/a"] = Reply(b"x")
    assert isinstance(get(web, site, "/a"), Fetched) is allowed


@pytest.mark.parametrize("delay", ["99999", "3.5", "1e9"])
def test_a_crawl_delay_over_the_longest_wait_is_a_refusal_that_says_so(site: Site, web: Web, delay: str) -> None:
    site.pages["/robots.txt"] = Reply(f"User-agent: *\nCrawl-delay: {delay}\n".encode())
    site.pages["/a"] = Reply(b"x")
    outcome = get(web, site, "/a")
    assert reason(outcome) == "robots"
    assert "between requests, at most 3 are waited for" in str(outcome)
    assert site.pages_asked == []
