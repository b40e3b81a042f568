"""PNG, WebP and TIFF files whose metadata have wrong lengths or places, so that their pixels can be read still.

Intact files are returned as they are. Nothing here touches pixels: where the fault is theirs it stays.
"""

import re
import struct
import zlib

_PNG_CHUNKS = re.compile(
    rb"IDAT|IEND|PLTE|tRNS|acTL|bKGD|cHRM|cICP|eXIf|fcTL|gAMA|iCCP|iTXt|pHYs|sBIT|sRGB|tEXt|tIME|zTXt"
)
_MAX_TRIES = 64  # places at which a chunk may begin


def find_png_chunk(payload: bytes, start: int) -> int | None:
    """Where the next intact chunk begins at or behind an offset; None if none is found."""
    view, budget = memoryview(payload), 2 * len(payload)
    for tries, match in enumerate(_PNG_CHUNKS.finditer(payload, start + 4)):
        offset = match.start() - 4
        size = int.from_bytes(payload[offset : offset + 4], "big")
        if size + 12 > len(payload) - offset:
            continue
        budget -= size
        if tries >= _MAX_TRIES or budget < 0:
            return None
        stop = offset + 12 + size
        if zlib.crc32(view[offset + 4 : stop - 4]) == int.from_bytes(payload[stop - 4 : stop], "big"):
            return offset
    return None


_WEBP_METADATA = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}  # and their flags in the header
_WEBP_CHUNKS = (b"ALPH", b"ANIM", b"ANMF", b"VP8 ", b"VP8L", *_WEBP_METADATA)
_WEBP_CHUNK = re.compile(b"|".join(_WEBP_CHUNKS))


def repaired_webp(payload: bytes) -> bytes:
    """The file without the profile, EXIF or XMP whose length is wrong."""
    stop = 8 + int.from_bytes(payload[4:8], "little")
    if payload[12:16] != b"VP8X" or stop > len(payload):
        return payload
    offset, kept, lost = 30, [payload[:30]], 0
    while offset + 8 <= stop:
        name, size = payload[offset : offset + 4], int.from_bytes(payload[offset + 4 : offset + 8], "little")
        end = offset + 8 + size + size % 2
        if name in _WEBP_METADATA and not _begins_webp_chunk(payload, end, stop):
            lost |= _WEBP_METADATA[name]
            end = next(
                (
                    match.start()
                    for match in _WEBP_CHUNK.finditer(payload, offset + 8, stop)
                    if _begins_webp_chunk(payload, match.start(), stop)
                ),
                stop,
            )
        else:
            kept.append(payload[offset:end])
        offset = end
    if not lost:
        return payload
    body = b"".join(kept)[8:]
    return b"RIFF" + struct.pack("<I", len(body)) + body[:12] + bytes((body[12] & ~lost,)) + body[13:]


def _begins_webp_chunk(payload: bytes, offset: int, stop: int) -> bool:
    """Whether a chunk of any name begins there that ends within the file, or the file ends there."""
    if offset >= stop:
        return offset <= stop + 1  # a byte of padding may be missing
    return all(0x20 <= byte < 0x7F for byte in payload[offset : offset + 4]) and (
        offset + 8 + int.from_bytes(payload[offset + 4 : offset + 8], "little") <= stop
    )


# Tags of TIFF on which pixels or their orientation hang.
_TIFF_PIXELS = {254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 280, 284, 290, 291, 292, 293, 297, 301}
_TIFF_PIXELS |= {*range(317, 326), 330, *range(332, 335), *range(338, 348), *range(512, 522), *range(529, 533)}
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def repaired_tiff(payload: bytes) -> bytes:
    """The file with a zero in place of each entry of the first page's metadata that lies outside of the file.

    Pillow stops reading a directory at the first such entry, and then lacks what stands behind it.
    """
    order = "<" if payload[:2] == b"II" else ">"
    is_big = payload[2:4] in (b"+\0", b"\0+")
    offset_form, count_form, entry_size = (f"{order}Q", f"{order}Q", 20) if is_big else (f"{order}I", f"{order}H", 12)
    place = 8 if is_big else 4
    if len(payload) < place + struct.calcsize(offset_form):
        return payload
    (start,) = struct.unpack_from(offset_form, payload, place)
    if start + struct.calcsize(count_form) > len(payload):
        return payload
    (entries,) = struct.unpack_from(count_form, payload, start)
    start += struct.calcsize(count_form)
    repaired: bytearray | None = None
    for entry in range(
        start, min(start + min(entries, 65_535) * entry_size, len(payload) - entry_size + 1), entry_size
    ):
        tag, kind = struct.unpack_from(f"{order}HH", payload, entry)
        (count,) = struct.unpack_from(offset_form, payload, entry + 4)
        value = entry + 4 + struct.calcsize(offset_form)
        size = count * _TIFF_SIZES.get(kind, 1)
        if tag in _TIFF_PIXELS or size <= entry + entry_size - value:
            continue
        (where,) = struct.unpack_from(offset_form, payload, value)
        if where + size > len(payload):
            repaired = repaired or bytearray(payload)
            struct.pack_into(f"{order}H", repaired, entry + 2, 1)
            struct.pack_into(offset_form, repaired, entry + 4, 1)
            repaired[value : entry + entry_size] = bytes(entry + entry_size - value)
    return payload if repaired is None else bytes(repaired)
