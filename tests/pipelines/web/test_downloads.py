"""Downloads that outlast the run: gone on with, anew, or removed."""

import os
import shutil
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
from stoker.pipelines.web.downloads import claim, discard, first_measures, held, hold
from stoker.pipelines.web.http import sinks
from stoker.pipelines.web.http.sinks import note_of
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


def whole(web: Web, site: Site, folder: Path, body: bytes = BODY, etag: str = '"v1"') -> Fetched:
    """A download that is held for readers."""
    site.pages["/film.mp4"] = Reply(body, etag=etag)
    with suppress(KeyboardInterrupt), claim(folder, site.url("/film.mp4")) as path:
        answer = web.download(site.url("/film.mp4"), path, max_size=MEGABYTE, outlasts=True)
        assert isinstance(answer, Fetched)
        assert hold(path, answer.sha256, {"fetched_at": "first", "response_size": answer.size})
        raise KeyboardInterrupt
    assert isinstance(answer, Fetched)
    return answer


def is_held(folder: Path, url: str, sha256: str) -> bool:
    with held(folder, url, sha256) as path:
        return path is not None and path.exists()


def test_a_held_download_is_read_by_several_and_written_by_nobody_meanwhile(
    site: Site, web: Web, tmp_path: Path
) -> None:
    url, sha256 = site.url("/film.mp4"), whole(web, site, tmp_path).sha256
    with held(tmp_path, url, sha256) as one, held(tmp_path, url, sha256) as other:
        with claim(tmp_path, url) as path:
            assert path != one == other
        discard(tmp_path, url)
        assert one is not None
        assert one.read_bytes() == BODY
    assert not is_held(tmp_path, url, "another")
    discard(tmp_path, url, "another")
    assert is_held(tmp_path, url, sha256)
    discard(tmp_path, url, sha256)
    assert list(tmp_path.iterdir()) == []
    assert not is_held(tmp_path, url, sha256)


def test_whoever_claims_a_held_download_asks_for_one_byte_and_readers_come_too_late(
    site: Site, web: Web, tmp_path: Path
) -> None:
    url, sha256 = site.url("/film.mp4"), whole(web, site, tmp_path).sha256
    with suppress(KeyboardInterrupt), claim(tmp_path, url) as path:
        assert not is_held(tmp_path, url, sha256), "it is being written"
        answer = web.download(url, path, max_size=MEGABYTE, outlasts=True)
        assert isinstance(answer, Fetched)
        assert site.asked("/film.mp4")[-1].headers["range"] == f"bytes={len(BODY) - 1}-"
        known = {"fetched_at": "first", "response_size": len(BODY)}
        assert first_measures(path, answer.sha256, {"fetched_at": "later", "response_size": len(BODY)}) == known
        another = {"fetched_at": "later", "response_etag": '"v2"', "response_size": 7}
        assert first_measures(path, answer.sha256, another) == another
        assert first_measures(path, "another", known | {"fetched_at": "later"}) == known | {"fetched_at": "later"}
        raise KeyboardInterrupt
    assert not is_held(tmp_path, url, sha256)


@pytest.mark.parametrize("note", [b"", b"[]", b"{", b'{"sha256": 7}'])
def test_a_damaged_note_of_a_held_download_is_none(site: Site, web: Web, tmp_path: Path, note: bytes) -> None:
    url, sha256 = site.url("/film.mp4"), whole(web, site, tmp_path).sha256
    next(tmp_path.glob("*/~held.json")).write_bytes(note)
    assert not is_held(tmp_path, url, sha256)
    with claim(tmp_path, url) as path:
        assert first_measures(path, sha256, {"fetched_at": "later"}) == {"fetched_at": "later"}


def test_nothing_is_held_where_the_disk_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=79)
    with claim(tmp_path, "http://example.org/a") as path:
        path.write_bytes(bytes(10))
        note_of(path).write_text("{}")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        assert not hold(path, "", {})
        path.write_bytes(bytes(9))
        assert hold(path, "", {})
        note_of(path).unlink()  # the next claim could not go on
        assert not hold(path, "", {})
