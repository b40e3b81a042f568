"""Times of frames, whatever the time stamps of a file are: absent, in the wrong order, stepping back, jumping."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from tests.pipelines.films import film, level

FRAMES = 26


def frames_of(path: Path, per_second: str = "10", *, skip: bool = True) -> tuple[list[tuple[int, int]], VideoReader]:
    """(milliseconds, frame number by its grey) of the frames, and the reader."""
    video, found = VideoReader(path), []
    for shown in video.frames(FrameTimes(Fraction(per_second)), skip=skip):
        assert isinstance(shown.picture, Image.Image)
        grey = float(np.asarray(shown.picture.convert("L")).mean())
        found.append((round(shown.time * 1000), round((grey - 20) / 8)))
    return found, video


def reordered(path: Path, *, only_dts: bool = False, first: int = 0, **options: str) -> Path:
    """A film of ten frames a second, some of which reference later ones; maybe with stamps for decoding only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1", "bf": "3", "b-adapt": "0"} | options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(first, first + FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number - first, Fraction(1, 10)
            _mux(container, stream.encode(frame), only_dts)
        _mux(container, stream.encode(), only_dts)
    return path


def _mux(container: Any, packets: list[Any], only_dts: bool) -> None:  # Any: PyAV is untyped to us
    for packet in packets:
        if only_dts:  # and none below 0, which would begin before the film
            packet.dts += 2
            packet.pts = packet.dts
        container.mux(packet)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(
    ("name", "only_dts"),
    [("a.avi", False), ("a.mp4", True), ("a.mkv", True), ("a.flv", True), ("a.mp4", False)],
)
def test_frames_are_in_their_places_where_a_container_has_stamps_for_decoding_only(
    name: str, only_dts: bool, skip: bool, tmp_path: Path
) -> None:
    path = reordered(tmp_path / name, only_dts=only_dts)
    found, video = frames_of(path, skip=skip)
    assert found == [(100 * number, number) for number in range(FRAMES)]
    assert frames_of(path, "2", skip=skip)[0] == [(500 * number, 5 * number) for number in range(6)]
    assert video.fault is None


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("reordering", ["0", "3"])
@pytest.mark.parametrize("name", ["a.avi", "a.mpg", "a.mp4"])
def test_frames_are_in_their_places_with_and_without_reordering(
    name: str, reordering: str, skip: bool, tmp_path: Path
) -> None:
    path = reordered(tmp_path / name, bf=reordering, g="8")
    found, video = frames_of(path, skip=skip)
    assert found == [(100 * number, number) for number in range(FRAMES)]
    assert frames_of(path, "2", skip=skip)[0] == [(500 * number, 5 * number) for number in range(6)]
    assert (video.fault, video.moved, video.facts["offset_s"]) == (None, 0, 0.0)


@pytest.mark.parametrize("reordering", ["0", "3"])
def test_joined_recordings_go_on_behind_packets_without_stamps(reordering: str, tmp_path: Path) -> None:
    path = tmp_path / "joined.mpg"
    path.write_bytes(reordered(tmp_path / "one.mpg", bf=reordering, g="8").read_bytes() * 2)
    found, video = frames_of(path)
    assert [(stamp, grey) for stamp, grey in found if grey] == [
        (100 * number, number % FRAMES) for number in range(2 * FRAMES) if number % FRAMES
    ]
    assert video.moved == 0


def test_joined_recordings_go_on_one_frame_after_the_other(tmp_path: Path) -> None:
    one = reordered(tmp_path / "one.ts", g="10").read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(one * 3)
    found, video = frames_of(path)
    assert found == [(100 * number, number % FRAMES) for number in range(3 * FRAMES)]
    assert video.decoded == 3 * FRAMES
    whole, _ = frames_of(path, "1", skip=False)
    shown = list(VideoReader(path).frames(FrameTimes(Fraction(1))))
    assert [round(frame.time * 1000) for frame in shown] == [stamp for stamp, _ in whole]
    assert len(shown) == 8
    assert ["time_note" in frame.facts for frame in shown] == [False] * 3 + [True] * 5
    assert "step back by 2." in shown[3].facts["time_note"]
    assert shown[-1].facts["time_note"].endswith("2 times")
    assert shown[0].pts <= shown[3].pts  # stamps as in the file


def test_a_jump_of_a_clock_that_may_be_set_anew_is_a_join(tmp_path: Path) -> None:
    films = []
    for name, first in (("one", 0), ("two", 500_000)):
        films.append(film(tmp_path / f"{name}.ts", [first + 100 * number for number in range(20)]).read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(films))
    found, _ = frames_of(path)
    assert [stamp for stamp, _ in found] == [100 * number for number in range(40)]
    still = film(tmp_path / "still.mkv", [0, 100, 60_000, 60_100])
    assert [stamp for stamp, _ in frames_of(still)[0]] == [0, 100, 60_000, 60_100]


def test_times_count_from_the_start_of_the_container(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        stream = container.add_stream("libx264", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 8000, 8000 * number, Fraction(1, 8000)
            container.mux(sound.encode(samples))
        container.mux(sound.encode())
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = 50 + number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found, video = frames_of(path, "1")
    assert found == [(5000, 0), (6000, 10), (7000, 20)]
    assert video.facts["offset_s"] == 5.0
    frames = list(VideoReader(path).frames(FrameTimes(Fraction(1), start=Fraction(6), end=Fraction(7))))
    assert [float(frame.time) for frame in frames] == [6.0]
    assert frames[0].pts * Fraction(video.facts["time_base"]) == 6
    early = VideoReader(path)
    assert list(early.frames(FrameTimes(Fraction(1), end=Fraction(3)))) == []
    assert early.fault is None


def test_a_stream_that_starts_at_any_stamp_starts_at_zero(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", [100 * number for number in range(20)])
    found, video = frames_of(path)
    assert found[0] == (0, 0)
    assert video.facts["container_start_s"] > 0
    first = next(iter(VideoReader(path).frames(FrameTimes(Fraction(1)))))
    assert float(first.pts * Fraction(video.facts["time_base"])) == pytest.approx(video.facts["container_start_s"])
