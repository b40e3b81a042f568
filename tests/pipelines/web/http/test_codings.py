"""Content-Encoding: undone where the bytes have it, ignored where they do not."""

import gzip
import zlib
from collections.abc import Iterator

import pytest

from stoker.pipelines.web.http.codings import decode_content
from stoker.pipelines.web.http.faults import BodyTooLarge, IncompleteResponse, ProtocolError

JPEG = b"\xff\xd8\xff\xe0 a picture"


def decode(body: bytes, header: str, piece: int = 5, limit: int = 100_000) -> bytes:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    return b"".join(decode_content(pieces(), header, limit))


@pytest.mark.parametrize(
    "header",
    ["", "identity", "none", "utf-8", "UTF-8", "binary", "aws-chunked", "8bit", "image/jpeg", "gzip", "x-gzip", "br",
     "zstd", "deflate", "compress", "gzip, gzip", "none, gzip", ",", '"gzip"', "x" * 5000],
)  # fmt: skip
def test_a_plain_picture_is_itself_whatever_the_header_says(header: str) -> None:
    assert decode(JPEG, header) == JPEG


@pytest.mark.parametrize("header", ["gzip", "x-gzip", "GZIP", "aws-chunked, gzip", "gzip, identity", "none,gzip"])
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_a_compressed_body_is_decoded(header: str, piece: int) -> None:
    assert decode(gzip.compress(JPEG * 50), header, piece) == JPEG * 50
    assert decode(gzip.compress(JPEG) + gzip.compress(JPEG), header, piece) == JPEG * 2


def test_codings_one_over_the_other_are_undone_in_turn() -> None:
    assert decode(gzip.compress(gzip.compress(JPEG)), "gzip, gzip") == JPEG
    assert decode(gzip.compress(zlib.compress(b"page")), "deflate, gzip") == b"page"
    with pytest.raises(ProtocolError, match="codings"):
        decode(JPEG, ", ".join(["gzip"] * 9))


def test_deflate_is_read_with_and_without_zlibs_header() -> None:
    raw = zlib.compress(b"page" * 99)[2:-4]
    assert decode(zlib.compress(b"page" * 99), "deflate") == decode(raw, "deflate") == b"page" * 99


@pytest.mark.parametrize("header", ["br", "zstd", "compress", "dcb"])
def test_a_body_in_a_coding_that_was_not_asked_for_is_refused(header: str) -> None:
    with pytest.raises(ProtocolError, match=header):
        decode(b"\x8b\x02\x80User-agent: *", header)


def test_a_compressed_body_that_is_damaged_or_too_large_is_refused() -> None:
    whole = gzip.compress(JPEG * 500)
    with pytest.raises(IncompleteResponse):
        decode(whole[:-9], "gzip")
    with pytest.raises(ProtocolError):
        decode(whole[:12] + b"\xff" * 9 + whole[21:], "gzip")
    with pytest.raises(BodyTooLarge):
        decode(gzip.compress(bytes(1000)), "gzip", limit=999)
