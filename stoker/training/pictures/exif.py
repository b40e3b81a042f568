"""EXIF orientation of JPEGs: reads it, turns images upright, and maps boxes of the upright image to the stored one."""

import struct
from typing import Any

import numpy.typing as npt

from stoker.training.pictures.crops import Box

_ORIENTATION = 0x0112  # the TIFF tag
# Orientations 1 to 8. Upright is the stored image with its axes swapped (5 to 8), then mirrored along the axes below.
_MIRRORED_ACROSS = (2, 3, 6, 7)
_MIRRORED_DOWN = (3, 4, 7, 8)


def read_orientation(payload: bytes | memoryview) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1 (upright) if it states none."""
    offset = 2
    while offset + 4 <= len(payload) and payload[offset] == 0xFF:
        marker, size = payload[offset + 1], payload[offset + 2] << 8 | payload[offset + 3]
        if marker == 0xE1 and bytes(payload[offset + 4 : offset + 10]) == b"Exif\0\0":
            return _orientation_tag(bytes(payload[offset + 10 : offset + 2 + size]))
        if not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            return 1  # EXIF comes before the image's own segments
        offset += 2 + size
    return 1


def oriented_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """The size of the upright image from that of the stored one, or the other way round.

    >>> oriented_size(40, 30, 6)
    (30, 40)
    """
    return (height, width) if orientation >= 5 else (width, height)


def to_stored_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """The box in the stored image of a box in the upright image, which has this width and height.

    >>> to_stored_box((0, 0, 10, 20), 30, 40, 6)
    (0, 20, 20, 10)
    """
    left, top, across, down = box
    if orientation in _MIRRORED_ACROSS:
        left = width - left - across
    if orientation in _MIRRORED_DOWN:
        top = height - top - down
    return (top, left, down, across) if orientation >= 5 else (left, top, across, down)


def to_upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:  # Any: of any type
    """Stored pixels (H, W, C) as the upright image: a view, so not always contiguous."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in _MIRRORED_ACROSS:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in _MIRRORED_DOWN else pixels


def _orientation_tag(exif: bytes) -> int:
    """The orientation that EXIF data, a TIFF header and its first directory, state; else 1."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, directory + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass  # cut or damaged: taken as upright, as viewers do
    return 1
