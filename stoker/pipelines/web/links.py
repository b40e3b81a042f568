"""Normalise, validate and redact http(s) URLs."""

import ipaddress
import re
import socket
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

import idna

MAX_URL = 4096  # characters; servers refuse longer ones, and no list holds them but by mistake
PORTS = {"http": 80, "https": 443}
_SPACE = "".join(map(chr, range(0x21)))  # C0 controls and space, stripped at both ends as browsers do
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as the last label: the host is an IPv4 address, or none at all
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # with Unicode's own separators of lines and paragraphs
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NOT_ESCAPED = "%/:?#[]@!$&'()*+,;=~|"  # besides ASCII letters and digits
_AUTHORITY = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::([0-9]{0,20}))?", re.ASCII)
# What ``normalise`` leaves as it is, and most URLs of lists are: 20 times as quick to see as to do. It leaves out what
# would take a second look: ports, addresses, escapes, dot segments, empty queries.
_NORMAL = re.compile(
    r"https?://(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
    r"(?:/(?!\.\.?(?:[/?]|\Z))[A-Za-z0-9._~!$&'()*+,;=:@|-]*)+"
    r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?|-]+)?"
)
_MAX_NORMAL = 253  # characters: so the host is not too long either
_MAX_HINT = 100  # characters of a path in a message
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def normalise(text: str, base: str = "") -> str:
    """The one form of an http(s) URL, relative to ``base`` if given. Normalising twice changes nothing.

    As RFC 3986 section 6 and browsers do: lower-case scheme and host (IDNA), no default port, no fragment,
    no dot segments, escapes in upper case, none for unreserved characters, others escaped as UTF-8.
    Raises ValueError, without a password in its message.

    >>> normalise("HTTP://Example.COM:80/a/../ü b.jpg#top")
    'http://example.com/%C3%BC%20b.jpg'
    >>> normalise("//cdn.example/i,1.png", "https://example.com/x/")
    'https://cdn.example/i,1.png'
    """
    if len(text) <= _MAX_NORMAL and _NORMAL.fullmatch(text):
        return text
    text = re.sub("[\t\r\n]", "", text.strip(_SPACE))
    if not text:
        raise ValueError("no URL")
    if len(text) > MAX_URL:
        raise ValueError(f"longer than {MAX_URL} characters")
    text = _replace_backslashes(text)
    if not base and ":" not in text and "//" not in text:
        raise ValueError("no scheme")
    try:
        if base and not _SCHEME.match(text):
            text = urljoin(base, text)
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("bad host or port") from None  # Python's message shows the host, which may hold a password
    if parts.scheme not in PORTS:
        raise ValueError(f"scheme {parts.scheme[:20]!r}, expected http or https" if parts.scheme else "no scheme")
    if "@" in parts.netloc:
        raise ValueError("it holds a user name or password")
    netloc = _normalise_authority(parts.netloc, PORTS[parts.scheme])
    path = _remove_dot_segments(_normalise_escapes(parts.path)) or "/"
    result = urlunsplit(SplitResult(parts.scheme, netloc, path, _normalise_escapes(parts.query), ""))
    if len(result) > MAX_URL:
        raise ValueError(f"longer than {MAX_URL} characters")
    return result


def normalise_listed(text: str) -> str:
    """``normalise`` for a URL of a list or an option, where a line break inside most likely stands between two URLs.

    In pages, line breaks inside a URL are left out, as browsers do. Raises ValueError for any control character.

    >>> normalise_listed(" http://example.com/a\\n")
    'http://example.com/a'
    >>> normalise_listed("http://example.com/a\\nhttp://example.com/b")
    Traceback (most recent call last):
    ValueError: a control character inside: U+000A
    """
    text = text.strip(_SPACE)
    control = _CONTROL.search(text)
    if control:
        raise ValueError(f"a control character inside: U+{ord(control[0]):04X}")
    return normalise(text)


def normalise_named(text: str) -> str:
    """``normalise_listed`` for what names a sample's URL, which is ``file:cat/1.jpg`` where it is a file of a folder.

    Raises ValueError, which says what to write where the scheme is missing.

    >>> normalise_named("file:cat/1.jpg"), normalise_named("HTTP://a.example")
    ('file:cat/1.jpg', 'http://a.example/')
    >>> normalise_named("cat/1 a.jpg")
    Traceback (most recent call last):
    ValueError: no scheme; write file:cat/1%20a.jpg for a file of a folder, or a URL such as https://example.org/1.jpg
    """
    if text.startswith("file:"):
        return text
    try:
        return normalise_listed(text)
    except ValueError as error:
        if str(error) != "no scheme":
            raise
        path = quote(text.strip(_SPACE)[:_MAX_HINT].removeprefix("./").lstrip("/"))
        hint = f"write file:{path} for a file of a folder, or a URL such as https://example.org/1.jpg"
        raise ValueError(f"{error}; {hint}") from None


def redact(url: str) -> str:
    """The URL, or any text that was meant as one, without user name and password: fit for logs and records.

    >>> redact("https://me:secret@example.com/a@b")
    'https://…@example.com/a@b'
    >>> redact("http://a.example/\\nhttp://me:secret@b.example/")
    'http://a.example/�http://…@b.example/'
    """
    return "�".join(map(_redact_one, _CONTROL.split(url[:MAX_URL])))


def _redact_one(url: str) -> str:
    cleaned = url if url.isprintable() else "".join(char if char.isprintable() else "�" for char in url)
    if "@" not in cleaned and ":" not in cleaned:
        return cleaned
    cleaned = re.sub(r"^([^/?#\\]*:)?([/\\]{0,3})[^/?#\\]*@", r"\1\2…@" if "//" in cleaned else "…@", cleaned)
    # A port that is not a number may be a password whose "@host" is missing.
    return re.sub(r"(//[^/?#:\[]*):(?![0-9]{0,5}(?:[/?#]|$))[^/?#]*", r"\1:…", cleaned, count=1)


def ascii_host(host: str) -> str:
    """A host name in ASCII and lower case, by UTS 46 without transitional processing, as browsers do.

    IDNA 2003, which Python's codec follows, makes ``fass`` of ``faß``: the host of another owner. Raises ValueError.

    >>> ascii_host("FA\u00df.example"), ascii_host("A_b.Example")
    ('xn--fa-hia.example', 'a_b.example')
    """
    if host.isascii():
        return host.lower()
    try:
        labels = idna.uts46_remap(host, std3_rules=False, transitional=False).split(".")
        return ".".join(label if label.isascii() else _ascii_label(label) for label in labels)
    except (idna.IDNAError, UnicodeError):
        raise ValueError("not a host name") from None


def _ascii_label(label: str) -> str:
    try:
        return idna.alabel(label).decode("ascii")
    except idna.InvalidCodepoint:  # a character that UTS 46 allows and IDNA 2008 does not, such as an emoji
        return f"xn--{label.encode('punycode').decode('ascii')}"


def host_of(url: str) -> str:
    """Host and port of a normal URL; the port only if it is not the default.

    >>> host_of("http://example.com:8080/a"), host_of("https://example.com/a")
    ('example.com:8080', 'example.com')
    """
    return urlsplit(url).netloc


def origin_of(url: str) -> str:
    """Scheme, host and port of a normal URL.

    >>> origin_of("http://example.com:8080/a?b")
    'http://example.com:8080'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _replace_backslashes(text: str) -> str:
    """Turn backslashes before the query into slashes, as browsers do: otherwise two programs may see two hosts."""
    head = re.split(r"[?#]", text, maxsplit=1)[0]
    return head.replace("\\", "/") + text[len(head) :]


def _normalise_authority(text: str, default_port: int) -> str:
    """Host and port (RFC 3986 section 3.2, without a user name); the port only if it is not the default.

    Not by urlsplit: it takes what stands in brackets for a host name if that begins like an address of the future.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError("bad host or port")
    address, name, digits = match.groups()
    port = int(digits) if digits else default_port
    if not 0 < port < 1 << 16:
        raise ValueError("a port that is not from 1 to 65535")
    host = _normalise_host(name) if address is None else _normalise_address(address)
    return host if port == default_port else f"{host}:{port}"


def _normalise_address(text: str) -> str:
    """An IPv6 address in brackets. A zone is refused: it names a network card of whoever wrote the URL."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("brackets around what is no IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("host with a zone")
    # An embedded IPv4 address is written in hexadecimal, as browsers do; Python from 3.13 on writes it with dots.
    embedded = address.ipv4_mapped
    compressed = (
        address.compressed if embedded is None else f"::ffff:{int(embedded) >> 16:x}:{int(embedded) & 0xFFFF:x}"
    )
    return f"[{compressed}]"


def _normalise_host(host: str) -> str:
    host = host.removesuffix(".")
    if not host:
        raise ValueError("no host")
    if "%" in host:
        raise ValueError("host with an escape")
    host = ascii_host(host)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError("not a host name")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            socket.inet_aton(host)  # also 127.1 and 0x7f000001, which connect, too
        except OSError:
            raise ValueError("not an IPv4 address") from None
    return host


def _normalise_escapes(text: str) -> str:
    def unescape(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return char if char in _UNRESERVED else match[0].upper()

    try:
        text = quote(text, safe=_NOT_ESCAPED, encoding="utf-8", errors="strict")
    except UnicodeEncodeError:
        raise ValueError("characters that are not Unicode text") from None
    return _ESCAPE.sub(unescape, text)


def _remove_dot_segments(path: str) -> str:
    """The path without "." and ".." segments (RFC 3986 section 5.2.4); it begins with a slash."""
    kept: list[str] = []
    segments = path.split("/")[1:] if path else []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
            continue
        if last:
            kept.append("")
    return "/" + "/".join(kept)
