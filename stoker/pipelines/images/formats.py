"""Detection of image formats by their first bytes; names and Content-Types are ignored."""

import re
from functools import cache
from importlib import import_module
from typing import Any

from stoker.pipelines.images.containers.iso_boxes import boxes_in, brands_of
from stoker.pipelines.images.containers.tiff_directory import tiff_ends_early
from stoker.pipelines.rejected import Rejected

# The formats that are decoded, by the extension of their field. AVIF needs a Pillow that was built with it, HEIC and
# JPEG XL the extra "formats".
EXTENSIONS = ("jpg", "png", "webp", "gif", "bmp", "tif", "jp2", "avif", "heic", "jxl")
JXL_CODESTREAM = b"\xff\x0a"
# What is decoded only with the extra "formats": name and package.
_EXTRA = {"heic": ("HEIC", "pillow_heif"), "jxl": ("JPEG XL", "pillow_jxl")}

_MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"II+\0", "tif"),  # BigTIFF
    (b"MM\0+", "tif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),  # a bare code stream
    (JXL_CODESTREAM, "jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
)
# Formats that are recognised, for a clearer reject, and not decoded.
_UNSUPPORTED = (
    (b"II\xbc", "JPEG XR"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "icon"),
    (b"\0\0\2\0", "cursor"),
    (b"gimp xcf", "GIMP"),
    (b"v/1\1", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DirectDraw"),
    (b"%!PS-Adobe", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"FUJIFILM", "raw photograph"),
    (b"IIRO", "raw photograph"),
    (b"IIU\0", "raw photograph"),
    (b"\xd7\xcd\xc6\x9a", "Windows metafile"),
    (b"icns", "icon"),
)
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")
_JUNK = re.compile(rb"(?:[\t\n\r ]|\xef\xbb\xbf){1,64}")
_NETPBM = re.compile(rb"P[1-7]\s")
_SVG = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<(?:\w+:)?svg[\s>]", re.S
)
_SVG_HEAD = 4096  # bytes that are searched for an SVG's first element


def without_junk(payload: bytes) -> bytes:
    """The payload without white space and byte order marks before it, as some web servers' scripts print them.

    >>> without_junk(b"\\r\\nGIF89a")
    b'GIF89a'
    """
    match = _JUNK.match(payload)
    return payload[match.end() :] if match is not None else payload


def extension_of(payload: bytes) -> str | Rejected:
    """The extension of an image's format, or ``empty``, ``not_an_image`` or ``unsupported_format``.

    Junk before it is skipped: see ``without_junk``.

    >>> extension_of(b"GIF89a...")
    'gif'
    >>> extension_of(b"<html>").reason, extension_of(b"<svg xmlns='...'>").reason
    ('not_an_image', 'unsupported_format')
    """
    if not payload:
        return Rejected("empty")
    payload = without_junk(payload)
    extension = next((extension for magic, extension in _MAGIC if payload.startswith(magic)), None)
    if extension is not None:
        return extension
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return "webp"
    if payload[4:8] == b"ftyp":
        brands = brands_of(payload)
        if brands & {b"avif", b"avis"}:
            return "avif"
        return "heic" if brands & set(_HEIF) else Rejected("not_an_image")
    if payload[:2] == b"BM" and _is_bitmap(payload):
        return "bmp"
    unsupported = next((name for magic, name in _UNSUPPORTED if payload.startswith(magic)), None)
    if unsupported is None and _NETPBM.match(payload):
        unsupported = "Netpbm"
    if unsupported is None and _SVG.match(payload[:_SVG_HEAD]):
        unsupported = "SVG"
    if unsupported is not None:
        return Rejected("unsupported_format", unsupported)
    return Rejected("not_an_image", f"it begins {payload[:8]!r}")


def can_decode(extension: str) -> bool:
    """Whether the package is installed that images of this format need."""
    return extension not in _EXTRA or library_of(extension) is not None


@cache
def library_of(extension: str) -> Any:  # Any: a module that may be missing
    """The package that decodes a format, imported when the first image needs it; None if it is not installed."""
    try:
        return import_module(_EXTRA[extension][1])
    except ImportError:
        return None


def missing_library(extension: str) -> Rejected:
    """The reject of an image whose format needs the extra "formats", which is not installed."""
    return Rejected("unsupported_format", f'{_EXTRA[extension][0]} needs a library: pip install "stoker[formats]"')


def is_complete(payload: bytes, extension: str) -> bool:
    """Whether the data reaches its format's end marker or announced length; True for formats that have neither."""
    if extension == "jpg":
        return b"\xff\xd9" in payload[-1024:]  # cameras and servers append a few bytes
    if extension == "png":
        return b"IEND" in payload[-1024:]
    if extension == "gif":
        return payload.rstrip(b"\0").endswith(b";")
    if extension == "webp":
        return len(payload) >= int.from_bytes(payload[4:8], "little") + 8
    if extension == "bmp":
        return len(payload) >= int.from_bytes(payload[2:6], "little")
    if extension in ("avif", "heic", "jp2", "jxl") and payload[:2] not in (b"\xff\x4f", JXL_CODESTREAM):
        return _boxes_fit(payload)
    if extension == "jp2":
        return payload.endswith(b"\xff\xd9")
    if extension == "tif":
        return not tiff_ends_early(payload)
    return True


def _is_bitmap(payload: bytes) -> bool:
    """Whether a BMP's header has a plausible size: the two letters BM begin many other files too."""
    return len(payload) < 18 or 12 <= int.from_bytes(payload[14:18], "little") <= 1024


def _boxes_fit(payload: bytes) -> bool:
    """Whether all boxes of an ISO base media file end within the data."""
    stop = max((box.stop for box in boxes_in(payload, 0, len(payload))), default=0)
    # Behind the last box, a length that none can have is damage, and no end that came early.
    return stop == len(payload) or (
        stop + 8 <= len(payload) and 1 < int.from_bytes(payload[stop : stop + 4], "big") < 8
    )
