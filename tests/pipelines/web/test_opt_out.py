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
    assert find_opt_out({"x-robots-tag": "max-image-preview: none"}) == ""
