"""Encrypted files are told by name, and animated AVIF is read."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from tests.pipelines.films import level

KEY = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "ffeeddccbbaa99887766554433221100",
}


def film(path: Path, codec: str, *, form: str | None = None, options: dict[str, str] | None = None) -> Path:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {codec}")
    coding = {"preset": "13"} if codec == "libsvtav1" else {"g": "10"}
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        stream = container.add_stream(codec, rate=10, options=coding)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "start.mp4"])
@pytest.mark.parametrize("rate", [1, 10])
def test_an_encrypted_file_says_so_and_gives_no_frame(name: str, rate: int, tmp_path: Path) -> None:
    options = KEY | ({"movflags": "+faststart"} if name == "start.mp4" else {})
    video = VideoReader(film(tmp_path / name, "libx264", options=options))
    assert list(video.frames(FrameTimes(Fraction(rate)))) == []
    assert video.fault == Rejected("unsupported_format", "it is encrypted")


def test_every_frame_of_an_animated_avif_is_read(tmp_path: Path) -> None:
    path = film(tmp_path / "a.avif", "libsvtav1", form="avif")
    video = VideoReader(path)
    shown = [frame.picture for frame in video.frames(FrameTimes(Fraction(10)))]
    greys = [float(np.asarray(picture.convert("L")).mean()) for picture in shown if isinstance(picture, Image.Image)]
    assert video.fault is None
    assert [round((grey - 20) / 8) for grey in greys] == list(range(25))
