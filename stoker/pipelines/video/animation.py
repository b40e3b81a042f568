"""Frames of animated WebP, which FFmpeg does not decode: Pillow does."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from PIL import Image, ImageSequence

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import TimedFrame

_MILLISECONDS = 1000
# Every frame is decoded in the size of the canvas, however few bytes it has: about 30 bytes a pixel at once.
_MAX_CANVAS = 1 << 24  # pixels
_MAX_TOTAL = 1 << 34  # pixels of all frames: 8,192 of two megapixels, minutes of decoding
_LEAST = 1 << 14  # pixels that a smaller frame counts as


def animated_frames(path: Path) -> Iterator[TimedFrame[Image.Image | Rejected]]:
    """The frames on white, with their times; one that is a reject, if they would take too much memory or time.

    Raises what Pillow raises for damaged files: OSError, ValueError, SyntaxError.
    """
    with path.open("rb") as file:
        head = file.read(30)
    # Before Pillow opens it: its decoder takes memory for the canvas, and a warning about large ones is of no use here.
    width, height = (int.from_bytes(head[place : place + 3], "little") + 1 for place in (24, 27))
    if width * height > _MAX_CANVAS:
        yield _too_many_pixels(f"{width}x{height}, more than {_MAX_CANVAS}")
        return
    with Image.open(path, formats=("WEBP",)) as animation:
        frames = getattr(animation, "n_frames", 1)
        if (total := max(width * height, _LEAST) * frames) > _MAX_TOTAL:
            yield _too_many_pixels(f"{frames} frames of {width}x{height}: {total} pixels, more than {_MAX_TOTAL}")
            return
        milliseconds = 0
        for frame in ImageSequence.Iterator(animation):
            picture = frame.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            yield TimedFrame(Fraction(milliseconds, _MILLISECONDS), milliseconds, white.convert("RGB"))
            milliseconds += max(1, int(frame.info.get("duration") or 0))


def _too_many_pixels(detail: str) -> TimedFrame[Image.Image | Rejected]:
    return TimedFrame(Fraction(0), 0, Rejected("too_many_pixels", detail))
