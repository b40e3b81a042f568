"""Numbers of frames and pages of image files, counted in their containers: nothing is decoded.

A file that is damaged has as many frames as can be found. What belongs to one image is none: thumbnails, masks and
smaller versions of TIFF, tiles and depth maps of AVIF and HEIF, second images of JPEG (MPF).
"""

import re
import struct
from collections.abc import Callable

from stoker.pipelines.images.containers.iso_images import count_images

MAX_FRAMES = 1_000_000  # more are not counted


def frames_of(payload: bytes, extension: str) -> int:
    """How many frames or pages an image file holds, at least 1. ``payload`` begins with the format's first bytes.

    >>> frames_of(b"GIF89a", "gif")
    1
    """
    count = _COUNTERS.get(extension)
    return min(max(1, count(payload)), MAX_FRAMES) if count is not None else 1


def _frames_of_gif(payload: bytes) -> int:
    """Image descriptors before the trailer. Of each, at least the header and a byte of data must be there."""
    offset = 13 + _colour_table(payload[10:11])
    frames = 0
    while offset < len(payload) and frames < MAX_FRAMES:
        kind = payload[offset]
        if kind == 0x21:  # an extension: its label, then sub-blocks
            offset += 2
        elif kind == 0x2C:
            offset += 10 + _colour_table(payload[offset + 9 : offset + 10]) + 1  # and the size of LZW codes
            if offset + 1 >= len(payload):
                return frames
            frames += 1
        elif kind == 0x3B:
            return frames
        else:  # Pillow and browsers look for the next block behind unknown bytes
            offset += 1
            continue
        while offset < len(payload) and payload[offset]:
            offset += payload[offset] + 1
        offset += 1
    return frames


def _colour_table(flags: bytes) -> int:
    """Bytes of the colour table that a GIF's flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _frames_of_webp(payload: bytes) -> int:
    """Chunks ANMF of a file whose header says that it is animated."""
    if payload[12:16] != b"VP8X" or len(payload) < 21 or not payload[20] & 2:
        return 1
    offset, frames = 12, 0
    stop = min(len(payload), 8 + int.from_bytes(payload[4:8], "little"))
    while offset + 8 < stop and frames < MAX_FRAMES:
        frames += payload[offset : offset + 4] == b"ANMF"
        size = int.from_bytes(payload[offset + 4 : offset + 8], "little")
        offset += 8 + size + size % 2
    return frames


_APNG = re.compile(rb"acTL|IDAT")


def _frames_of_png(payload: bytes) -> int:
    """Chunks fcTL of a file with acTL before its pixels, without which decoders see no animation."""
    first = _APNG.search(payload)
    if first is None or first[0] == b"IDAT":
        return 1
    offset, frames, animated = 8, 0, False
    while offset + 12 <= len(payload) and frames < MAX_FRAMES:
        name = payload[offset + 4 : offset + 8]
        if name == b"IDAT" and not animated:
            return 1
        animated |= name == b"acTL"
        frames += name == b"fcTL"
        offset += 12 + int.from_bytes(payload[offset : offset + 4], "big")
    return frames


_SMALLER_OR_MASK = 1 | 4  # flags of NewSubfileType


def _pages_of_tiff(payload: bytes) -> int:
    """Directories in the chain of a TIFF or BigTIFF, without masks and smaller versions of other images."""
    order = "<" if payload[:2] == b"II" else ">"
    is_big = payload[2:4] in (b"+\0", b"\0+")
    count_form, entry_size, offset_form = (f"{order}Q", 20, f"{order}Q") if is_big else (f"{order}H", 12, f"{order}I")
    count_size, offset_size = struct.calcsize(count_form), struct.calcsize(offset_form)
    place, pages, seen = 8 if is_big else 4, 0, set[int]()
    while place + offset_size <= len(payload) and len(seen) < MAX_FRAMES:
        (start,) = struct.unpack_from(offset_form, payload, place)
        if not start or start in seen or start + count_size > len(payload):
            break
        seen.add(start)
        (entries,) = struct.unpack_from(count_form, payload, start)
        place = start + count_size + entries * entry_size
        if not entries or place > len(payload):
            break
        pages += not _subfile_type(payload, order, start + count_size, entry_size) & _SMALLER_OR_MASK
    return pages


def _subfile_type(payload: bytes, order: str, start: int, entry_size: int) -> int:
    """The NewSubfileType of a directory, which is its first entry where there is one."""
    (tag,) = struct.unpack_from(f"{order}H", payload, start)
    if tag != 254:
        return 0
    value: int = struct.unpack_from(f"{order}I", payload, start + entry_size - (8 if entry_size == 20 else 4))[0]
    return value


_COUNTERS: dict[str, Callable[[bytes], int]] = {
    "gif": _frames_of_gif,
    "webp": _frames_of_webp,
    "png": _frames_of_png,
    "tif": _pages_of_tiff,
    "avif": count_images,
    "heic": count_images,
}
