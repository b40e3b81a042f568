"""Heads of responses: what they say, and what leaves the end of the body in doubt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.web.http.faults import ProtocolError
from stoker.pipelines.web.http.head import MAX_FIELDS, parse_head

OK = b"HTTP/1.1 200 OK\r\n"


def test_a_head_has_its_status_and_headers_by_name_in_lower_case() -> None:
    head = parse_head(OK + b"X-A: 1\r\nContent-Length: 7\r\nx-a:  2 \r\n\r\n")
    assert (head.status, head.length, head.chunked, head.orderly) == (200, 7, False, True)
    assert dict(head.headers) == {"x-a": "1, 2", "content-length": "7"}
    assert head.headers.lines("x-a") == ("1", "2")


def test_a_line_that_goes_on_belongs_to_its_own_line_alone() -> None:
    head = parse_head(OK + b"X-A: 1\r\nX-A: 2\r\n\t3\r\nX-A: 4\r\n\r\n")
    assert head.headers.lines("x-a") == ("1", "2 3", "4")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 6",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: 5 6",
        b"Content-Length: 0x5",
        b"Content-Length: ",
        b"Content-Length: 5.0",
        b"Content-Length: \xb2",
        b"Content-Length: 9999999999999999999",
        b"Content-Length:\r\n 5\r\n 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding : chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
        b"X: a\rContent-Length: 5",
        b"X: a\0",
        b"\r\r\nX: a",
    ],
)
def test_a_head_that_leaves_the_end_of_the_body_in_doubt_is_refused(lines: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(OK + lines + b"\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [b"", b"HTTP/2 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000", b"HTTP/1.1  200 OK", b"ICY 200 OK", b"http/1.1 200",
     b"HTTP/1.1\t200 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 \xb2\xb2\xb2 OK", b"HTTP/0.9 200 OK"],
)  # fmt: skip
def test_what_is_no_status_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(line + b"\r\nContent-Length: 5\r\n\r\n")


def test_a_transfer_coding_in_http_1_0_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"1\.0"):
        parse_head(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 5\r\nX-Robots-Tag: noai",
        b"Content-Length: 5\nX-Robots-Tag: noai",
        b"Content-Length: 5\r\nno colon here\r\nX-Robots-Tag: noai",
        b"no colon here\r\n at all\r\nContent-Length: 5\r\nX-Robots-Tag: noai",
        b" before the first\r\nContent-Length: 5\r\nX-Robots-Tag: noai",
        b": no name\r\nContent-Length: 5\r\nX-Robots-Tag: noai",
        b"Content-Length: 5\r\nX-Robots-Tag:\r\n\tnoai",
        b"Content-Length: 5\r\nX-Robots-Tag : noai",
        b"Content-Length: 5\r\nConnection: Keep-Alive, Close\r\nX-Robots-Tag: noai",
    ],
)
def test_smaller_faults_lose_no_header_and_end_the_connection(lines: bytes) -> None:
    head = parse_head(OK + lines + b"\r\n\r\n")
    assert (head.length, head.headers["x-robots-tag"], head.orderly) == (5, "noai", False)


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none_whatever_its_head_says(status: int) -> None:
    start = f"HTTP/1.1 {status} No\r\n".encode()
    assert parse_head(start + b"\r\n").orderly
    for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        head = parse_head(start + line + b"\r\n\r\n")
        assert (head.length, head.chunked, head.orderly) == (0, False, False)


def test_http_1_0_and_a_body_until_the_end_close_the_connection() -> None:
    assert not parse_head(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n").orderly
    assert not parse_head(OK + b"\r\n").orderly


def test_the_number_of_header_lines_is_limited() -> None:
    parse_head(OK + b"A: b\r\n" * MAX_FIELDS + b"\r\n")
    with pytest.raises(ProtocolError, match="header lines"):
        parse_head(OK + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n")


@given(
    st.binary(max_size=200) | st.text(st.sampled_from("HTP/1. 20\r\n:aContent-Length,"), max_size=80).map(str.encode)
)
def test_any_bytes_are_a_head_or_a_protocol_error(noise: bytes) -> None:
    for start in (b"", OK, b"HTTP/1.1 "):
        try:
            head = parse_head(start + noise)
        except ProtocolError:
            continue
        assert head.length is None or head.length >= 0
