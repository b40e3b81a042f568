"""Frames of animated WebP, which FFmpeg does not decode: Pillow does."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from PIL import Image, ImageSequence

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import TimedFrame
from stoker.storage.plain_file import open_plain

_MILLISECONDS = 1000
# Every frame is decoded in the size of the canvas, however few bytes it has: about 27 bytes a pixel at once.
_MAX_CANVAS = 1 << 23  # pixels; 3840x2160 has 8,294,400
_MAX_TOTAL = 1 << 34  # pixels of all frames: 8,192 of two megapixels, minutes of decoding
_ROWS = 64  # of a frame that are put on white at a time
_LEAST = 1 << 14  # pixels that a smaller frame counts as


def animated_frames(path: Path) -> Iterator[TimedFrame[Image.Image | Rejected]]:
    """The frames on white, with their times; one that is a reject, if they would take too much memory or time.

    Raises what Pillow raises for damaged files: OSError, ValueError, SyntaxError.
    """
    with open_plain(path) as file:
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
            yield TimedFrame(Fraction(milliseconds, _MILLISECONDS), milliseconds, _on_white(frame))
            milliseconds += max(1, int(frame.info.get("duration") or 0))


def _on_white(frame: Image.Image) -> Image.Image:
    """The frame without transparency; some rows at a time, for whole copies would take twice the memory."""
    shown = Image.new("RGB", frame.size)
    for top in range(0, frame.height, _ROWS):
        rows = (0, top, frame.width, min(top + _ROWS, frame.height))
        white = Image.new("RGBA", (frame.width, rows[3] - top), "white")
        white.alpha_composite(frame.crop(rows).convert("RGBA"))
        shown.paste(white.convert("RGB"), rows)
    return shown


def _too_many_pixels(detail: str) -> TimedFrame[Image.Image | Rejected]:
    return TimedFrame(Fraction(0), 0, Rejected("too_many_pixels", detail))
