"""Photographs lie in their files as the camera held its sensor; EXIF says how to turn them upright."""

import struct
from typing import Any

import numpy.typing as npt

Box = tuple[int, int, int, int]  # left, top, width, height
_TAG = 0x0112
# Upright is what is stored, its axes swapped (5 to 8), then mirrored.
_MIRRORED = (2, 3, 6, 7)
_UPSIDE_DOWN = (3, 4, 7, 8)


def orientation(payload: bytes | memoryview) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1 where it says none."""
    at = 2
    while at + 4 <= len(payload) and payload[at] == 0xFF:
        marker, size = payload[at + 1], payload[at + 2] << 8 | payload[at + 3]
        if marker == 0xE1 and bytes(payload[at + 4 : at + 10]) == b"Exif\0\0":
            return _tag(bytes(payload[at + 10 : at + 2 + size]))
        if not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            return 1  # EXIF comes before the image's own segments
        at += 2 + size
    return 1


def seen(width: int, height: int, turned: int) -> tuple[int, int]:
    """Width and height of an image of that orientation, upright; or, of an upright image, as it is stored.

    >>> seen(40, 30, 6)
    (30, 40)
    """
    return (height, width) if turned >= 5 else (width, height)


def stored(box: Box, width: int, height: int, turned: int) -> Box:
    """Where a box of the upright image, which has this width and height, lies in what is stored.

    >>> stored((0, 0, 10, 20), 30, 40, 6)
    (0, 20, 20, 10)
    """
    left, top, across, down = box
    if turned in _MIRRORED:
        left = width - left - across
    if turned in _UPSIDE_DOWN:
        top = height - top - down
    return (top, left, down, across) if turned >= 5 else (left, top, across, down)


def upright(pixels: npt.NDArray[Any], turned: int) -> npt.NDArray[Any]:  # Any: of any type
    """Stored pixels (H, W, C), turned; not always contiguous."""
    if turned >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turned in _MIRRORED:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if turned in _UPSIDE_DOWN else pixels


def _tag(exif: bytes) -> int:
    """The value of the tag in a TIFF header."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, first)
        for number in range(entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, first + 2 + 12 * number)
            if tag == _TAG:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass  # cut or nonsense: as if it said nothing, as every viewer has it
    return 1
