"""Downloads to a file: resumed, restarted or removed."""

import hashlib
import resource
import signal
from pathlib import Path

import pytest

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched
from tests.site import MEGABYTE, Reply, Site, reason


def test_a_download_resumes_where_it_broke_off(site: Site, web: Web, tmp_path: Path) -> None:
    body = bytes(range(256)) * 4000
    site.pages["/a"] = [
        Reply(body, cut=300_000, etag='"v1"'),
        Reply(body, cut=300_000, etag='"v1"'),
        Reply(body, etag='"v1"'),
    ]
    fetched = web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)
    assert isinstance(fetched, Fetched)
    assert (tmp_path / "a").read_bytes() == body
    assert (fetched.sha256, fetched.size, fetched.content) == (hashlib.sha256(body).hexdigest(), len(body), b"")
    first, second, third = site.asked("/a")
    assert "range" not in first.headers
    assert (second.headers["range"], second.headers["if-range"]) == ("bytes=300000-", '"v1"')
    assert third.headers["range"] == "bytes=600000-"


def test_a_download_restarts_when_the_file_changed(site: Site, web: Web, tmp_path: Path) -> None:
    site.pages["/a"] = [Reply(b"old" * 1000, cut=1500, etag='"v1"'), Reply(b"new" * 1000, etag='"v2"')]
    fetched = web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)
    assert isinstance(fetched, Fetched)
    assert (tmp_path / "a").read_bytes() == b"new" * 1000
    assert fetched.sha256 == hashlib.sha256(b"new" * 1000).hexdigest()


def test_a_range_that_was_not_asked_for_is_discarded(site: Site, web: Web, tmp_path: Path) -> None:
    body = b"0123456789" * 100
    wrong = Reply(body[:500], 206, {"Content-Range": "bytes 0-499/1000", "ETag": '"v1"'})
    site.pages["/a"] = [Reply(body, cut=500, etag='"v1"'), wrong, Reply(body, etag='"v1"')]
    assert isinstance(web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE), Fetched)
    assert (tmp_path / "a").read_bytes() == body


def test_a_download_is_not_resumed_where_headers_contradict_each_other(site: Site, web: Web, tmp_path: Path) -> None:
    body = b"0123456789" * 100
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "v1"\r\n'
    part = b'HTTP/1.1 206 Partial\r\nContent-Length: 500\r\nContent-Range: bytes 500-999/1000\r\nETag: "v1"\r\n'
    site.pages["/a"] = [Reply(raw=head + b'ETag: "v2"\r\n\r\n' + body[:500]), Reply(body)]
    first = Reply(raw=head + b"\r\n" + body[:500])
    site.pages["/b"] = [first, Reply(raw=part + b'ETag: "v2"\r\n\r\n' + b"x" * 500), Reply(body)]
    site.pages["/c"] = [first, Reply(raw=part + b'ETag: "v1"\r\n\r\n' + body[500:])]
    for name in "abc":
        assert isinstance(web.download(site.url(f"/{name}"), tmp_path / name, max_size=MEGABYTE), Fetched)
        assert (tmp_path / name).read_bytes() == body
    assert "range" not in site.asked("/a")[1].headers


def test_a_download_that_fails_leaves_no_file(site: Site, web: Web, tmp_path: Path) -> None:
    site.pages["/a"] = Reply(b"x" * 1000, cut=500)
    site.pages["/b"] = Reply(b"x" * 2000)
    assert reason(web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)) == "truncated"
    assert reason(web.download(site.url("/b"), tmp_path / "b", max_size=1000)) == "too_large"
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_the_file_is_not_written_through(site: Site, web: Web, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "a").symlink_to("mine")
    site.pages["/a"] = Reply(b"theirs")
    with pytest.raises(OSError, match="symbolic links"):
        web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_part_that_ends_before_the_body_does_is_gone_on_with(site: Site, web: Web, tmp_path: Path) -> None:
    body = b"0123456789" * 100
    parts = [
        Reply(body[start : start + 250], 206, {"Content-Range": f"bytes {start}-{start + 249}/1000", "ETag": '"v1"'})
        for start in (500, 750)
    ]
    site.pages["/a"] = [Reply(body, cut=500, etag='"v1"'), *parts]
    fetched = web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE)
    assert isinstance(fetched, Fetched)
    assert (fetched.size, (tmp_path / "a").read_bytes()) == (1000, body)
    assert [request.headers.get("range") for request in site.asked("/a")] == [None, "bytes=500-", "bytes=750-"]


def test_a_part_with_another_length_or_end_than_it_says_is_discarded(site: Site, web: Web, tmp_path: Path) -> None:
    body = b"0123456789" * 100
    for name, said in {"short": "bytes 500-999/1000", "beyond": "bytes 500-899/700", "odd": "bytes 500-/1000"}.items():
        wrong = Reply(b"x" * 400, 206, {"Content-Range": said, "ETag": '"v1"'})
        site.pages[f"/{name}"] = [Reply(body, cut=500, etag='"v1"'), wrong, Reply(body, etag='"v1"')]
        assert isinstance(web.download(site.url(f"/{name}"), tmp_path / name, max_size=MEGABYTE), Fetched)
        assert (tmp_path / name).read_bytes() == body


def test_a_download_that_begins_anew_again_and_again_comes_to_an_end(site: Site, web: Web, tmp_path: Path) -> None:
    body = bytes(2 * MEGABYTE)
    cut = Reply(body, cut=MEGABYTE + 200_000, etag='"v1"')
    wrong = Reply(b"x" * 500, 206, {"Content-Range": "bytes 0-499/1000", "ETag": '"v1"'})
    site.pages["/a"] = [cut, wrong] * 6 + [Reply(body)]
    assert isinstance(web.download(site.url("/a"), tmp_path / "a", max_size=4 * MEGABYTE), Rejected)
    assert len(site.asked("/a")) < 12


@pytest.mark.parametrize("outlasts", [True, False])
def test_a_file_that_cannot_be_written_is_no_fault_of_the_server(
    site: Site, web: Web, tmp_path: Path, outlasts: bool
) -> None:
    site.pages["/a"] = Reply(bytes(2 * MEGABYTE), etag='"v1"')
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, before[1]))
        with pytest.raises(OSError, match="File too large") as raised:
            web.download(site.url("/a"), tmp_path / "a", max_size=4 * MEGABYTE, outlasts=outlasts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert raised.value.filename == str(tmp_path / "a")
    assert len(site.asked("/a")) == 1
    assert (tmp_path / "a").exists() == outlasts
    fetched = web.download(site.url("/a"), tmp_path / "a", max_size=4 * MEGABYTE, outlasts=outlasts)
    assert isinstance(fetched, Fetched)
    assert (tmp_path / "a").read_bytes() == bytes(2 * MEGABYTE)
