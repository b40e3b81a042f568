"""Removal of an image's metadata without decoding it: pixels, orientation and colours stay as they are."""

import struct
import zlib

from stoker.pipelines.images.colour import MAX_PROFILE, orientation_in
from stoker.pipelines.images.jpeg import JpegData, check_jpeg
from stoker.pipelines.images.png import SIGNATURE, check_png, open_strict, shown_chunks
from stoker.pipelines.rejected import Rejected

_PROFILE_PART = 65_519  # bytes of a profile that fit into a JPEG's segment


def strip_metadata(payload: bytes, extension: str, *, max_pixels: int, profile: bool = True) -> bytes | Rejected:
    """The image without all that is not needed to show it; ``unsupported_format`` for formats that are not known here.

    Of JPEG, PNG and WebP an orientation other than upright stays, and the colour profile unless ``profile`` is false.
    BMP has no metadata.
    """
    if extension == "jpg":
        jpeg = check_jpeg(payload, max_pixels=max_pixels)
        return jpeg if isinstance(jpeg, Rejected) else strip_jpeg(jpeg, profile=profile)
    if extension == "png":
        return _strip_png(payload, profile)
    if extension == "webp":
        return _strip_webp(payload)
    if extension == "bmp":
        return payload
    return Rejected("unsupported_format", f"metadata of {extension} stay unless it is encoded anew: use step image")


def strip_jpeg(jpeg: JpegData, *, profile: bool) -> bytes:
    """The same for a JPEG that was checked."""
    kept = []
    orientation = orientation_in(jpeg.info)
    if orientation != 1:
        kept.append(_segment(0xE1, b"Exif\0\0" + _exif(orientation)))
    icc = jpeg.info.get("icc_profile", b"") if profile else b""
    parts = [icc[start : start + _PROFILE_PART] for start in range(0, len(icc), _PROFILE_PART)]
    for number, part in enumerate(parts, 1):
        kept.append(_segment(0xE2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part))
    stop = 20 if jpeg.payload[2:4] == b"\xff\xe0" else 2  # JFIF comes first
    return b"".join((jpeg.payload[:stop], *kept, jpeg.payload[stop:]))


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def _strip_png(payload: bytes, keep_profile: bool) -> bytes | Rejected:
    png = check_png(payload)
    if isinstance(png, Rejected):
        return png
    chunks = shown_chunks(payload)
    orientation = orientation_in(open_strict(png).info)
    if orientation != 1:
        chunks.insert(1, _chunk(b"eXIf", _exif(orientation)))
    if keep_profile and png.profile is not None:
        chunks.insert(1, _chunk(b"iCCP", b"icc\0\0" + zlib.compress(png.profile)))
    return b"".join((SIGNATURE, *chunks))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _strip_webp(payload: bytes) -> bytes | Rejected:
    """The RIFF chunks without EXIF and XMP; a turned image keeps its orientation."""
    chunks, offset, info = [], 12, {}
    stop = min(len(payload), 8 + int.from_bytes(payload[4:8], "little"))
    while offset + 8 <= stop:
        name, size = payload[offset : offset + 4], int.from_bytes(payload[offset + 4 : offset + 8], "little")
        end = offset + 8 + size + size % 2
        if offset + 8 + size > stop:
            return Rejected("truncated", f"chunk {name!r} reaches behind the end")
        content = payload[offset + 8 : offset + 8 + size]
        if name == b"EXIF":
            info["exif"] = content
        elif name == b"XMP ":
            info["xmp"] = content
        elif name in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF") or (
            name == b"ICCP" and len(content) <= MAX_PROFILE
        ):
            chunks.append((name, content))
        offset = end
    orientation = orientation_in(info)
    if orientation != 1:
        chunks.append((b"EXIF", _exif(orientation)))
    body = b"WEBP"
    for name, content in chunks:
        if name == b"VP8X" and content:  # its flags say which chunks follow: 8 is EXIF, 4 is XMP
            content = bytes((content[0] & ~12 | (8 if orientation != 1 else 0),)) + content[1:]
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _exif(orientation: int) -> bytes:
    """A TIFF header and a directory of the orientation alone."""
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHHI", 0x0112, 3, 1, orientation, 0, 0)
