"""Only what wanted frames need is decoded, and their pictures are the same as of a full decode."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader

X264 = "keyint=25:min-keyint=25:scenecut=0:bframes=3:b-adapt=0:log=0"
X265 = "keyint=25:min-keyint=25:scenecut=0:bframes=4:b-adapt=0:log-level=none"
# Name → encoder, its options, and how many of 250 frames are decoded at most for one a second and one in five.
OPEN: dict[str, tuple[str, dict[str, str], int, int]] = {
    "a.mp4": ("libx264", {"x264-params": f"open-gop=1:{X264}"}, 60, 30),
    "b.ts": ("libx264", {"x264-params": f"open-gop=1:b-pyramid=strict:{X264}"}, 60, 30),
    "c.mkv": ("libx265", {"x265-params": f"open-gop=1:{X265}"}, 60, 30),
    "d.ts": ("libx265", {"x265-params": f"open-gop=1:b-pyramid=0:{X265}"}, 60, 30),
    "e.ts": ("mpeg2video", {"g": "25", "bf": "2"}, 60, 30),
    "f.vob": ("mpeg2video", {"g": "25", "bf": "2"}, 60, 30),
    "g.mpg": ("mpeg1video", {"g": "25", "bf": "2"}, 60, 30),
    "h.mkv": ("mpeg4", {"g": "25", "bf": "2"}, 60, 30),
}
CLOSED: dict[str, tuple[str, dict[str, str], int, int]] = {
    "a.mp4": ("libx264", {"x264-params": X264}, 60, 30),
    "b.mkv": ("libx265", {"x265-params": f"open-gop=0:{X265}"}, 60, 30),
    "c.ts": ("mpeg2video", {"g": "25", "bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"}, 60, 30),
}
REFRESHED = ("libx264", {"x264-params": "intra-refresh=1:keyint=25:bframes=3:b-adapt=0:log=0"})
Picked = list[tuple[Fraction, int, str | None]]


def moving(path: Path, codec: str, options: dict[str, str], frames: int = 250) -> Path:
    """A film of 25 frames a second in which everything moves, so that each frame references others."""
    scene = np.random.default_rng(0).integers(0, 255, (48, 400, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"threads": "1"} | options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.ascontiguousarray(scene[:, number : number + 64])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def picked(path: Path, rate: Fraction, *, skip: bool = True) -> tuple[Picked, VideoReader]:
    video = VideoReader(path)
    found: Picked = []
    for frame in video.frames(FrameTimes(rate), skip=skip):
        shown = frame.picture
        digest = hashlib.sha256(shown.tobytes()).hexdigest() if isinstance(shown, Image.Image) else None
        found.append((frame.time, frame.pts, digest))
    return found, video


@pytest.mark.parametrize(
    ("codec", "options", "each_second", "each_five", "name"),
    [(*case, name) for films in (OPEN, CLOSED) for name, case in films.items()],
)
def test_little_is_decoded_with_open_groups_of_pictures_and_closed_ones(
    codec: str, options: dict[str, str], each_second: int, each_five: int, name: str, tmp_path: Path
) -> None:
    path = moving(tmp_path / name, codec, options)
    for rate, most in (
        (Fraction(25), 250),
        (Fraction(7), 250),
        (Fraction(1), each_second),
        (Fraction(1, 5), each_five),
    ):
        found, video = picked(path, rate)
        assert found == picked(path, rate, skip=False)[0], rate
        assert video.decoded <= most, rate
        assert (video.packets, video.fault) == (250, None)
        assert video.packets == video.decoded + video.left_out


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_pictures_that_are_refreshed_in_parts_are_whole(name: str, tmp_path: Path) -> None:
    path = moving(tmp_path / name, *REFRESHED)
    for rate in (Fraction(7), Fraction(1), Fraction(1, 5)):
        assert picked(path, rate)[0] == picked(path, rate, skip=False)[0]


def test_frames_before_an_open_group_are_given_where_they_are_wanted(tmp_path: Path) -> None:
    path = moving(tmp_path / "a.mp4", *OPEN["a.mp4"][:2])
    for tenths in range(8, 12):  # the pictures before the key frame at 1 s
        start = Fraction(tenths, 10)
        found, whole = VideoReader(path), VideoReader(path)
        times = FrameTimes(Fraction(1, 60), start=start, end=start + Fraction(1, 25))
        pictures = [[frame.picture for frame in video.frames(times, skip=video is found)] for video in (found, whole)]
        assert pictures[0] == pictures[1]
        assert len(pictures[0]) == 1


@pytest.mark.parametrize("name", ["a.mp4", "b.ts", "c.mkv", "d.ts", "e.ts", "h.mkv"])
def test_damaged_references_give_the_frames_of_a_full_decode(name: str, tmp_path: Path) -> None:
    payload = bytearray(moving(tmp_path / name, *OPEN[name][:2], frames=125).read_bytes())
    random = np.random.default_rng(3)
    differing = 0
    for number in range(12):
        damaged = bytearray(payload)
        for place in random.integers(len(payload) // 10, len(payload) * 9 // 10, 3):
            damaged[place] ^= 1 << int(random.integers(8))
        path = tmp_path / f"{number}{name}"
        path.write_bytes(damaged)
        differing += picked(path, Fraction(2))[0] != picked(path, Fraction(2), skip=False)[0]
    assert differing == 0


def test_damage_that_a_decoder_conceals_without_a_word_mostly_gives_the_frames_of_a_full_decode(tmp_path: Path) -> None:
    differing = 0
    for name in ("c.mkv", "h.mkv"):
        payload = moving(tmp_path / name, *OPEN[name][:2], frames=100).read_bytes()
        random = np.random.default_rng(7)
        for _ in range(40):
            damaged = bytearray(payload)
            for place in random.integers(len(payload) // 10, len(payload) * 9 // 10, 2):
                damaged[place] ^= 1 << int(random.integers(8))
            (tmp_path / name).write_bytes(damaged)
            lazy, whole = (picked(tmp_path / name, Fraction(3), skip=skip)[0] for skip in (True, False))
            differing += lazy != whole
    assert differing <= 8, "17 with a decoder that conceals damage from the beginning; 5 by FFmpeg 8"
