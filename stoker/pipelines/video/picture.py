"""Conversion of decoded video frames to upright RGB images with square pixels."""

import struct
from fractions import Fraction
from typing import Any

from PIL import Image

_HD = 720  # lines: players take video of this size that names no colour space for BT.709
_BT709 = 1  # FFmpeg's numbers of colour spaces
_UNSPECIFIED = 2
_MATRIX_SIZE = 36  # bytes of a display matrix: 3x3 32-bit numbers

Frame = Any  # av.VideoFrame: PyAV is untyped to us


def frame_to_image(frame: Frame, aspect: Fraction | None) -> Image.Image:
    """The frame as players show it, transparency on white. ``aspect``: a pixel's width over its height."""
    colour_space = _BT709 if frame.colorspace == _UNSPECIFIED and frame.height >= _HD else None
    has_alpha = any(component.is_alpha for component in frame.format.components)
    pixel_format = "rgba" if has_alpha else "rgb24"
    image = Image.fromarray(frame.reformat(format=pixel_format, src_colorspace=colour_space).to_ndarray())
    if has_alpha:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white.convert("RGB")
    if aspect and aspect != 1 and Fraction(1, 4) <= aspect <= 4:
        image = image.resize((max(1, round(image.width * aspect)), image.height), Image.Resampling.BICUBIC)
    transpose = _transpose_of(_display_matrix(frame))
    return image.transpose(transpose) if transpose is not None else image


def _display_matrix(frame: Frame) -> tuple[int, int, int, int]:
    """The matrix (a, b, c, d) by which players move pixels: x' = a x + c y, y' = b x + d y, with y downward.

    Source: FFmpeg, libavutil/display.h; the same as in the track header of ISO/IEC 14496-12.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    payload = b"" if side_data is None else bytes(side_data)
    if len(payload) != _MATRIX_SIZE:
        return (1, 0, 0, 1)
    numbers = struct.unpack("=9i", payload)
    return numbers[0], numbers[1], numbers[3], numbers[4]


def _transpose_of(matrix: tuple[int, int, int, int]) -> Image.Transpose | None:
    """The nearest of the eight ways to turn and mirror an image; None for none.

    >>> _transpose_of((-1, 0, 0, 1))
    <Transpose.FLIP_LEFT_RIGHT: 0>
    >>> _transpose_of((0, 1, -1, 0))  # a quarter clockwise
    <Transpose.ROTATE_270: 4>
    """
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _STRAIGHT[a < 0, d < 0]
    return _CROSSED[b < 0, c < 0]


# By whether the matrix's numbers are negative: (a, d) where x stays x, (b, c) where x becomes y.
_STRAIGHT = {
    (False, False): None,
    (True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (True, True): Image.Transpose.ROTATE_180,
}
_CROSSED = {
    (False, False): Image.Transpose.TRANSPOSE,
    (False, True): Image.Transpose.ROTATE_270,
    (True, False): Image.Transpose.ROTATE_90,
    (True, True): Image.Transpose.TRANSVERSE,
}
