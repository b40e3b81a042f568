"""Lanczos resizing of pixels with SIMD instructions: the same bytes on every machine, whatever its processor has.

The filter is the one of Pillow's LANCZOS; cykooz-resizer computes it in whole numbers, several times faster, and its
results are equal with AVX2, SSE4 and without either (a test compares them). It is a fixed dependency: a recipe has to
give the same bytes everywhere, so no other resizer takes its place where it is missing.
"""

import threading
from typing import Any

import cykooz_resizer
import numpy as np
import numpy.typing as npt

from stoker.pipelines.images.memory import Pixels

Box = tuple[float, float, float, float]  # left, top, width, height

_LARGE = 1 << 22  # pixels: larger images are resized in strips, with 16 bits between the passes
_STRIP = 1 << 20  # pixels of a strip
_LANCZOS = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.lanczos3)
_ZERO = 1 << 14  # the level 0 with 16 bits
_EIGHT = {1: cykooz_resizer.PixelType.U8, 3: cykooz_resizer.PixelType.U8x3}
_SIXTEEN = {1: cykooz_resizer.PixelType.U16, 3: cykooz_resizer.PixelType.U16x3}
_thread = threading.local()


def resize(pixels: Pixels, size: tuple[int, int], box: Box, *, exact: bool) -> Pixels:
    """The box of the pixels at the size (width, height).

    ``exact``: with 16 bits between the two passes of the filter, so that only the result is rounded to 8.
    """
    left, top, width, height = box
    rows, columns = pixels.shape[:2]
    if rows * columns <= _LARGE:
        return _eight_bits(_resize(_sixteen_bits(pixels) if exact else pixels, size, box))
    # Each pass in strips, for little memory: rows get their columns, then columns their rows.
    narrow = np.empty((rows, size[0], pixels.shape[2]), np.uint16)
    strip = max(1, _STRIP // columns)
    for start in range(0, rows, strip):
        part = pixels[start : start + strip]
        narrow[start : start + strip] = _resize(_sixteen_bits(part), (size[0], len(part)), (left, 0, width, len(part)))
    result = np.empty((size[1], size[0], pixels.shape[2]), np.uint8)
    strip = max(1, _STRIP // max(rows, size[1]))
    for start in range(0, size[0], strip):
        columns = min(strip, size[0] - start)
        resized = _resize(narrow[:, start : start + columns], (columns, size[1]), (0, top, columns, height))
        result[:, start : start + columns] = _eight_bits(resized)
    return result


def _sixteen_bits(pixels: Pixels) -> npt.NDArray[np.uint16]:
    """128 steps a level, with room for what the filter's first pass overshoots at edges."""
    return pixels.astype(np.uint16) * np.uint16(128) + np.uint16(_ZERO)


def _eight_bits(pixels: npt.NDArray[Any]) -> Pixels:  # Any: 8 or 16 bits
    return (
        pixels
        if pixels.dtype == np.uint8
        else ((pixels.clip(_ZERO, _ZERO + 255 * 128) - _ZERO + 64) >> 7).astype(np.uint8)
    )


def _resize(pixels: npt.NDArray[Any], size: tuple[int, int], box: Box) -> npt.NDArray[Any]:  # Any: as above
    rows, columns, channels = pixels.shape
    kind = (_EIGHT if pixels.dtype == np.uint8 else _SIXTEEN)[channels]
    source = cykooz_resizer.ImageData(columns, rows, kind, pixels.tobytes())
    result = cykooz_resizer.ImageData(size[0], size[1], kind)
    left, top = max(0.0, box[0]), max(0.0, box[1])
    crop = cykooz_resizer.CropBox(left, top, min(box[2], columns - left), min(box[3], rows - top))
    options = cykooz_resizer.ResizeOptions(resize_alg=_LANCZOS, use_alpha=False, crop_box=crop)
    _resizer().resize(source, result, options)
    resized: npt.NDArray[Any] = np.frombuffer(result.get_buffer(), pixels.dtype)  # Any: the dtype that came in
    return resized.reshape(size[1], size[0], channels)


def _resizer() -> cykooz_resizer.Resizer:
    """This thread's resizer, which keeps scratch memory."""
    if not hasattr(_thread, "resizer"):
        _thread.resizer = cykooz_resizer.Resizer()
    resizer: cykooz_resizer.Resizer = _thread.resizer
    return resizer
