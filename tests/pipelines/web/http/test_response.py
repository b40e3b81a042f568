"""Responses read from bytes: interim responses, framing of bodies, the same however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.web.http.faults import BodyTooLarge, IncompleteResponse, ProtocolError
from stoker.pipelines.web.http.response import MAX_HEAD, MAX_INTERIM, Response, read_response

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LIMIT = 10_000


class Wire:
    """Bytes that arrive in pieces of so many."""

    def __init__(self, sent: bytes, piece: int = 1 << 20) -> None:
        self._sent, self._piece = sent, piece

    def receive(self, size: int) -> bytes:
        size = min(size, self._piece)
        piece, self._sent = self._sent[:size], self._sent[size:]
        return piece


def read(sent: bytes, piece: int = 1 << 20) -> tuple[Response, bytes]:
    response = read_response(Wire(sent, piece))
    return response, b"".join(response.body(LIMIT))


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </a>", b"199 Eh"])
def test_interim_responses_are_read_and_passed_over(interim: bytes) -> None:
    first = b"HTTP/1.1 " + interim + b"\r\n\r\n"
    for count in (1, MAX_INTERIM):
        response, body = read(first * count + OK + b"Content-Length: 3\r\n\r\nabc")
        assert (response.status, body) == (200, b"abc")
        assert not response.is_orderly(), "one request a connection for a server that sends them"
    with pytest.raises(ProtocolError, match="interim"):
        read(first * (MAX_INTERIM + 1) + OK + b"Content-Length: 3\r\n\r\nabc")


def test_interim_responses_alone_are_no_response() -> None:
    with pytest.raises(ConnectionResetError):
        read(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    with pytest.raises(ProtocolError, match="101"):
        read(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nabc")


@pytest.mark.parametrize("size", [1, 2, 8, 20, 30, 45, 47])
def test_a_head_that_is_cut_is_incomplete_and_none_at_all_is_a_closed_connection(size: int) -> None:
    with pytest.raises(IncompleteResponse, match="head"):
        read((OK + b"Content-Length: 3\r\nX-A: something\r\n\r\nabc")[:size])
    with pytest.raises(ConnectionResetError):
        read(b"")


@pytest.mark.parametrize(
    "sent", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 9000, b"\r\nHTTP/1.1 200 OK\r\n\r\n", b"<html>", b"X"]
)
def test_what_is_not_http_is_refused_at_its_first_bytes(sent: bytes) -> None:
    with pytest.raises(ProtocolError, match="not HTTP"):
        read(sent)


def test_the_head_is_limited_over_all_interim_responses() -> None:
    with pytest.raises(ProtocolError, match="head of more"):
        read(OK + b"X: " + b"a" * MAX_HEAD)
    half = b"HTTP/1.1 103 Hints\r\nX: " + b"a" * (MAX_HEAD // 2) + b"\r\n\r\n"
    with pytest.raises(ProtocolError, match="head of more"):
        read(half * 2 + OK + b"Content-Length: 3\r\n\r\nabc")


def test_a_body_has_the_bytes_announced_and_what_follows_is_no_part_of_it() -> None:
    response, body = read(OK + b"Content-Length: 3\r\n\r\nabc")
    assert (body, response.is_orderly(), response.has_surplus()) == (b"abc", True, False)
    response, body = read(OK + b"Content-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n")
    assert (body, response.is_orderly(), response.has_surplus()) == (b"abc", False, True)
    with pytest.raises(IncompleteResponse, match="2 of 3"):
        read(OK + b"Content-Length: 3\r\n\r\nab")


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    response, body = read(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert (body, response.is_orderly()) == (b"abc", False)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_a_body_ends_at_its_head(status: bytes) -> None:
    response, body = read(b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\n\r\nabc")
    assert (body, response.is_orderly()) == (b"", False)


def test_a_body_over_the_limit_is_refused() -> None:
    with pytest.raises(BodyTooLarge, match="announced"):
        read(OK + b"Content-Length: 10001\r\n\r\n")
    for sent in (OK + b"\r\n" + bytes(LIMIT + 1), CHUNKED + b"2711\r\n" + bytes(LIMIT + 1)):
        with pytest.raises(BodyTooLarge, match="more than"):
            read(sent)


@pytest.mark.parametrize(
    "sent",
    [
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"3;a=b\r\nabc\r\n2 ; c\r\nde\r\n000\r\n\r\n",
        b"03  \r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: a\r\nTransfer-Encoding: x\r\n\r\n",
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_chunks_are_joined_without_extensions_and_trailers(sent: bytes, piece: int) -> None:
    response, body = read(CHUNKED + sent, piece)
    assert (body, response.is_orderly()) == (b"abcde", True)
    assert "x-trailer" not in response.headers


@pytest.mark.parametrize(
    "sent",
    [b"zz\r\nabc", b"\r\nabc", b"-3\r\nabc", b"+3\r\nabc", b"0x3\r\nabc", b"3\nabc\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n",
     b"3\r\nab\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b" 3\r\nabc\r\n", b"3 3\r\nabc", b"3;\rx\r\nabc\r\n",
     b"3" * 16 + b"\r\n",
     b"3;" + b"a" * 5000 + b"\r\nabc\r\n0\r\n\r\n", b"3_0\r\nabc", b"0\r\n" + b"X: a\r\n" * 20_000 + b"\r\n"],
)  # fmt: skip
def test_a_chunk_with_a_bad_size_line_or_end_is_refused(sent: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(CHUNKED + sent)


@pytest.mark.parametrize(
    "sent", [b"", b"3", b"3\r\n", b"3\r\nab", b"3\r\nabc", b"3\r\nabc\r\n", b"0\r\n", b"0\r\nX: a\r\n"]
)
def test_chunks_that_are_cut_are_incomplete(sent: bytes) -> None:
    with pytest.raises(IncompleteResponse):
        read(CHUNKED + sent)


def test_many_small_pieces_are_joined() -> None:
    response = read_response(Wire(CHUNKED + b"1\r\na\r\n" * 5000 + b"0\r\n\r\n"))
    assert list(response.body(LIMIT)) == [b"a" * 5000]


@given(st.binary(max_size=300), st.lists(st.integers(1, 90), max_size=8), st.integers(1, 40), st.booleans())
def test_the_same_response_is_read_however_its_bytes_arrive(
    body: bytes, sizes: list[int], piece: int, chunked: bool
) -> None:
    sent = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if chunked:
        sent, rest = CHUNKED, body
        for size in [*sizes, 400]:
            if rest:
                part, rest = rest[:size], rest[size:]
                sent += b"%x\r\n" % len(part) + part + b"\r\n"
        sent += b"0\r\n\r\n"
    response, received = read(b"HTTP/1.1 103 Hints\r\n\r\n" + sent, piece)
    assert (response.status, received) == (200, body)
    for cut in (len(sent) - 1, len(sent) // 2):
        with pytest.raises((IncompleteResponse, ConnectionResetError)):
            read(sent[:cut], piece)
