"""PNGs decoded by OpenCV: a third of Pillow's time for small ones, and other threads run meanwhile.

Only files of which it is known that both give the same pixels: grey of 1, 2, 4 or 8 bits, RGB and RGBA of 8 bits, with
right checksums and no chunk that another decoder may take otherwise. Pillow decides about all others, and about those
that OpenCV refuses.
"""

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stoker.training.pictures.crops import Box

if TYPE_CHECKING:
    from types import ModuleType

_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_CHUNK = struct.Struct(">I4s")
_FIELDS = struct.Struct(">IIBBBBB")  # width, height, bits, colour, compression, filter, interlace
_GREY = 0
_BITS = {_GREY: (1, 2, 4, 8), 2: (8,), 6: (8,)}  # by colour: grey, RGB, RGBA
# Chunks before the pixels that no decoder here looks at, and their sizes: Pillow refuses others.
_SILENT = {b"pHYs": 9, b"gAMA": 4, b"sRGB": 1, b"cHRM": 32, b"tIME": 7}

Pixels = npt.NDArray[np.uint8]


def size_of(payload: bytes | memoryview, channels: int) -> tuple[int, int] | None:
    """Width and height of a PNG that ``decode`` may be asked for with 1 or 3 channels; None: ask Pillow."""
    if payload[:16] != _HEADER or payload[-12:] != _END or len(payload) < 57:
        return None
    width, height, bits, colour, compression, row_filter, interlace = _FIELDS.unpack_from(payload, 16)
    if bits not in _BITS.get(colour, ()) or (channels == 1 and colour != _GREY):
        return None
    if compression or row_filter or interlace > 1 or not width or not height or not _is_plain(payload):
        return None
    return width, height


def decode(
    cv2: "ModuleType", payload: bytes | memoryview, size: tuple[int, int], box: Box, channels: int
) -> Pixels | None:
    """The pixels of a box of the image, (H, W, channels); None if OpenCV does not decode it as expected."""
    try:
        image = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if image is None or image.dtype != np.uint8 or image.shape[1::-1] != size:
        return None
    left, top, width, height = box
    part = image[top : top + height, left : left + width]
    if part.ndim == 2:
        pixels: Pixels = part[:, :, None] if channels == 1 else cv2.cvtColor(part, cv2.COLOR_GRAY2RGB)
        return pixels
    if channels == 1 or part.shape[2] not in (3, 4):
        return None
    colours: Pixels = cv2.cvtColor(part, cv2.COLOR_BGR2RGB if part.shape[2] == 3 else cv2.COLOR_BGRA2RGB)
    return colours


def _is_plain(payload: bytes | memoryview) -> bool:
    """Whether the chunks are those of a plain image, with right checksums, and the end is the end of the payload."""
    at, last, has_pixels = 8, len(payload) - 12, False
    while at < last:
        length, kind = _CHUNK.unpack_from(payload, at)
        stop = at + 8 + length
        if stop + 4 > last or zlib.crc32(payload[at + 4 : stop]).to_bytes(4) != payload[stop : stop + 4]:
            return False
        if kind == b"IDAT":
            has_pixels = True
        elif has_pixels or (at > 8 and _SILENT.get(kind) != length):
            return False
        at = stop + 4
    return at == last and has_pixels
