"""Opt-outs in headers and directives."""

import pytest

from stoker.pipelines.web.client import Web
from stoker.pipelines.web.opt_out import directives, find_opt_out
from stoker.pipelines.web.policy import Fetched
from tests.site import Reply, Site, get, reason


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
def test_an_opt_out_in_a_header_is_obeyed(site: Site, web: Web, name: str, value: str, refused: bool) -> None:
    site.pages["/a"] = Reply(b"x", headers={name: value})
    outcome = get(web, site, "/a")
    assert (reason(outcome) == "opted_out") if refused else isinstance(outcome, Fetched)


def test_directives_for_other_robots_are_not_ours() -> None:
    assert directives("googlebot: noindex, nofollow, stoker: noai") == {"noai"}
    assert find_opt_out(["max-image-preview: none"], []) == ""


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        (["X-Robots-Tag: googlebot: noindex", "X-Robots-Tag: noai"], True),
        (["X-Robots-Tag: noai", "X-Robots-Tag: googlebot: all"], True),
        (["X-Robots-Tag: googlebot: noindex", "X-Robots-Tag: stoker: noml", "X-Robots-Tag: all"], True),
        (
            ["X-Robots-Tag: otherbot: all", "x-robots-tag: unavailable_after: Friday, 25-Jun-10 15:00:00 UTC, noai"],
            True,
        ),
        (["X-Robots-Tag: googlebot: noindex", "X-Robots-Tag: otherbot: noai"], False),
        (["X-Robots-Tag: stoker: all", "X-Robots-Tag: otherbot: noindex, noai"], False),
        (["TDM-Reservation: 1", "TDM-Reservation: 1"], True),
        (["TDM-Reservation: 0", "TDM-Reservation: 1"], True),
        (["TDM-Reservation: 1", "tdm-reservation: 0"], True),
        (["TDM-Reservation: 1; x", "TDM-Reservation: "], True),
        (["TDM-Reservation: 0", "TDM-Reservation: 0"], False),
        (["TDM-Reservation: 10", "TDM-Reservation: 0"], False),
    ],
)
def test_each_line_of_a_repeated_header_counts_for_itself(
    site: Site, web: Web, lines: list[str], refused: bool
) -> None:
    head = "\r\n".join(["HTTP/1.1 200 OK", "Content-Length: 1", *lines])
    site.pages["/a"] = Reply(raw=f"{head}\r\n\r\nx".encode())
    outcome = get(web, site, "/a")
    assert (reason(outcome) == "opted_out") if refused else isinstance(outcome, Fetched)
