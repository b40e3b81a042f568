"""Tar headers: one form written, every common form read.

Source: POSIX.1-1988 "ustar" and POSIX.1-2001 "pax" interchange formats (IEEE Std 1003.1), and GNU tar's long names.
"""

from collections.abc import Iterator

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_NAME = 100  # bytes; no name of ours needs the prefix field
MAX_SIZE = 8**11 - 1  # bytes: eleven octal digits
_REGULAR = b"0\0" + b"7"
_LONG_NAME, _PAX, _PAX_GLOBAL = ord("L"), ord("x"), ord("g")
# mode 0644, uid 0, gid 0; the size and the checksum go between; mtime 0: a retried write must give the same bytes
_OWNER = b"0000644\0" + b"0000000\0" + b"0000000\0"
_TIME = b"00000000000\0"
_TAIL = (
    b"0"  # a regular file
    + bytes(100)  # no link
    + b"ustar\0" + b"00"
    + bytes(32)  # no owner's name
    + bytes(32)  # no group's name
    + b"0000000\0" + b"0000000\0"  # no device
    + bytes(155)  # no prefix
    + bytes(12)
)  # fmt: skip
_FIXED_SUM = sum(_OWNER) + sum(_TIME) + sum(b" " * 8) + sum(_TAIL)
_PADDING = [bytes((-size) % BLOCK) for size in range(BLOCK)]


class BadTar(ValueError):
    """Bytes that are no tar; says at which byte and what was found."""


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a member's payload. Raises ValueError for a name or size that does not fit."""
    encoded = name.encode("ascii")
    if len(encoded) > MAX_NAME or not 0 <= size <= MAX_SIZE:
        raise ValueError(f"tar member {name!r} of {size} bytes: expected at most {MAX_NAME} characters and 8 GiB")
    digits = b"%011o\0" % size
    total = _FIXED_SUM + sum(encoded) + sum(digits)
    return b"%b%b%b%b%b%06o\0 %b" % (encoded, bytes(MAX_NAME - len(encoded)), _OWNER, digits, _TIME, total, _TAIL)


def padding(size: int) -> bytes:
    """The zeros after a payload."""
    return _PADDING[size % BLOCK]


def members_of(payload: memoryview) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every regular file in a tar. Raises BadTar; also for one that has no end."""
    at, whole = 0, len(payload)
    name, size_given = "", -1  # from an extended header, for the next member
    while True:
        if at + BLOCK > whole:
            raise BadTar(f"at byte {at}: the tar ends without its end mark; it is cut short")
        block = bytes(payload[at : at + BLOCK])
        if not any(block):
            return
        size = _size(block, at)
        kind = block[156]
        if kind not in (_LONG_NAME, _PAX, _PAX_GLOBAL) and size_given >= 0:
            size = size_given
        start, stop = at + BLOCK, at + BLOCK + size
        if stop > whole:
            raise BadTar(f"at byte {at}: a member of {size} bytes, but only {whole - start} follow; it is cut short")
        if kind == _LONG_NAME:
            name = _text(bytes(payload[start:stop]).rstrip(b"\0"), at)
        elif kind == _PAX:
            fields = _pax(bytes(payload[start:stop]), at)
            name = fields.get("path", name)
            size_given = int(fields["size"]) if fields.get("size", "").isdigit() else -1
        else:
            if kind in _REGULAR:
                yield name or _name(block, at), start, size
            name, size_given = "", -1
        at = stop + (-stop) % BLOCK


def _size(block: bytes, at: int) -> int:
    # The sum is over the header with its own field as blanks; very old tars added signed bytes, which we do not read.
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _octal(block[148:156], at, "checksum") != total:
        raise BadTar(f"at byte {at}: no tar header, or an altered one (checksum)")
    field = block[124:136]
    if field[0] & 0x80:  # GNU's base-256 for 8 GiB and more
        return int.from_bytes(field[1:], "big")
    return _octal(field, at, "size")


def _octal(field: bytes, at: int, what: str) -> int:
    digits = field.strip(b"\0 ")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise BadTar(f"at byte {at}: no tar header: its {what} is {field!r}") from None


def _name(block: bytes, at: int) -> str:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name, at)


def _text(name: bytes, at: int) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise BadTar(f"at byte {at}: a member's name is not UTF-8: {name[:60]!r}") from None


def _pax(payload: bytes, at: int) -> dict[str, str]:
    fields: dict[str, str] = {}
    while payload:
        length, _, _ = payload.partition(b" ")
        if not length.isdigit() or not len(length) + 1 < int(length) <= len(payload):
            raise BadTar(f"at byte {at}: an extended header that cannot be read")
        name, _, value = payload[len(length) + 1 : int(length) - 1].partition(b"=")
        fields[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        payload = payload[int(length) :]
    return fields
