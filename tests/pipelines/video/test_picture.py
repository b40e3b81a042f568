"""Pictures of frames stand as players show them."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from stoker.pipelines.video.picture import PictureOptions

RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 160, 0), (0, 0, 200), (250, 250, 250)


def corners(picture: Image.Image) -> tuple[str, ...]:
    """The colours of the corners, row by row."""
    names = {RED: "red", GREEN: "green", BLUE: "blue", WHITE: "white"}
    width, height = picture.size
    found = []
    for place in ((9, 9), (width - 9, 9), (9, height - 9), (width - 9, height - 9)):
        pixel = np.array(picture.getpixel(place))
        found.append(min(names, key=lambda colour, pixel=pixel: float(np.abs(pixel - colour).sum())))  # type: ignore[misc]  # bound
    return tuple(names[colour] for colour in found)


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """A film of four colours, with a display matrix in its track header."""
    values = np.zeros((48, 64, 3), np.uint8)
    values[:24, :32], values[:24, 32:], values[24:, :32], values[24:, 32:] = RED, GREEN, BLUE, WHITE
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode())
    payload = bytearray(path.read_bytes())
    begin = payload.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags; times, track, duration; layer to volume
    a, b, c, d = (number << 16 for number in matrix)
    payload[begin : begin + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(payload)
    return path


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), ("red", "green", "blue", "white")),
        ((-1, 0, 0, 1), ("green", "red", "white", "blue")),
        ((1, 0, 0, -1), ("blue", "white", "red", "green")),
        ((-1, 0, 0, -1), ("white", "blue", "green", "red")),
        ((0, 1, -1, 0), ("blue", "red", "white", "green")),
        ((0, -1, 1, 0), ("green", "white", "red", "blue")),
        ((0, 1, 1, 0), ("red", "blue", "green", "white")),
        ((0, -1, -1, 0), ("white", "green", "blue", "red")),
        ((0, 0, 0, 0), ("red", "green", "blue", "white")),
    ],
)
def test_a_display_matrix_turns_and_mirrors(
    matrix: tuple[int, int, int, int], expected: tuple[str, ...], tmp_path: Path
) -> None:
    (frame,) = VideoReader(turned(tmp_path / "a.mp4", matrix)).frames(FrameTimes(Fraction(1)))
    assert isinstance(frame.picture, Image.Image)
    assert frame.picture.size == ((48, 64) if matrix[1] else (64, 48))
    assert corners(frame.picture) == expected


def test_interlaced_frames_are_marked_and_made_of_one_field_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    values = np.full((48, 64, 3), 40, np.uint8)
    values[::2, 10:18] = values[1::2, 24:32] = 220  # a bar that moves between the fields
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1:qp=5"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode())
    combs = []
    for deinterlace in (False, True):
        (frame,) = VideoReader(path, PictureOptions(deinterlace=deinterlace)).frames(FrameTimes(Fraction(1)))
        assert isinstance(frame.picture, Image.Image)
        assert frame.facts["interlaced"] is True
        lines = np.asarray(frame.picture).astype(int)
        combs.append(float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean()))
    assert combs[0] > 50
    assert combs[1] < 5


def test_a_depth_above_eight_bits_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb48be"
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40_000, np.uint16), format="rgb48be"))
        )
        container.mux(stream.encode())
    (frame,) = VideoReader(path).frames(FrameTimes(Fraction(1)))
    assert frame.facts["bit_depth"] == 16
