"""A short H.264 film made from scikit-learn's photographs: pans, zooms, cuts, and stills."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stoker.flows.demo.site import PHOTOGRAPHERS, photographs
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 320, 240
FRAMES_PER_SECOND = 25
# photograph, seconds, and the visible rectangle (left, top, width), 4:3 like the film, at the start and at the end
SCENES = (
    ("china", 4, (0, 0, 400), (240, 120, 400)),  # a pan
    ("china", 3, (60, 20, 500), (60, 20, 500)),  # a still: its frames are near-duplicates
    ("flower", 4, (20, 0, 560), (180, 110, 200)),  # a zoom in
    ("flower", 3, (180, 110, 200), (180, 110, 200)),  # a still
    ("china", 3, (340, 150, 160), (40, 0, 560)),  # a zoom out
    ("flower", 3, (240, 120, 360), (0, 40, 360)),  # a pan back
)


def make(path: Path) -> None:
    """Write the film: with the same PyAV the same bytes every time. Raises StokerError where PyAV is not installed."""
    try:
        import av
    except ModuleNotFoundError:
        raise StokerError('the demo needs PyAV: pip install "stoker[video]"') from None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.part.mp4")
    with av.open(str(partial), "w", options={"movflags": "+faststart"}) as film:
        film.metadata["title"] = "A garden and a temple"
        film.metadata["artist"] = " and ".join(PHOTOGRAPHERS.values())
        film.metadata["copyright"] = "CC-BY-2.0"
        # One thread: with more, the encoder's output may differ between machines.
        options = {"preset": "veryfast", "crf": "21", "threads": "1"}
        stream = film.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        for number, picture in enumerate(_frames()):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FRAMES_PER_SECOND)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    partial.replace(path)


def _frames() -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:  # Any: numpy's shape
    from PIL import Image

    images = {name: Image.fromarray(pixels) for name, pixels in photographs().items()}
    for name, seconds, start, end in SCENES:
        frames = seconds * FRAMES_PER_SECOND
        for number in range(frames):
            progress = number / (frames - 1)  # 0 .. 1
            left, top, width = (a + (b - a) * progress for a, b in zip(start, end, strict=True))
            visible = (left, top, left + width, top + width * HEIGHT / WIDTH)
            picture = images[name].resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=visible)
            yield _planes(picture.convert("YCbCr"))


def _planes(picture: "Image.Image") -> np.ndarray[Any, np.dtype[np.uint8]]:  # Any: numpy's shape
    """The picture as yuv420p: a luma plane and two chroma planes of half its width and height, below each other.

    Computed here in integers: the output of FFmpeg's scaler may depend on the alignment of the picture in memory.
    """
    luma, blue, red = (np.asarray(plane, np.int32) for plane in picture.split())
    planes = [16 + (luma * 219 + 127) // 255]
    for chroma in (blue, red):
        sums = chroma.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).sum(axis=(1, 3))  # of 2 x 2 pixels
        planes.append(((sums * 224 + 510) // 1020 + 16).reshape(-1, WIDTH))
    return np.concatenate(planes).astype(np.uint8)
