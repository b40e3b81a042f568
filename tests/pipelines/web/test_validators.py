"""Validators: which are remembered, what is asked with them, and what wrong ones cannot do."""

import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from stoker.pipelines.web.client import Web
from stoker.pipelines.web.headers import Headers
from stoker.pipelines.web.policy import EarlierResponse, Fetched, Unchanged
from stoker.pipelines.web.validators import Validators, validators_of
from tests.site import Reply, Request, Site, get, reason

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
OLD = "Sun, 01 Mar 2026 00:00:00 GMT"
BODY = b"a picture"


def earlier(site: Site, path: str = "/a", *, etag: str = "", last_modified: str = "") -> EarlierResponse:
    return EarlierResponse(Validators(etag, last_modified), site.url(path), hashlib.sha256(BODY).hexdigest())


def ask(web: Web, site: Site, before: EarlierResponse, path: str = "/a") -> object:
    return web.get_if_changed(site.url(path), before, max_size=10**6)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"etag": ['"abc"'], "last-modified": [OLD]}, Validators('"abc"', OLD)),
        ({"etag": ['W/"abc"']}, Validators('W/"abc"')),
        ({"etag": ["abc"]}, Validators()),
        ({"etag": ['"a"', '"b"']}, Validators()),
        ({"etag": [f'"{"x" * 300}"']}, Validators()),
        ({"etag": ['"a\x7fb"']}, Validators()),
        ({"etag": ['"a\rX: 1"']}, Validators()),
        ({"etag": ['"\xe4"']}, Validators()),
        ({"last-modified": [format_datetime(NOW + timedelta(days=1), usegmt=True)]}, Validators()),
        ({"last-modified": [format_datetime(NOW - timedelta(seconds=5), usegmt=True)]}, Validators()),
        ({"last-modified": ["yesterday"]}, Validators()),
        ({"last-modified": ["Sun, 99 Mar 2026 00:00:00 GMT"]}, Validators()),
        ({}, Validators()),
    ],
)
def test_only_sound_validators_are_taken(lines: dict[str, list[str]], expected: Validators) -> None:
    assert validators_of(Headers(lines), NOW) == expected


def test_a_response_has_its_validators(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(BODY, headers={"Last-Modified": OLD, "ETag": '"1"'})
    fetched = get(web, site, "/a")
    assert isinstance(fetched, Fetched)
    assert fetched.validators == Validators('"1"', OLD)


@pytest.mark.parametrize(
    ("before", "header", "value"),
    [
        ({"etag": 'W/"1"', "last_modified": OLD}, "if-none-match", 'W/"1"'),
        ({"last_modified": OLD}, "if-modified-since", OLD),
    ],
)
def test_not_modified_costs_no_body(site: Site, web: Web, before: dict[str, str], header: str, value: str) -> None:
    site.pages["/a"] = Reply(b"", 304)
    answer = ask(web, site, earlier(site, **before))
    assert isinstance(answer, Unchanged)
    assert (answer.size, answer.final_url) == (None, site.url("/a"))
    (request,) = site.asked("/a")
    asked = {name: text for name, text in request.headers.items() if name.startswith("if-")}
    assert asked == {header: value}


def test_the_same_bytes_are_unchanged_with_the_new_validators(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(BODY, headers={"ETag": '"2"'})
    answer = ask(web, site, earlier(site, etag='"1"'))
    assert isinstance(answer, Unchanged)
    assert (answer.validators, answer.size) == (Validators('"2"'), len(BODY))


def test_other_bytes_are_a_response(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"another", headers={"ETag": '"1"'})
    answer = ask(web, site, earlier(site, etag='"1"'))
    assert isinstance(answer, Fetched)
    assert answer.content == b"another"


def test_not_modified_with_another_etag_is_asked_anew_without_conditions(site: Site, web: Web) -> None:
    def reply(request: Request) -> Reply:
        return Reply(b"", 304, {"ETag": '"9"'}) if "if-none-match" in request.headers else Reply(b"another")

    site.pages["/a"] = reply
    answer = ask(web, site, earlier(site, etag='"1"'))
    assert isinstance(answer, Fetched)
    assert answer.content == b"another"
    assert len(site.asked("/a")) == 2


def test_not_modified_to_a_request_without_conditions_is_no_answer(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 304)
    assert reason(get(web, site, "/a")) == "unreachable"
    assert reason(ask(web, site, earlier(site))) == "unreachable"  # type: ignore[arg-type]  # rejected, as it says


def test_validators_are_sent_to_the_url_alone_that_gave_them(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 302, {"Location": "/c"})
    site.pages["/c"] = lambda request: Reply(b"", 304) if "if-none-match" in request.headers else Reply(b"other")
    moved = ask(web, site, earlier(site, "/b", etag='"1"'))
    assert isinstance(moved, Fetched)
    assert not any("if-none-match" in request.headers for request in site.log)
    still = ask(web, site, earlier(site, "/c", etag='"1"'))
    assert isinstance(still, Unchanged)
    assert still.final_url == site.url("/c")


def test_an_opt_out_beside_not_modified_is_obeyed(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 304, {"X-Robots-Tag": "noai"})
    assert reason(ask(web, site, earlier(site, etag='"1"'))) == "opted_out"  # type: ignore[arg-type]  # as above


def test_validators_of_where_a_url_leads_now_are_not_those_of_the_url(site: Site, web: Web) -> None:
    site.pages["/a"] = Reply(b"", 302, {"Location": "/b"})
    site.pages["/b"] = Reply(BODY, headers={"ETag": '"2"'})
    answer = ask(web, site, earlier(site, etag='"1"'))
    assert isinstance(answer, Unchanged)
    assert (answer.validators, answer.final_url) == (Validators('"1"'), site.url("/b"))
