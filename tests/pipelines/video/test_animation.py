"""Animated WebP is decoded within limits of memory and time."""

import io
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader


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
    ("width", "height"), [(14_486_191, 7_532_403), (16_383, 16_383), (5_791, 5_791), (4_097, 4_096)]
)
def test_an_animation_with_too_large_sides_is_a_reject(width: int, height: int, tmp_path: Path) -> None:
    payload = bytearray(animated(tmp_path / "a.webp", 3, (64, 48)).read_bytes())
    canvas = payload.index(b"VP8X") + 12
    payload[canvas : canvas + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    path = tmp_path / "a.webp"
    path.write_bytes(payload)
    (frame,) = VideoReader(path).frames(FrameTimes(Fraction(2)))
    assert isinstance(frame.picture, Rejected)
    assert frame.picture == Rejected("too_many_pixels", f"{width}x{height}, more than 16777216")


def test_an_animation_with_too_many_pixels_in_all_is_a_reject(tmp_path: Path) -> None:
    path = animated(tmp_path / "a.webp", 1_025, (4_096, 4_096))
    (frame,) = VideoReader(path).frames(FrameTimes(Fraction(2)))
    assert frame.picture == Rejected(
        "too_many_pixels", "1025 frames of 4096x4096: 17196646400 pixels, more than 17179869184"
    )


def test_frames_of_an_animation_behind_the_last_wanted_one_are_not_decoded(tmp_path: Path) -> None:
    video = VideoReader(animated(tmp_path / "a.webp", 1_000, (640, 480)))
    assert len(list(video.frames(FrameTimes(Fraction(2), end=Fraction(1))))) == 2
    assert video.decoded <= 11
    assert video.fault is None
