"""A decoded frame as a picture: RGB, upright, square pixels."""

from fractions import Fraction
from typing import Any

from PIL import Image

_HD = 720  # lines from which on video that does not say so is BT.709, as players take it
_BT709 = 1  # FFmpeg's number
_UNSPECIFIED = 2

Frame = Any  # av.VideoFrame: PyAV is untyped to us


def frame_to_image(frame: Frame, aspect: Fraction | None) -> Image.Image:
    """The frame as it is meant to be seen, on white where it is clear; ``aspect``: width of a pixel over height."""
    unsaid = frame.colorspace == _UNSPECIFIED
    source = _BT709 if unsaid and frame.height >= _HD else None
    clear = any(component.is_alpha for component in frame.format.components)
    form = "rgba" if clear else "rgb24"
    picture = Image.fromarray(frame.reformat(format=form, src_colorspace=source).to_ndarray())
    if clear:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        picture = white.convert("RGB")
    if aspect and aspect != 1 and Fraction(1, 4) <= aspect <= 4:
        picture = picture.resize((max(1, round(picture.width * aspect)), picture.height), Image.Resampling.BICUBIC)
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return picture.transpose(turn) if turn is not None else picture


# By the display matrix's angle, counter-clockwise.
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
