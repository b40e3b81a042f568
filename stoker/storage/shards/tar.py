"""Writing tar headers, in one format. ``stoker.storage.shards.tar_headers`` reads every common format.

Source: POSIX.1-1988 "ustar" interchange format (IEEE Std 1003.1).
"""

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_NAME = 100  # bytes; no name of ours needs the prefix field
MAX_SIZE = 8**11 - 1  # bytes: eleven octal digits
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
_HEADER = b"%b" + _OWNER + b"%b\0" + _TIME + b"%06o\0 " + _TAIL  # none of the fixed fields holds a per cent sign
_FIXED_SUM = sum(_OWNER) + sum(_TIME) + sum(b" " * 8) + sum(_TAIL)
_PADDING = [bytes((-size) % BLOCK) for size in range(BLOCK)]


def header(name: str, size: int) -> bytes:
    """The 512-byte header of a member. Raises ValueError for a name or size that does not fit."""
    encoded = name.encode("ascii")
    if len(encoded) > MAX_NAME or not 0 <= size <= MAX_SIZE:
        raise ValueError(f"tar member {name!r} of {size} bytes: expected at most {MAX_NAME} characters and 8 GiB")
    digits = b"%011o" % size
    total = _FIXED_SUM + sum(encoded) + sum(digits)
    return _HEADER % (encoded.ljust(MAX_NAME, b"\0"), digits, total)


def padding(size: int) -> bytes:
    """The zeros after a payload of ``size`` bytes."""
    return _PADDING[size % BLOCK]
