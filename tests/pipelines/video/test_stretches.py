"""The frames of a film's stretches are those of the film read at once: or it is not cut, or one of them says so."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.pipelines.errors import NotAlone
from stoker.pipelines.video import stretches as cutting
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from stoker.pipelines.video.stretches import Stretch, cut_film
from tests.pipelines.films import film
from tests.pipelines.video.decoding.test_run_decoder import CLOSED, OPEN, X264, X265, moving

RATES = (Fraction(25), Fraction(7), Fraction(1), Fraction(1, 3))
# Of 250 frames in 10 s, with a key frame each second.
APART = {
    "a.mp4": CLOSED["a.mp4"][:2],
    "a.mov": ("libx264", {"x264-params": f"{X264}:repeat-headers=1"}),
    "b.mkv": CLOSED["b.mkv"][:2],
    "b.mp4": ("libx265", {"x265-params": f"open-gop=0:repeat-headers=1:{X265}"}),
    "c.mkv": ("mpeg2video", {"g": "25"}),
    "c.mp4": ("mpeg4", {"g": "25"}),
    "d.webm": ("libvpx", {"g": "25"}),
    "e.webm": ("libvpx-vp9", {"g": "25", "cpu-used": "8"}),
    "f.mp4": ("libsvtav1", {"g": "25", "preset": "12"}),
}


@dataclass(frozen=True)
class Read:
    """All that is told of a film or a stretch."""

    frames: list[tuple[Any, ...]]
    counts: tuple[int, ...]
    facts: dict[str, Any]

    def __add__(self, other: "Read") -> "Read":
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True)))
        assert self.facts == other.facts
        return replace(self, frames=self.frames + other.frames, counts=counts)


def read(path: Path, times: FrameTimes, stretch: Stretch | None = None) -> Read:
    video = VideoReader(path, stretch=None if stretch is None else Stretch.from_json(stretch.to_json()))
    frames = []
    for frame in video.frames(times):
        picture = frame.picture
        pixels = hashlib.sha256(picture.tobytes()).hexdigest() if isinstance(picture, Image.Image) else picture
        frames.append((frame.time, frame.pts, pixels, frame.facts))
    if stretch is not None and (video.fault is not None or not frames):
        raise NotAlone(str(video.fault))
    return Read(frames, (video.packets, video.left_out, video.damaged, video.moved), video.facts)


def joined(path: Path, times: FrameTimes, stretches: Sequence[Stretch]) -> Read:
    first, *others = (read(path, times, stretch) for stretch in stretches)
    return sum(others, first)


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_LEAST_TIMES", 1)


@pytest.mark.parametrize("name", APART)
def test_stretches_together_are_the_film(name: str, tmp_path: Path) -> None:
    path = moving(tmp_path / name, *APART[name])
    for times in (*map(FrameTimes, RATES), FrameTimes(Fraction(5), start=Fraction("3.3"))):
        stretches = cut_film(path, times, seconds=2)
        assert len(stretches) == (3 if times.per_second < 1 or times.start else 5)
        assert joined(path, times, stretches) == read(path, times), times


@pytest.mark.parametrize("name", OPEN)
def test_groups_of_pictures_that_need_each_other_and_files_without_an_index_are_not_cut(
    name: str, tmp_path: Path
) -> None:
    path = moving(tmp_path / name, *OPEN[name][:2])
    assert cut_film(path, FrameTimes(Fraction(5)), seconds=2) == []


def test_a_film_with_key_frames_far_apart_has_fewer_stretches_or_none(tmp_path: Path) -> None:
    once = moving(tmp_path / "once.mp4", "libx264", {"x264-params": "keyint=infinite:scenecut=0"})
    assert cut_film(once, FrameTimes(Fraction(5)), seconds=2) == []
    twice = moving(tmp_path / "twice.mp4", "libx264", {"x264-params": "keyint=125:scenecut=0"})
    stretches = cut_film(twice, FrameTimes(Fraction(5)), seconds=2)
    assert [stretch.begin.pts * 25 // 12800 if stretch.begin else 0 for stretch in stretches] == [0, 125]


def test_a_film_that_is_short_or_ends_early_or_has_too_many_frames_is_not_cut(tmp_path: Path) -> None:
    path = moving(tmp_path / "a.mp4", *APART["a.mp4"])
    assert cut_film(path, FrameTimes(Fraction(5)), seconds=6) == []
    assert cut_film(path, FrameTimes(Fraction(5), end=Fraction(9)), seconds=2) == []
    assert cut_film(path, FrameTimes(Fraction(5), limit=49), seconds=2) == []
    assert cut_film(path, FrameTimes(Fraction(5), limit=50), seconds=2)
    path.write_bytes(path.read_bytes()[:-2000])  # the index is there, at its end
    assert cut_film(path, FrameTimes(Fraction(5)), seconds=2) == []


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["a.mp4", "b.mkv", "e.webm"])
def test_damage_is_found_by_the_stretch_that_has_it(kind: str, share: float, tmp_path: Path) -> None:
    path, times = moving(tmp_path / kind, *APART[kind]), FrameTimes(Fraction(25))
    stretches = cut_film(path, times, seconds=2)
    payload = bytearray(path.read_bytes())
    place = int(len(payload) * share)
    payload[place : place + 300] = bytes(300)
    path.write_bytes(payload)
    video = VideoReader(path)
    list(video.frames(times))
    for cut in filter(None, (stretches, cut_film(path, times, seconds=2))):
        try:
            together = joined(path, times, cut)
        except NotAlone:
            continue
        assert (together, None) == (read(path, times), video.fault)
        assert kind != "a.mp4", "H.264 does not decode such a packet"


def test_a_stretch_of_another_file_is_refused(tmp_path: Path) -> None:
    times = FrameTimes(Fraction(5))
    path, other = (
        moving(tmp_path / name, *APART["a.mp4"], frames=frames) for name, frames in (("a.mp4", 250), ("b.mp4", 200))
    )
    for stretch in cut_film(path, times, seconds=2)[3:]:
        with pytest.raises(NotAlone):
            read(other, times, stretch)
    shifted = film(tmp_path / "c.mp4", list(range(0, 10_000, 40)), g="25")
    for stretch in cut_film(path, times, seconds=2):
        with pytest.raises(NotAlone):
            read(shifted, times, stretch)


@st.composite
def films(draw: st.DrawFn) -> tuple[str, str, list[int], dict[str, str]]:
    """A container, a codec, milliseconds of frames at any rate, and how the codec groups them."""
    name, codec, options = draw(
        st.sampled_from(
            [
                ("a.mp4", "libx264", {"preset": "ultrafast", "bf": "0"}),
                ("a.mkv", "libx264", {"preset": "ultrafast", "bf": "2"}),
                ("b.mp4", "libx264", {"preset": "ultrafast", "bf": "3", "x264-params": "b-adapt=0:b-pyramid=2"}),
                ("c.mov", "libx264", {"preset": "ultrafast", "bf": "1", "end": "index"}),
                ("d.webm", "libvpx", {"cpu-used": "8"}),
            ]
        )
    )
    steps = draw(st.lists(st.sampled_from([1, 20, 40, 40, 41, 100, 700]), min_size=40, max_size=160))
    stamps = [draw(st.sampled_from([0, 0, 1, 500, 5000]))]
    for step in steps:
        stamps.append(stamps[-1] + step)
    return (
        name,
        codec,
        stamps,
        {
            **options,
            "sc_threshold": draw(st.sampled_from(["0", "0", "40"])),
            "g": str(draw(st.sampled_from([16, 17, 18, 25, 40]))),
        },
    )


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    made=films(),
    rate=st.sampled_from(
        [Fraction(1, 2), Fraction(1), Fraction(3), Fraction(10), Fraction(24000, 1001), Fraction(100)]
    ),
    start=st.sampled_from([Fraction(0), Fraction("0.7"), Fraction(2)]),
    seconds=st.floats(0.3, 3),
)
@example(
    made=("b.mp4", "libx264", list(range(0, 6000, 40)), {"g": "25", "bf": "3", "preset": "ultrafast"}),
    rate=Fraction(25),
    start=Fraction(0),
    seconds=1.0,
)
def test_stretches_of_any_length_together_are_the_film_at_any_rate(
    made: tuple[str, str, list[int], dict[str, str]], rate: Fraction, start: Fraction, seconds: float, tmp_path: Path
) -> None:
    name, codec, stamps, options = made
    path, times = film(tmp_path / name, stamps, codec=codec, size=(32, 32), **options), FrameTimes(rate, start=start)
    whole = read(path, times)
    try:
        stretches = cut_film(path, times, seconds=seconds)
        assert not stretches or joined(path, times, stretches) == whole
    except NotAlone:
        pass
