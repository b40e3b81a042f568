"""How a video file shows that it was cut off: by the sizes that its container announces against its own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from stoker.pipelines.video.transport_stream import describe_cut

_SEGMENT = b"\x18\x53\x80\x67"  # the id of Matroska's top element, which holds all others
_CLUSTER = 0x1F43B675
_MAX_ELEMENTS = 1_000_000  # boxes, tags, blocks: bounds the reading of a damaged file
_TAIL = 1 << 17  # bytes: more than two pages of Ogg, or packets of MPEG-PS
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # GUID of the file properties
_NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")
_MXF_PARTITION = bytes.fromhex("060e2b34020501010d01020101")


def describe_truncation(path: Path, demuxer: str) -> str:
    """How the file shows that it was cut off, such as "20 bytes of 50"; "" if it shows nothing."""
    check = _CHECKS.get(demuxer)
    if check is None:
        return ""
    with path.open("rb") as file:
        return check(file, os.fstat(file.fileno()).st_size)


def _mov(file: BinaryIO, size: int) -> str:
    """All top-level boxes must end within the file, and one must be an index."""
    types, offset = set(), 0
    for _ in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(16)
        if len(head) < 8:
            break
        types.add(head[4:8])
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            break
        if length < 8 or not head[4:8].isascii():
            return ""
        offset += length
        if offset > size:
            return f"{size} bytes of at least {offset}"
    if 0 < size - offset < 8 and types:
        return f"{size} bytes, of which the last {size - offset} begin another box"
    return "" if types & {b"moov", b"moof"} else "no index (moov): its recording was not finished"


def _riff(file: BinaryIO, size: int) -> str:
    """AVI and WebP: one RIFF chunk after the other."""
    offset = 0
    for _ in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return ""
        length = int.from_bytes(head[4:8], "little")
        if not 0 < length < (1 << 32) - 1:  # never filled in
            return ""
        offset += 8 + length
        if offset > size:
            return f"{size} bytes of {offset}"
        offset += length % 2
    return ""


def _matroska(file: BinaryIO, size: int) -> str:
    """The top element must end within the file; where its length is unknown (live), so must all that it holds."""
    head = file.read(4096)
    offset = head.find(_SEGMENT)
    if offset < 0 or not head[offset + 4 : offset + 5]:
        return ""
    length, width = _ebml_length(head[offset + 4 : offset + 12])
    if length is not None:
        announced = offset + 4 + width + length
        return f"{size} bytes of {announced}" if announced > size else ""
    offset += 4 + width
    for _ in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(12)
        if not head:
            return ""
        id_width = 9 - head[0].bit_length()
        if id_width > 4:  # no element: damage
            return ""
        if len(head) <= id_width:
            return f"{size} bytes, of which the last {len(head)} begin another element"
        length, width = _ebml_length(head[id_width : id_width + 8])
        end = offset + id_width + width + (length or 0)
        is_open = int.from_bytes(head[:id_width], "big") == _CLUSTER and length is None
        if end > size or (length is None and not is_open):
            return f"{size} bytes of at least {end}" if end > size else ""
        offset = end
    return ""


def _ebml_length(head: bytes) -> tuple[int | None, int]:
    """The length that EBML writes in 1 to 8 bytes, None if it is unknown, and how many bytes those are."""
    width = 9 - head[0].bit_length()  # the first byte's leading zeros count them
    if width > 8:
        return None, 1
    length = int.from_bytes(head[:width].ljust(width, b"\0"), "big") & ((1 << 7 * width) - 1)
    return (None if length == (1 << 7 * width) - 1 else length), width


def _flv(file: BinaryIO, size: int) -> str:
    """Tags, each with its length before and after it."""
    file.seek(5)
    offset = int.from_bytes(file.read(4), "big") + 4
    for _ in range(_MAX_ELEMENTS):
        if offset == size:
            return ""
        file.seek(offset)
        head = file.read(11)
        end = offset + 15 + int.from_bytes(head[1:4], "big")
        if len(head) < 11 or end > size:
            return f"{size} bytes of at least {max(end, size + 11 - len(head))}"
        file.seek(end - 4)
        if int.from_bytes(file.read(4), "big") not in (end - 4 - offset, end - 15 - offset, 0):
            return ""  # no tag: damage
        offset = end
    return ""


def _asf(file: BinaryIO, size: int) -> str:
    """Windows Media: the header's file properties name the size, unless it was a broadcast."""
    head = file.read(1 << 16)
    offset = head.find(_ASF_FILE)
    properties = head[offset : offset + 104]
    if offset < 0 or len(properties) < 104 or properties[88] & 1:
        return ""
    announced = int.from_bytes(properties[40:48], "little")
    return f"{size} bytes of {announced}" if announced > size else ""


def _ogg(file: BinaryIO, size: int) -> str:
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


def _gif(file: BinaryIO, size: int) -> str:
    """Blocks up to the trailer."""
    head = file.read(13)
    offset = 13 + (3 << (head[10] & 7) + 1 if len(head) == 13 and head[10] & 0x80 else 0)
    payload_at = {0x21: 2, 0x2C: 11}  # where the sub-blocks of an extension and of an image begin
    cut = f"{size} bytes without an end"
    for _ in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(10)
        if not head:
            return cut
        if head[0] not in payload_at:
            return ""  # the trailer, or damage
        offset += payload_at[head[0]]
        if head[0] == 0x2C and len(head) == 10 and head[9] & 0x80:
            offset += 3 << (head[9] & 7) + 1
        for _ in range(_MAX_ELEMENTS):
            file.seek(offset)
            length = file.read(1)
            if not length:
                return cut
            offset += 1 + length[0]
            if not length[0]:
                break
    return ""


def _mxf(file: BinaryIO, size: int) -> str:
    """The header names the place of the footer."""
    head = file.read(1 << 16)
    offset = head.find(_MXF_PARTITION)
    if offset < 0 or len(head) < offset + 64:
        return ""
    length = head[offset + 16]
    values = offset + 17 + (length & 0x7F if length & 0x80 else 0)
    footer = int.from_bytes(head[values + 24 : values + 32], "big")
    return f"{size} bytes of at least {footer}" if footer >= size else ""


def _mpeg(file: BinaryIO, size: int) -> str:
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


def _apng(file: BinaryIO, size: int) -> str:
    """Chunks up to IEND."""
    offset = 8
    for _ in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(8)
        offset += 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or offset > size:
            return f"{size} bytes of at least {max(offset, size + 1)}"
        if head[4:] == b"IEND":
            return ""
    return ""


def _mjpeg(file: BinaryIO, size: int) -> str:
    """The last picture must end."""
    file.seek(max(0, size - 4096))
    tail = file.read().rstrip(b"\0\xff\r\n")
    return "" if tail.endswith(b"\xd9") else f"{size} bytes without the end of the last picture"


def _nut(file: BinaryIO, size: int) -> str:
    """The index is the end, and its length stands before a last checksum."""
    file.seek(max(0, size - 12))
    length = int.from_bytes(file.read(8), "big")
    file.seek(max(0, size - length))
    whole = length < size and file.read(8) == _NUT_INDEX
    return "" if whole else f"{size} bytes without the index at the end"


def _dv(file: BinaryIO, size: int) -> str:
    """Frames of one size."""
    length = 144_000 if file.read(4)[3:] >= b"\x80" else 120_000  # of 50 or 60 fields a second
    return f"{size} bytes, {length - size % length} less than whole frames" if size % length else ""


def _y4m(file: BinaryIO, size: int) -> str:
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


def _ivf(file: BinaryIO, size: int) -> str:
    """Frames, each with its length before it, as many as the header says."""
    head = file.read(32)
    announced, offset = int.from_bytes(head[24:28], "little"), int.from_bytes(head[6:8], "little")
    for frames in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(12)
        if not head:
            return f"{frames} of {announced} frames" if frames < announced else ""
        offset += 12 + int.from_bytes(head[:4], "little")
        if len(head) < 12 or offset > size:
            return f"{size} bytes of at least {max(offset, size + 12 - len(head))}"
    return ""


_CHECKS: dict[str, Callable[[BinaryIO, int], str]] = {
    "mov": _mov,
    "avi": _riff,
    "webp": _riff,
    "matroska": _matroska,
    "flv": _flv,
    "asf": _asf,
    "ogg": _ogg,
    "gif": _gif,
    "mxf": _mxf,
    "mpegts": describe_cut,
    "mpeg": _mpeg,
    "apng": _apng,
    "mjpeg": _mjpeg,
    "ivf": _ivf,
    "nut": _nut,
    "dv": _dv,
    "yuv4mpegpipe": _y4m,
}
