"""Headers that come on several lines: joined only where that keeps what they say."""

import pickle

import pytest

from stoker.pipelines.web.client import Web
from stoker.pipelines.web.headers import Headers
from stoker.pipelines.web.policy import Fetched
from tests.site import Reply, Site, get, reason


def raw(status: str, *lines: str, body: str = "x") -> Reply:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines])
    return Reply(raw=f"{head}\r\n\r\n{body}".encode())


def test_headers_can_be_pickled() -> None:
    headers = Headers({"a": ["1", "2"]})
    assert pickle.loads(pickle.dumps(headers)).lines("a") == ("1", "2")


def test_a_repeated_location_is_followed_only_if_all_say_the_same(site: Site, web: Web) -> None:
    site.pages["/same"] = raw("302 Found", "Location: /x", "Location: /x")
    site.pages["/other"] = raw("302 Found", "Location: /x", "Location: /y")
    site.pages["/x"] = Reply(b"here")
    fetched = get(web, site, "/same")
    assert isinstance(fetched, Fetched)
    assert fetched.final_url == site.url("/x")
    assert reason(get(web, site, "/other")) == "redirects"
    assert site.pages_asked == ["/same", "/x", "/other"]


def test_of_several_waits_the_longest_is_obeyed(site: Site, web: Web) -> None:
    site.pages["/a"] = raw("503 Busy", "Retry-After: 0", "Retry-After: 3600")
    outcome = get(web, site, "/a")
    assert "asked to wait 3600 s" in str(outcome)
    assert len(site.asked("/a")) == 1


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["text/html; charset=utf-8", "Image/PNG; q=1"], "image/png"),
        (["image/png", "*/*"], "image/png"),
        (["image/png", "unknown"], "image/png"),
        (['image/png; name="a, b/c"'], "image/png"),
        ([], ""),
    ],
)
def test_of_several_content_types_the_last_valid_one_counts(
    site: Site, web: Web, lines: list[str], expected: str
) -> None:
    site.pages["/a"] = raw("200 OK", *(f"Content-Type: {line}" for line in lines))
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.content_type == expected
