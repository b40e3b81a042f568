"""Notices reach a real server, say no secret, and never keep a run."""

import resource
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


class _Hostile(BaseHTTPRequestHandler):
    """Redirects, or answers without end."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/endless"):
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(bytes(2**16))
        self.send_response(int(self.path[1:4]) if self.path.startswith("/30") else 200)
        self.send_header("Location", "/landed")
        self.end_headers()

    do_GET = do_POST  # noqa: N815  # the name that the server's library calls

    def log_message(self, *words: object) -> None:
        pass


@pytest.mark.parametrize("path", ["302", "307", "endless"])
def test_a_notice_that_is_sent_elsewhere_or_answered_without_end_was_not_sent(path: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        url = f"json://127.0.0.1:{server.server_port}/{path}"
        assert notices.send([url], "title", "body", good=True, limit_s=6) == ["json://127.0.0.1"]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000  # KiB
        server.shutdown()


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
