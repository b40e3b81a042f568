"""Containers of elements, each with its size: they must end within the file. "" where one shows no cut."""

from typing import BinaryIO

_SEGMENT = b"\x18\x53\x80\x67"  # the id of Matroska's top element, which holds all others
_CLUSTER = 0x1F43B675
_MAX_ELEMENTS = 1_000_000  # boxes, tags, blocks: bounds the reading of a damaged file
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # GUID of the file properties


def check_mov(file: BinaryIO, size: int) -> str:
    """All top-level boxes must end within the file, and one must be an index. Behind another one not all is read."""
    types, offset, indexes = set(), 0, 0
    for _ in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(16)
        if len(head) < 8:
            break
        types.add(head[4:8])
        indexes += head[4:8] == b"moov"
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
    if indexes > 1:
        return f"{indexes} videos are joined in it, and not all after the first is read"
    return "" if types & {b"moov", b"moof"} else "no index (moov): its recording was not finished"


def check_webp(file: BinaryIO, size: int) -> str:
    """One RIFF chunk."""
    end = 8 + int.from_bytes(file.read(8)[4:], "little")
    return check_riff(file, size) or _describe_second(file, end + end % 2)


def check_riff(file: BinaryIO, size: int) -> str:
    """AVI: one RIFF chunk after the other."""
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


def check_matroska(file: BinaryIO, size: int) -> str:
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


def check_flv(file: BinaryIO, size: int) -> str:
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


def check_asf(file: BinaryIO, size: int) -> str:
    """Windows Media: the header's file properties name the size, unless it was a broadcast."""
    head = file.read(1 << 16)
    offset = head.find(_ASF_FILE)
    properties = head[offset : offset + 104]
    if offset < 0 or len(properties) < 104 or properties[88] & 1:
        return ""
    announced = int.from_bytes(properties[40:48], "little")
    return f"{size} bytes of {announced}" if announced > size else _describe_second(file, announced)


def _describe_second(file: BinaryIO, end: int) -> str:
    """What follows the video that ends there, if it is another one of this kind: it is not read."""
    file.seek(0)
    magic = file.read(4)
    file.seek(end)
    return f"another video begins at byte {end} and is not read" if file.read(4) == magic else ""


def check_gif(file: BinaryIO, size: int) -> str:
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


def check_apng(file: BinaryIO, size: int) -> str:
    """Chunks up to IEND."""
    offset = 8
    for _ in range(_MAX_ELEMENTS):
        file.seek(offset)
        head = file.read(8)
        offset += 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or offset > size:
            return f"{size} bytes of at least {max(offset, size + 1)}"
        if head[4:] == b"IEND":
            return _describe_second(file, offset)
    return ""


def check_ivf(file: BinaryIO, size: int) -> str:
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
