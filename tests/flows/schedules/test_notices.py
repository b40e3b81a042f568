"""Notices reach a real server, say no secret, and never keep a run."""

import socket
import time

import pytest

from stoker.flows.schedules import notices
from tests.flows.page.serving import receiving


def test_a_notice_reaches_those_who_listen_and_the_others_are_named() -> None:
    with receiving() as (url, received):
        missed = notices.send(
            [url, "json://me:secret@127.0.0.1:1/token"], "digits failed", "a\x1b[31m host", good=False
        )
    assert missed == ["json://127.0.0.1"]
    assert [(one["type"], one["title"]) for one in received] == [("failure", "digits failed")]
    assert "\x1b" not in received[0]["message"]


def test_a_server_that_never_answers_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=30"
        began = time.monotonic()
        assert notices.send([url], "title", "body", good=True, limit_s=0.5) == ["json://127.0.0.1"]
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("url", ["", "no-address", "nosuch://secret", "json://", "slack://secret", "mailto://"])
def test_an_address_that_apprise_does_not_know_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(notices.NoticeError) as refused:
        notices.check(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mailto://me:secret@example.org?to=you@example.org", "mailto://example.org"),
        ("tgram://123456789:secret/456", "tgram://…"),
        ("https://hooks.slack.com/services/secret", "https://…"),
        ("json://[secret", "json://…"),
    ],
)
def test_of_an_address_scheme_and_host_are_shown(url: str, shown: str) -> None:
    assert notices.shown(url) == shown
