"""The head of a response, parsed from its bytes: status, headers, and how long the body is (RFC 9112)."""

import re
from dataclasses import dataclass, field

from stoker.pipelines.web.headers import Headers
from stoker.pipelines.web.http.faults import ProtocolError

MAX_FIELDS = 256  # header lines; real servers send fewer than 50
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([0-9]{3})(?: .*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_SPACE = " \t"  # OWS of RFC 9110, 5.6.3
_BODILESS = frozenset({204, 304})  # RFC 9110, 6.4.1


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of a response, and the framing of its body."""

    status: int
    headers: Headers = field(repr=False)
    length: int | None  # bytes of the body as announced; None: until the last chunk or the end of the connection
    chunked: bool
    orderly: bool  # HTTP/1.1, the connection stays open, and nothing in the head is against the standard


def parse_head(head: bytes) -> Head:
    """The head from its bytes, with or without the empty line at its end.

    A line may end with LF alone (RFC 9112, 2.2); a line that goes on in the next one is joined (5.2); a line without a
    colon is ignored. Raises ProtocolError for anything that leaves in doubt where the body ends: several different
    lengths, a length beside a transfer coding, a transfer coding other than chunked, CR or NUL inside a line.

    >>> parse_head(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nX-Robots-Tag: noai")
    Head(status=200, length=5, chunked=False, orderly=True)
    """
    received = head.decode("latin-1")
    text = received.replace("\r\n", "\n")
    orderly = received.count("\n") == received.count("\r")
    text = text.rstrip("\n")
    if "\r" in text or "\0" in text:
        raise ProtocolError("not HTTP (a control character in the head)")
    status_line, *lines = text.split("\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise ProtocolError("not HTTP (no status line)")
    if len(lines) > MAX_FIELDS:
        raise ProtocolError(f"more than {MAX_FIELDS} header lines")
    status = int(match[2])
    headers, well_formed = _headers(lines)
    closes = "close" in headers.get("connection", "").lower()
    orderly = orderly and well_formed and match[1] != "0" and not closes
    coding = headers.get("transfer-encoding")
    lengths = headers.get("content-length")
    bodiless = status in _BODILESS
    if coding is None:
        length = None if lengths is None else _length(lengths)
        if bodiless:
            orderly = orderly and length in (None, 0)
        else:
            orderly = orderly and length is not None and "," not in headers["content-length"]
        return Head(status, headers, 0 if bodiless else length, False, orderly)
    if lengths is not None:
        raise ProtocolError("both Content-Length and Transfer-Encoding")
    if match[1] == "0":
        raise ProtocolError("Transfer-Encoding in an HTTP/1.0 response")
    coding = coding.lower()
    if coding not in ("chunked", "identity"):
        raise ProtocolError(f"Transfer-Encoding {coding[:20]!r}, which was not asked for")
    chunked = coding == "chunked" and not bodiless
    return Head(status, headers, 0 if bodiless else None, chunked, orderly and chunked)


def _headers(lines: list[str]) -> tuple[Headers, bool]:
    """The headers by name in lower case, and whether each line is as the standard has it."""
    headers: dict[str, list[str]] = {}
    well_formed = True
    name = ""
    for line in lines:
        if line[:1] in (" ", "\t"):  # it goes on from the line before, and is ignored with it
            well_formed = False
            if name:
                headers[name][-1] = f"{headers[name][-1]} {line.strip(_SPACE)}".strip()
            continue
        written, colon, value = line.partition(":")
        name = written.rstrip(_SPACE).lower() if colon else ""
        well_formed = well_formed and bool(name) and name.isascii() and len(name) == len(written)
        if name:
            headers.setdefault(name, []).append(value.strip(_SPACE))
    return Headers(headers), well_formed


def _length(text: str) -> int:
    """Content-Length; repeated values must be the same (RFC 9112, 6.3)."""
    values = {value.strip(_SPACE) for value in text.split(",")}
    value = values.pop()
    if values or not _LENGTH.fullmatch(value):
        raise ProtocolError(f"Content-Length {text[:40]!r}, expected one number")
    return int(value)
