"""Animated WebP is decoded within limits of memory and time."""

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from tests.conftest import HANGS_S


def animated(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """An animation of a large canvas, of which each frame covers a few pixels; 100 ms each."""
    part = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(part, "WEBP", lossless=True)
    pixels = part.getvalue()[12:]
    place = bytes(6) + (1).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\2"
    chunk = b"ANMF" + (len(place) + len(pixels)).to_bytes(4, "little") + place + pixels
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    body = b"WEBPVP8X" + (10).to_bytes(4, "little") + b"\2" + bytes(3) + sides
    body += b"ANIM" + (6).to_bytes(4, "little") + bytes(6) + chunk * frames
    path.write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    return path


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("width", "height"), [(14_486_191, 7_532_403), (16_383, 16_383), (5_791, 5_791), (2_049, 4_096)]
)
def test_an_animation_with_too_large_sides_is_a_reject(width: int, height: int, tmp_path: Path) -> None:
    payload = bytearray(animated(tmp_path / "a.webp", 3, (64, 48)).read_bytes())
    canvas = payload.index(b"VP8X") + 12
    payload[canvas : canvas + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    path = tmp_path / "a.webp"
    path.write_bytes(payload)
    (frame,) = VideoReader(path).frames(FrameTimes(Fraction(2)))
    assert isinstance(frame.picture, Rejected)
    assert frame.picture == Rejected("too_many_pixels", f"{width}x{height}, more than 8388608")


def test_an_animation_with_too_many_pixels_in_all_is_a_reject(tmp_path: Path) -> None:
    path = animated(tmp_path / "a.webp", 2_049, (2_048, 4_096))
    (frame,) = VideoReader(path).frames(FrameTimes(Fraction(2)))
    assert frame.picture == Rejected(
        "too_many_pixels", "2049 frames of 2048x4096: 17188257792 pixels, more than 17179869184"
    )


def test_frames_of_an_animation_behind_the_last_wanted_one_are_not_decoded(tmp_path: Path) -> None:
    video = VideoReader(animated(tmp_path / "a.webp", 1_000, (640, 480)))
    assert len(list(video.frames(FrameTimes(Fraction(2), end=Fraction(1))))) == 2
    assert video.decoded <= 11
    assert video.fault is None


def test_transparent_pictures_are_on_white_to_the_last_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    made = [Image.fromarray(random.integers(0, 256, (130, 50, 4), dtype=np.uint8), "RGBA") for _ in range(3)]
    made[0].save(tmp_path / "a.webp", save_all=True, append_images=made[1:], duration=100, lossless=True)
    shown = [frame.picture for frame in VideoReader(tmp_path / "a.webp").frames(FrameTimes(Fraction(10)))]
    expected = []
    with Image.open(tmp_path / "a.webp") as animation:
        for frame in ImageSequence.Iterator(animation):
            white = Image.new("RGBA", frame.size, "white")
            white.alpha_composite(frame.convert("RGBA"))
            expected.append(white.convert("RGB"))
    assert len(expected) == 3
    assert shown == expected


_PEAK = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import av
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
peaks = []
for path in sys.argv[1:]:
    assert len([frame.picture.size for frame in VideoReader(Path(path)).frames(FrameTimes(Fraction(10)))]) == 4
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in units of Linux")
def test_an_animation_of_the_largest_size_takes_little_memory(tmp_path: Path) -> None:
    paths = [animated(tmp_path / f"{side}.webp", 4, (side, 4_096)) for side in (16, 2_048)]
    command = [sys.executable, "-c", _PEAK, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANGS_S)
    assert int(done.stdout) < 300 << 10, "KiB"
