"""Detection of video containers by their first bytes, and of files that were cut off."""

import os
from pathlib import Path

from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.rejected import Rejected

# FFmpeg's demuxers by what files begin with, as (offset, bytes, demuxer). FFmpeg is told which demuxer to use and
# never guesses: it knows formats (playlists, scripts) that make it open other files and URLs.
_MAGIC = (
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"OggS", "ogg"),
    (0, b"FLV\x01", "flv"),
    (0, b"\0\0\x01\xba", "mpeg"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
    (0, b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof", b"sidx", b"uuid")
_UNSUPPORTED = (
    (b".RMF", "RealMedia"),
    (b"\xb7\xd8\x00\x20", "Windows TV"),
    (b"FWS", "Flash"),
    (b"CWS", "Flash"),
    (b"ZWS", "Flash"),
    (b"\0\0\0\x01\x67", "raw H.264"),
    (b"\0\0\0\x01\x40", "raw HEVC"),
    (b"\0\0\0\x01\x09", "raw H.264"),
    (b"\0\0\x01\xb3", "raw MPEG video"),
    (b"DKIF", "IVF"),
    (b"#EXTM3U", "a playlist"),
)
_SEGMENT = b"\x18\x53\x80\x67"  # the id of Matroska's top element, which holds all others
_MAX_BOXES = 100_000


def demuxer_of(path: Path) -> str | Rejected:
    """FFmpeg's name for the container, or ``empty``, ``not_a_video`` or ``unsupported_format``."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return Rejected("empty")
    demuxer = next((name for offset, magic, name in _MAGIC if head.startswith(magic, offset)), None)
    if demuxer is not None:
        return demuxer
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    image = extension_of(head)
    if not isinstance(image, Rejected) or "HEI" in image.detail:
        return Rejected("not_a_video", "a still image")
    if head[4:8] in _BOXES:
        return "mov"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "mpegts"
    unsupported = next((name for magic, name in _UNSUPPORTED if head.startswith(magic)), None)
    if unsupported is not None:
        return Rejected("unsupported_format", unsupported)
    return Rejected("not_a_video", f"it begins {head[:8]!r}")


def describe_truncation(path: Path, demuxer: str) -> str:
    """How the file shows that it was cut off, such as "20 bytes of 50"; "" if it shows nothing."""
    if demuxer == "mov":
        return _describe_mov_truncation(path)
    with path.open("rb") as file:
        head = file.read(4096)
        size = os.fstat(file.fileno()).st_size
    if demuxer == "avi" and int.from_bytes(head[4:8], "little") + 8 > size:
        return f"{size} bytes of {int.from_bytes(head[4:8], 'little') + 8}"
    if demuxer == "matroska" and (offset := head.find(_SEGMENT)) >= 0 and head[offset + 4 : offset + 5]:
        width = 9 - head[offset + 4].bit_length()  # bytes of the length: the first byte's leading zeros count them
        length = int.from_bytes(head[offset + 4 : offset + 4 + width], "big") & ((1 << 7 * width) - 1)
        announced = offset + 4 + width + length
        if width <= 8 and length != (1 << 7 * width) - 1 and announced > size:  # all ones: unknown, as in live streams
            return f"{size} bytes of {announced}"
    return ""


def _describe_mov_truncation(path: Path) -> str:
    """The same for MP4 and QuickTime: all top-level boxes must end within the file, and one must be an index."""
    types = set()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        for _ in range(_MAX_BOXES):
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
    return "" if types & {b"moov", b"moof"} else "no index (moov): its recording was not finished"
