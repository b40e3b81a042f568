"""Checksums of TIFF strips and tiles compressed with Deflate, which libtiff does not always compare.

Most are compared with that of the decoded pixels, which takes little time; where these differ, zlib decides.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from stoker.pipelines.rejected import Rejected

_DEFLATE = (8, 32946)  # Adobe's number and the older one
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _FILL_ORDER, _ORIENTATION = 256, 257, 258, 259, 266, 274
_CHANNELS, _ROWS_PER_STRIP, _PLANES, _PREDICTOR = 277, 278, 284, 317
_STRIPS, _TILES, _TILE_WIDTH, _TILE_HEIGHT = (273, 279), (324, 325), 322, 323
_SIXTEEN = {"I;16": "<u2", "I;16B": ">u2"}  # modes of grey with 16 bits
_PIECE = 1 << 20  # bytes that are decompressed at once
_BAND = 1 << 18  # bytes of rows that are copied at once, and stay in the processor's cache
_MOST_TIMES, _SPARE = 4, 4096  # a part that holds so many times its pixels, and so many bytes more, is not sound


@dataclass(frozen=True, slots=True)
class _Part:
    """A strip or tile: its compressed bytes, and where its pixels are; planes lie one below the other."""

    content: memoryview
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class DeflateParts:
    """The strips or tiles of a TIFF's page, in rows from top to bottom."""

    parts: tuple[_Part, ...]
    width: int
    height: int
    size: int  # bytes of the pixels of one
    predictor: int
    sample: str  # NumPy's type of a sample, if the samples are Pillow's bytes, in their order; else ""

    def fault(self, image: Image.Image) -> Rejected | None:
        """``corrupt`` or ``truncated`` if the parts are not what was compressed. ``image``: the page, decoded."""
        channels, wide = len(image.getbands()), image.width * len(image.getbands())
        at_once = self.height * max(1, _BAND // (self.height * wide))  # rows
        rows, top = np.empty((0, 0)), -at_once
        for part in self.parts:
            if self.sample and part.left + self.width <= image.width and part.top < image.height:
                if part.top >= top + at_once:
                    top = part.top
                    band = image.crop((0, top, image.width, min(top + at_once, image.height)))
                    rows = np.frombuffer(band.tobytes(), self.sample).reshape(-1, wide)
                here = rows[part.top - top : part.top - top + self.height]
                if self._is_of(here[:, part.left * channels : (part.left + self.width) * channels], channels, part):
                    continue
            fault = self._fault_of(part.content)
            if fault is not None:
                return fault
        return None

    def _is_of(self, pixels: npt.NDArray[Any], channels: int, part: _Part) -> bool:
        """Whether the part's checksum is that of its samples: (height, width * channels)."""
        if self.predictor == 2:
            differences = np.empty_like(pixels)
            differences[:, :channels] = pixels[:, :channels]
            np.subtract(pixels[:, channels:], pixels[:, :-channels], out=differences[:, channels:])
            pixels = differences
        return part.content[-4:] == zlib.adler32(np.ascontiguousarray(pixels).view(np.uint8).data).to_bytes(4, "big")

    def _fault_of(self, content: memoryview) -> Rejected | None:
        inflater, found, most = zlib.decompressobj(), 0, self.size * _MOST_TIMES + _SPARE
        try:
            while not inflater.eof:
                piece = inflater.decompress(content, _PIECE)
                content, found = memoryview(inflater.unconsumed_tail), found + len(piece)
                if found > most:
                    return Rejected("corrupt", "a strip or tile holds far more than its pixels")
                if not piece and not content:
                    return Rejected("truncated", "a strip or tile ends early")
        except zlib.error as error:
            return Rejected("corrupt", f"a strip or tile: {error}")
        return None


def deflate_parts(image: TiffImagePlugin.TiffImageFile, payload: bytes) -> DeflateParts | None:
    """What is to be checked of a page that is not decoded yet; None if it is not compressed with Deflate.

    A page whose directory does not say where its parts are is left to libtiff.
    """
    tags = image.tag_v2
    if tags.get(_COMPRESSION) not in _DEFLATE or tags.get(_FILL_ORDER, 1) != 1:
        return None
    is_tiled = _TILES[0] in tags
    offsets, sizes = (_numbers(tags.get(tag, ())) for tag in (_TILES if is_tiled else _STRIPS))
    if not offsets or len(sizes) != len(offsets):
        return None
    width = _number(tags, _TILE_WIDTH, image.width) if is_tiled else image.width
    height = _number(tags, _TILE_HEIGHT if is_tiled else _ROWS_PER_STRIP, image.height)
    height = height if is_tiled else min(height, image.height)
    bits, channels = _numbers(tags.get(_BITS, (1,))), _number(tags, _CHANNELS, 1)
    predictor = _number(tags, _PREDICTOR, 1)
    is_plain = (
        set(bits) == {16 if image.mode in _SIXTEEN else 8}
        and channels == len(image.getbands())
        and _number(tags, _PLANES, 1) == 1
        and predictor in (1, 2)
        and _number(tags, _ORIENTATION, 1) == 1
    )
    sample = _SIXTEEN.get(image.mode, "u1") if is_plain else ""
    view, planes = memoryview(payload), 1 if _number(tags, _PLANES, 1) == 1 else channels
    places = [
        (left, plane * image.height + top)
        for plane in range(planes)
        for top in range(0, image.height, height)
        for left in range(0, image.width, width)
    ]
    parts = tuple(
        _Part(view[start : start + size], left, top)
        for start, size, (left, top) in zip(offsets, sizes, places, strict=False)
        if size
    )
    size = -(-width * max(bits, default=1) * channels // 8) * height
    return DeflateParts(parts, width, height, size, predictor, sample)


def _number(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, default: int) -> int:
    """A tag's positive whole number; the default if it has none."""
    value = tags.get(tag, default)
    return value if isinstance(value, int) and value > 0 else default


def _numbers(value: Any) -> tuple[int, ...]:  # Any: what Pillow has read of a file
    """A tag's whole numbers; none if it holds something else."""
    values = value if isinstance(value, tuple) else (value,)
    return values if all(isinstance(each, int) and each >= 0 for each in values) else ()
