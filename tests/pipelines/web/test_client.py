"""The client against a server on loopback: results, attempts, redirects."""

import hashlib
import pickle

import pytest

from stoker.pipelines.rejected import OutcomeClass, Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched, Transient
from tests.site import Reply, Site, get, reason


def test_a_response_has_its_body_hash_and_headers(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x" * 100_000, headers={"Content-Type": "Image/JPEG; q=1"})
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.content == b"x" * 100_000
    assert fetched.sha256 == hashlib.sha256(fetched.content).hexdigest()
    assert (fetched.size, fetched.content_type) == (100_000, "image/jpeg")
    assert fetched.url == fetched.final_url == site.url("/a")
    assert fetched.fetched_at.endswith("+00:00")


def test_the_policy_can_be_pickled_and_reused(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"x")
    assert isinstance(get(web, site, "/a"), Fetched)
    assert isinstance(get(pickle.loads(pickle.dumps(web)), site, "/a"), Fetched)
    assert len(site.asked("/robots.txt")) == 1, "equal policies share what they know"


def test_the_user_agent_is_honest_and_names_a_contact(site: Site, web: Web) -> None:
    get(web, site, "/a")
    assert {request.headers["user-agent"].split()[0].split("/")[0] for request in site.log} == {"stoker"}
    assert all("(+mailto:us@example.org)" in request.headers["user-agent"] for request in site.log)


@pytest.mark.parametrize(("status", "expected"), [(404, "gone"), (410, "gone"), (403, "forbidden"), (401, "forbidden")])
def test_a_client_error_is_final_and_requested_once(site: Site, web: Web, status: int, expected: str) -> None:
    site.pages["/a"] = Reply(b"no", status)
    outcome = get(web, site, "/a")
    assert reason(outcome) == expected
    assert isinstance(outcome, Rejected)
    assert outcome.outcome_class == (OutcomeClass.SLOW_MOMENT if status == 410 else None)
    assert len(site.asked("/a")) == 1


def test_a_permanent_server_error_is_tried_a_bounded_number_of_times(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"no", 500)
    outcome = get(web, site, "/a")
    assert reason(outcome) == "unreachable"
    assert isinstance(outcome, Transient)
    assert len(site.asked("/a")) == 3


def test_a_temporary_server_error_is_no_reject(site: Site, web: Web) -> None:
    site.pages["/a"] = [Reply(b"busy", 503), Reply(b"here")]
    assert isinstance(get(web, site, "/a"), Fetched)


def test_an_empty_body_is_empty(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"")
    site.pages["/b"] = Reply(b"", 204)
    assert reason(get(web, site, "/a")) == reason(get(web, site, "/b")) == "empty"


def test_redirects_are_followed_and_recorded(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 301, {"Location": "/b"})
    site.pages["/b"] = Reply(b"", 307, {"Location": "c/../d?q=1#f"})
    site.pages["/d?q=1"] = Reply(b"here")
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert (fetched.url, fetched.final_url) == (site.url("/a"), site.url("/d?q=1"))


def test_a_redirect_loop_ends(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 302, {"Location": "/a"})
    assert reason(get(web, site, "/a")) == "redirects"
    assert len(site.asked("/a")) == 21


@pytest.mark.parametrize("redirects", [6, 20])
def test_as_many_redirects_are_followed_as_browsers_follow(site: Site, web: Web, redirects: int) -> None:
    for number in range(redirects):
        site.pages[f"/{number}"] = Reply(b"", 302, {"Location": f"/{number + 1}"})
    site.pages[f"/{redirects}"] = Reply(b"here")
    assert isinstance(get(web, site, "/0"), Fetched)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/a", "http://me:secret@127.0.0.1/", "", "http://"]
)
def test_a_redirect_to_an_invalid_url_is_rejected(site: Site, web: Web, target: str) -> None:
    site.pages["/a"] = Reply(b"", 302, {"Location": target})
    outcome = get(web, site, "/a")
    assert reason(outcome) == "redirects"
    assert "secret" not in str(outcome)
