"""Videos for tests, with each frame in its own grey."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stoker.pipelines.sources import video_frames
from stoker.pipelines.sources.video_frames import VideoFrames
from stoker.pipelines.video import stretches

TICK = Fraction(1, 1000)


def level(number: int) -> int:
    """The grey that frame ``number`` is painted in, apart enough to survive any codec."""
    return 20 + number % 27 * 8


def cut_short_films(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have films of a few seconds read in stretches of two."""
    monkeypatch.setattr(stretches, "_LEAST_TIMES", 1)
    monkeypatch.setattr(video_frames, "_LEAST_CUT", 1)
    monkeypatch.setattr(VideoFrames, "stretch_s", 2.0)


def film(
    path: Path, stamps: list[int], *, codec: str = "libx264", size: tuple[int, int] = (64, 48), **options: str
) -> Path:
    """A video with frames at the given milliseconds, each in its own grey, with noise for the codec to encode."""
    noise = np.random.default_rng(0).integers(-3, 4, (size[1], size[0], 3))
    form = {} if path.suffix not in (".mp4", ".mov") or options.pop("end", "") else {"movflags": "+faststart"}
    title, pix_fmt = options.pop("title", "A test"), options.pop("pix_fmt", "yuv420p")
    with av.open(str(path), "w", options=form) as container:
        container.metadata["title"] = title
        container.metadata["artist"] = "The tests"
        stream = container.add_stream(codec, rate=1000, options={"threads": "1"} | options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.time_base = *size, TICK
        stream.codec_context.time_base = TICK
        stream.pix_fmt = pix_fmt
        for number, stamp in enumerate(stamps):
            values = np.clip(level(number) + noise, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts, frame.time_base = stamp, TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
