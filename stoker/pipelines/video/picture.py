"""Conversion of decoded video frames to upright RGB images with square pixels."""

from fractions import Fraction
from typing import Any

from PIL import Image

_HD = 720  # lines: players take video of this size that names no colour space for BT.709
_BT709 = 1  # FFmpeg's numbers of colour spaces
_UNSPECIFIED = 2

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
    transpose = _TRANSPOSE_OF_ROTATION.get(round(frame.rotation / 90) * 90 % 360)
    return image.transpose(transpose) if transpose is not None else image


# By the display matrix's angle in degrees, counter-clockwise.
_TRANSPOSE_OF_ROTATION = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
