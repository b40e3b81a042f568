"""Downloads to a file: resumed, restarted or removed."""

import hashlib
import resource
import signal
from pathlib import Path

import pytest

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched
from tests.site import MEGABYTE, Reply, Request, Site, reason


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


def chunked(said: str, body: bytes) -> Reply:
    """A part of a body whose length is not told beforehand."""
    head = b'HTTP/1.1 206 Partial Content\r\nETag: "v1"\r\nContent-Range: bytes %s\r\n' % said.encode()
    return Reply(raw=head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


def test_a_part_that_is_not_as_long_as_it_says_is_told_when_it_ends(site: Site, web: Web, tmp_path: Path) -> None:
    body = b"0123456789" * 100
    cut, rest = Reply(body, cut=500, etag='"v1"'), chunked("800-999/1000", body[800:])
    plans = {
        "longer": [cut, chunked("500-999/1000", body[500:] + b"extra"), Reply(body, etag='"v1"')],
        "longer-inside": [cut, chunked("500-749/1000", body[500:750] + bytes(50)), Reply(body, etag='"v1"')],
        "shorter": [cut, chunked("500-999/1000", body[500:800]), rest],
        "of-unknown-length": [cut, chunked("500-799/*", body[500:800]), chunked("800-999/*", body[800:])],
        "of-another-body": [cut, chunked("500-699/700", body[500:700]), Reply(body, etag='"v1"')],
    }
    for name, plan in plans.items():
        site.pages[f"/{name}"] = plan
        fetched = web.download(site.url(f"/{name}"), tmp_path / name, max_size=MEGABYTE)
        assert isinstance(fetched, Fetched), (name, fetched)
        assert (fetched.size, (tmp_path / name).read_bytes()) == (1000, body), name


def test_many_small_parts_are_no_failed_attempts(site: Site, web: Web, tmp_path: Path) -> None:
    body = bytes(range(256)) * 40

    def part(request: Request) -> Reply:
        if (asked := request.headers.get("range")) is None:
            return Reply(body, cut=500, etag='"v1"')
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        stop = min(start + 500, len(body))
        said = {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}", "ETag": '"v1"'}
        return Reply(body[start:stop], 206, said)

    site.pages["/a"] = part
    assert isinstance(web.download(site.url("/a"), tmp_path / "a", max_size=MEGABYTE), Fetched)
    assert (tmp_path / "a").read_bytes() == body


def test_a_download_of_what_changed_meanwhile_goes_on_as_long_as_it_progresses(
    site: Site, web: Web, tmp_path: Path
) -> None:
    old, new = bytes(5 * MEGABYTE), bytes(range(256)) * 4096 * 8
    pieces = [Reply(new, cut=MEGABYTE + 200_000, etag='"v2"') for _ in range(6)]
    site.pages["/a"] = [Reply(old, cut=4 * MEGABYTE, etag='"v1"'), *pieces, Reply(new, etag='"v2"')]
    assert isinstance(web.download(site.url("/a"), tmp_path / "a", max_size=16 * MEGABYTE), Fetched)
    assert (tmp_path / "a").read_bytes() == new


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
