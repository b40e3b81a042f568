"""Frames at the right times, from every container and codec, and from damaged files."""

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.pipelines.rejected import REASONS, Rejected
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from tests.data import SHARED, needs_shared
from tests.pipelines.films import film


def frames_of(
    path: Path, per_second: str = "1", *, skip: bool = True, **options: Any
) -> tuple[list[tuple[int, int]], VideoReader]:
    """(milliseconds, frame number by its grey) of the frames, and the reader."""
    video = VideoReader(path)
    found = []
    for shown in video.frames(FrameTimes(Fraction(per_second), **options), skip=skip):
        if isinstance(shown.picture, Rejected):
            continue
        grey = float(np.asarray(shown.picture.convert("L")).mean())
        found.append((round(shown.time * 1000), round((grey - 20) / 8)))
    return found, video


def test_each_time_gives_the_frame_that_is_shown_then(tmp_path: Path) -> None:
    stamps = [0, 400, 990, 1010, 2000, 2500, 2600]
    path = film(tmp_path / "a.mp4", stamps)
    assert frames_of(path)[0] == [(0, 0), (990, 2), (2000, 4)]
    assert frames_of(path, "2")[0] == [(0, 0), (400, 1), (990, 2), (1010, 3), (2000, 4), (2500, 5)]
    assert frames_of(path, "1000")[0] == [(stamp, place) for place, stamp in enumerate(stamps)]


def test_a_frame_that_is_shown_for_long_is_taken_once(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [0, 40, 60_000, 60_040])
    assert frames_of(path)[0] == [(0, 0), (40, 1), (60_000, 2)]


def test_times_begin_at_the_first_frame_and_keep_to_their_bounds(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [700 + 100 * number for number in range(50)])
    assert [stamp for stamp, _ in frames_of(path)[0]] == [0, 1000, 2000, 3000, 4000]
    bounded, _ = frames_of(path, start=Fraction(2), end=Fraction(4))
    assert [stamp for stamp, _ in bounded] == [2000, 3000]
    assert [stamp for stamp, _ in frames_of(path, limit=2)[0]] == [0, 1000]
    assert frames_of(path, start=Fraction(60))[0] == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.sampled_from(["1", "5/2", "1/3", "30"]), st.data())
def test_skipping_packets_picks_the_same_frames_as_decoding_all(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], rate: str, data: st.DataObject
) -> None:
    stamps = list(itertools.accumulate(gaps, initial=0))
    gop, between = data.draw(st.sampled_from([1, 5, 250])), data.draw(st.sampled_from(["0", "3"]))
    form = data.draw(st.sampled_from(["mp4", "mkv"]))
    path = film(tmp_path_factory.mktemp("film") / f"a.{form}", stamps, g=str(gop), bf=between)
    period = 1 / Fraction(rate)
    wanted: list[int] = []
    for tick in itertools.count():
        time = tick * period * 1000
        if time > stamps[-1]:
            break
        shown = max(place for place, stamp in enumerate(stamps) if stamp <= time)
        if not wanted or wanted[-1] != stamps[shown]:
            wanted.append(stamps[shown])
    whole, video = frames_of(path, rate, skip=False)
    found, lazy = frames_of(path, rate)
    assert found == whole
    times = [stamp for stamp, _ in found]
    assert times[: len(wanted)] == wanted
    assert times[len(wanted) :] in ([], [stamps[-1]])  # the last may be on for a while yet
    assert lazy.decoded <= video.decoded
    assert (video.fault, lazy.fault) == (None, None)


def test_groups_of_pictures_without_a_wanted_time_are_not_decoded(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", list(range(0, 60_000, 100)), g="10", keyint_min="10", bf="0")
    found, video = frames_of(path, "1/20")
    assert [stamp for stamp, _ in found] == [0, 20_000, 40_000]
    assert video.packets == 600
    assert video.decoded < 60


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "mpeg4"),
        ("a.mkv", "libx265"),
        ("a.webm", "libvpx-vp9"),
        ("a.webm", "libvpx"),
        ("a.avi", "mpeg4"),
        ("a.ts", "libx264"),
        ("a.flv", "flv1"),
        ("a.ogv", "libtheora"),
        ("a.gif", "gif"),
    ],
)
def test_containers_and_codecs_of_every_kind_are_read(name: str, codec: str, tmp_path: Path) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {codec}")
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(25):
            values = np.full((48, 64, 3), 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found, video = frames_of(path)
    assert video.fault is None
    assert [round(stamp, -2) for stamp, _ in found] == [0, 1000, 2000]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_truncated_file_gives_its_frames_and_a_fault(name: str, tmp_path: Path) -> None:
    path = film(tmp_path / name, list(range(0, 20_000, 40)), codec="mpeg4", size=(320, 240))
    payload = path.read_bytes()
    path.write_bytes(payload[: len(payload) // 2])
    found, video = frames_of(path)
    assert 5 <= len(found) < 20
    assert video.fault is not None
    assert video.fault.reason == "truncated"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_raises_or_hangs(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    form = data.draw(st.sampled_from(["mp4", "mkv", "avi", "ts"]))
    path = folder / f"whole.{form}"
    if not path.exists():
        film(path, list(range(0, 3000, 100)), codec="mpeg4")
    payload = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    damaged = folder / f"damaged.{form}"
    damaged.write_bytes(payload[: data.draw(st.integers(0, len(payload)))])
    video = VideoReader(damaged)
    found = list(video.frames(FrameTimes(Fraction(2), limit=50)))
    assert len(found) <= 50
    assert video.fault is None or video.fault.reason in REASONS


@needs_shared
def test_real_times_match_the_reference_and_phone_videos_are_upright() -> None:
    assert SHARED is not None
    reference = json.loads((SHARED / "videos" / "tc_nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    times = [float(frame["pts_time"]) for frame in reference]
    shown = list(VideoReader(SHARED / "videos" / "tc_nasa_13013.mp4").frames(FrameTimes(Fraction(1000))))
    assert [float(frame.time) for frame in shown] == pytest.approx([time - times[0] for time in times], abs=1e-5)
    sizes = {}
    for angle in (0, 90, 180, 270):
        first = next(iter(VideoReader(SHARED / "videos" / f"decord_video_{angle}.mov").frames(FrameTimes(Fraction(1)))))
        assert isinstance(first.picture, Image.Image)
        sizes[angle] = first.picture.size
    assert sizes == {0: (568, 320), 90: (320, 568), 180: (568, 320), 270: (320, 568)}


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.nightly), 5])
def test_skipping_changes_no_real_frame(step: int) -> None:
    assert SHARED is not None
    for path in sorted((SHARED / "videos").iterdir())[::step]:
        if path.suffix == ".json":
            continue
        lazy, whole = ([*VideoReader(path).frames(FrameTimes(Fraction(1, 3)), skip=skip)] for skip in (True, False))
        assert [(frame.pts, frame.picture) for frame in lazy] == [(frame.pts, frame.picture) for frame in whole], (
            path.name
        )


def test_streams_that_appear_late_in_a_transport_stream_are_no_error(tmp_path: Path) -> None:
    videos = {}
    for name, count in (("one", 1), ("many", 12)):
        with av.open(str(tmp_path / f"{name}.ts"), "w") as container:
            streams = [container.add_stream("mpeg2video", rate=25) for _ in range(count)]
            for stream in streams:
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(250):
                for stream in streams:
                    picture = np.full((48, 64, 3), number, np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            for stream in streams:
                container.mux(stream.encode())
        videos[name] = (tmp_path / f"{name}.ts").read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(videos["one"] * 100 + videos["many"] + videos["one"] * 20)  # not seen when it is opened
    for _ in range(5):  # what PyAV takes for wanted depends on memory that it did not set
        frames, reader = frames_of(path, "1/10")
        assert reader.fault is None
        assert frames
