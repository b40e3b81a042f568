"""Downloads that outlast the run: gone on with, anew, or removed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.downloads import claim
from stoker.pipelines.web.http import sinks
from stoker.pipelines.web.policy import Fetched
from tests.site import MEGABYTE, Reply, Site, reason

BODY = os.urandom(900_000)


def download(web: Web, url: str, folder: Path) -> tuple[Fetched | Rejected, bytes]:
    """The answer and the bytes, as a source gets them."""
    with claim(folder, url) as path:
        answer = web.download(url, path, max_size=MEGABYTE, outlasts=True)
        return answer, path.read_bytes() if isinstance(answer, Fetched) else b""


def break_off(web: Web, site: Site, folder: Path, reply: Reply) -> None:
    """A run whose download ends in the middle, and which is stopped then."""
    site.pages["/film.mp4"] = reply
    with suppress(KeyboardInterrupt), claim(folder, site.url("/film.mp4")) as path:
        assert (
            reason(replace(web, attempts=1).download(site.url("/film.mp4"), path, max_size=MEGABYTE, outlasts=True))
            == "truncated"
        )
        raise KeyboardInterrupt


def test_the_next_run_goes_on_where_the_last_one_ended(site: Site, web: Web, tmp_path: Path) -> None:
    break_off(web, site, tmp_path, Reply(BODY, cut=400_000, etag='"v1"'))
    site.pages["/film.mp4"] = Reply(BODY, etag='"v1"')
    answer, content = download(web, site.url("/film.mp4"), tmp_path)
    assert isinstance(answer, Fetched)
    assert content == BODY
    last = site.asked("/film.mp4")[-1].headers
    assert (last["range"], last["if-range"]) == ("bytes=399999-", '"v1"')
    assert list(tmp_path.iterdir()) == []


def test_a_resource_that_changed_is_downloaded_anew(site: Site, web: Web, tmp_path: Path) -> None:
    break_off(web, site, tmp_path, Reply(BODY, cut=400_000, etag='"v1"'))
    site.pages["/film.mp4"] = Reply(BODY[::-1], etag='"v2"')
    assert download(web, site.url("/film.mp4"), tmp_path)[1] == BODY[::-1]


def test_without_a_validator_nothing_stays(site: Site, web: Web, tmp_path: Path) -> None:
    break_off(web, site, tmp_path, Reply(BODY, cut=400_000))
    site.pages["/film.mp4"] = Reply(BODY)
    assert download(web, site.url("/film.mp4"), tmp_path)[1] == BODY
    assert "range" not in site.asked("/film.mp4")[-1].headers


@pytest.mark.parametrize(("before", "after"), [("one", "another"), ("", "")])
def test_another_start_of_the_machine_or_perhaps_another_trusts_nothing(
    before: str, after: str, site: Site, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "boot_id", lambda: before)
    break_off(web, site, tmp_path, Reply(BODY, cut=400_000, etag='"v1"'))
    monkeypatch.setattr(sinks, "boot_id", lambda: after)
    site.pages["/film.mp4"] = Reply(BODY, etag='"v1"')
    assert download(web, site.url("/film.mp4"), tmp_path)[1] == BODY
    assert "range" not in site.asked("/film.mp4")[-1].headers


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"validator": 7}', b"\xff"])
def test_a_damaged_note_is_no_note(site: Site, web: Web, tmp_path: Path, note: bytes) -> None:
    break_off(web, site, tmp_path, Reply(BODY, cut=400_000, etag='"v1"'))
    next(tmp_path.glob("*/*.json")).write_bytes(note)
    site.pages["/film.mp4"] = Reply(BODY, etag='"v1"')
    assert download(web, site.url("/film.mp4"), tmp_path)[1] == BODY


def test_a_whole_download_that_was_not_used_to_its_end_costs_one_byte(site: Site, web: Web, tmp_path: Path) -> None:
    site.pages["/film.mp4"] = Reply(BODY, etag='"v1"')
    with suppress(KeyboardInterrupt), claim(tmp_path, site.url("/film.mp4")) as path:
        assert isinstance(web.download(site.url("/film.mp4"), path, max_size=MEGABYTE, outlasts=True), Fetched)
        raise KeyboardInterrupt
    assert download(web, site.url("/film.mp4"), tmp_path)[1] == BODY
    assert site.asked("/film.mp4")[-1].headers["range"] == f"bytes={len(BODY) - 1}-"


def test_what_cannot_be_used_is_removed(site: Site, web: Web, tmp_path: Path) -> None:
    site.pages["/film.mp4"] = Reply(BODY, etag='"v1"')
    with suppress(SourceBroken), claim(tmp_path, site.url("/film.mp4")) as path:
        web.download(site.url("/film.mp4"), path, max_size=MEGABYTE, outlasts=True)
        raise SourceBroken("no film")
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    with claim(tmp_path, "http://example.org/a") as first, claim(tmp_path, "http://example.org/a") as second:
        assert (first.name, second.name) == ("a", "a")
        assert first != second


def test_what_nobody_came_back_for_is_removed(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), claim(tmp_path, "http://example.org/a") as path:
        path.write_bytes(b"half")
        raise KeyboardInterrupt
    for old in (path, *tmp_path.glob("*.lock")):
        os.utime(old, (time.time() - 20 * 86_400,) * 2)
    with claim(tmp_path, "http://example.org/b"):
        assert not path.exists()


_RUN = """
import sys
from pathlib import Path
from stoker.pipelines.web.downloads import claim
from tests.site import FAST, MEGABYTE
with claim(Path(sys.argv[1]), sys.argv[2]) as path:
    FAST.download(sys.argv[2], path, max_size=MEGABYTE, outlasts=True)
"""


def test_a_killed_run_loses_what_it_had_not_written_alone(site: Site, web: Web, tmp_path: Path) -> None:
    site.pages["/film.mp4"] = Reply(BODY[:200], drip_s=0.05, etag='"v1"')
    process = subprocess.Popen([sys.executable, "-c", _RUN, str(tmp_path), site.url("/film.mp4")])
    while not list(tmp_path.glob("*/*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    site.pages["/film.mp4"] = Reply(BODY[:200], etag='"v1"')
    assert download(web, site.url("/film.mp4"), tmp_path)[1] == BODY[:200]
    assert list(tmp_path.iterdir()) == []
