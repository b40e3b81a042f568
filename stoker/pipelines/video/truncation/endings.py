"""Containers that show a cut by how they end, or by a part of a frame. "" where one shows no cut."""

from typing import BinaryIO

_TAIL = 1 << 17  # bytes: more than two pages of Ogg, or packets of MPEG-PS
_NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")
_MXF_PARTITION = bytes.fromhex("060e2b34020501010d01020101")


def check_ogg(file: BinaryIO, size: int) -> str:
    """The last page must be whole, and be the last one of a stream."""
    base = max(0, size - _TAIL)
    file.seek(base)
    tail = file.read(_TAIL)
    offset = len(tail)
    while (offset := tail.rfind(b"OggS", 0, offset)) >= 0:
        segments = tail[offset + 26] if len(tail) > offset + 26 else 0
        end = offset + 27 + segments + sum(tail[offset + 27 : offset + 27 + segments])
        if len(tail) >= offset + 27 + segments and end <= len(tail):
            return "" if tail[offset + 5] & 4 else f"{size} bytes, and its last page says that more follow"
    return ""


def check_mxf(file: BinaryIO, size: int) -> str:
    """The header names the place of the footer."""
    head = file.read(1 << 16)
    offset = head.find(_MXF_PARTITION)
    if offset < 0 or len(head) < offset + 64:
        return ""
    length = head[offset + 16]
    values = offset + 17 + (length & 0x7F if length & 0x80 else 0)
    footer = int.from_bytes(head[values + 24 : values + 32], "big")
    return f"{size} bytes of at least {footer}" if footer >= size else ""


def check_mpeg(file: BinaryIO, size: int) -> str:
    """The last packet must end within the file, and discs have whole sectors."""
    head = file.read(2052)
    if head[2048:] == b"\0\0\x01\xba" and size % 2048 and size % 2048 != 4:  # 4: the end code
        return f"{size} bytes, {2048 - size % 2048} less than whole sectors"
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    offset = len(tail)
    while (offset := tail.rfind(b"\0\0\x01", 0, offset)) >= 0:
        if len(tail) > offset + 5 and tail[offset + 3] >= 0xBB:
            missing = offset + 6 + int.from_bytes(tail[offset + 4 : offset + 6], "big") - len(tail)
            return f"{size} bytes of at least {size + missing}" if missing > 0 else ""
    return ""


def check_mjpeg(file: BinaryIO, size: int) -> str:
    """The last picture must end."""
    file.seek(max(0, size - 4096))
    tail = file.read().rstrip(b"\0\xff\r\n")
    return "" if tail.endswith(b"\xd9") else f"{size} bytes without the end of the last picture"


def check_nut(file: BinaryIO, size: int) -> str:
    """The index is the end, and its length stands before a last checksum."""
    file.seek(max(0, size - 12))
    length = int.from_bytes(file.read(8), "big")
    file.seek(max(0, size - length))
    whole = length < size and file.read(8) == _NUT_INDEX
    return "" if whole else f"{size} bytes without the index at the end"


def check_dv(file: BinaryIO, size: int) -> str:
    """Frames of one size."""
    length = 144_000 if file.read(4)[3:] >= b"\x80" else 120_000  # of 50 or 60 fields a second
    return f"{size} bytes, {length - size % length} less than whole frames" if size % length else ""


def check_y4m(file: BinaryIO, size: int) -> str:
    """Frames of one size, each behind a line."""
    words = file.readline(1024).split()
    values = {word[:1]: word[1:].decode("ascii", "replace") for word in words[1:]}
    try:
        width, height = int(values[b"W"]), int(values[b"H"])
    except (KeyError, ValueError):
        return ""
    chroma = values.get(b"C", "420")
    half = (width + 1) // 2
    colours = {"mono": 0, "444": 2 * width * height, "422": 2 * half * height, "411": 2 * ((width + 3) // 4) * height}
    colour = next((count for name, count in colours.items() if chroma.startswith(name)), 2 * half * ((height + 1) // 2))
    length = (width * height + colour) * (2 if "p1" in chroma or chroma.startswith("mono1") else 1) + len(b"FRAME\n")
    rest = (size - file.tell()) % length
    return f"{size} bytes, {length - rest} less than whole frames" if rest else ""
