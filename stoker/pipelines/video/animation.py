"""Frames of animated WebP, which FFmpeg does not decode: Pillow does."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from PIL import Image, ImageSequence

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import TimedFrame

_MILLISECONDS = 1000
_MAX_FRAMES = 1_000_000


def animated_frames(path: Path, *, max_pixels: int) -> Iterator[TimedFrame[Image.Image | Rejected]]:
    """The frames on white, with their times, and at the end the time at which the last one ends, without a picture.

    Raises what Pillow raises for damaged files: OSError, ValueError, SyntaxError.
    """
    try:
        animation = Image.open(path, formats=("WEBP",))
    except Image.DecompressionBombError as error:
        yield TimedFrame(Fraction(0), 0, Rejected("too_many_pixels", str(error)))
        return
    with animation:
        if animation.width * animation.height > max_pixels:
            yield TimedFrame(Fraction(0), 0, Rejected("too_many_pixels", f"{animation.width}x{animation.height}"))
            return
        milliseconds = 0
        for number, frame in enumerate(ImageSequence.Iterator(animation)):
            if number == _MAX_FRAMES:
                return
            picture = frame.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            yield TimedFrame(Fraction(milliseconds, _MILLISECONDS), milliseconds, white.convert("RGB"))
            milliseconds += max(1, int(frame.info.get("duration") or 0))
