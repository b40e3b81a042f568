"""Which of the frames are picked, and that a limit cuts nothing silently."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.video.decoding.selection import FrameTimes, Selection, TimedFrame
from stoker.pipelines.video.frames import VideoReader
from tests.pipelines.films import film


@given(
    st.lists(st.integers(0, 3000), min_size=1, unique=True).map(sorted),
    st.sampled_from([1, 2, 5]),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_each_time_picks_the_frame_on_screen_and_each_frame_is_picked_once(
    stamps: list[int], rate: int, start: int, length: int | None
) -> None:
    end = None if length is None else Fraction(start + length)
    selection: Selection[None] = Selection(FrameTimes(Fraction(rate), Fraction(start), end))
    picked = []
    for stamp in stamps:
        if (frame := selection.offer(TimedFrame(Fraction(stamp, 1000), stamp, None))) is not None:
            picked.append(frame.pts)
        if selection.done:
            break
    if (last := selection.finish(Fraction(1))) is not None:
        picked.append(last.pts)
    expected: list[int] = []
    tick = Fraction(start)
    while tick < Fraction(stamps[-1], 1000) + 1 and (end is None or tick < end):
        shown = max([stamp for stamp in stamps if Fraction(stamp, 1000) <= tick], default=stamps[0])
        if shown not in expected and (end is None or Fraction(shown, 1000) < end):
            expected.append(shown)
        tick += Fraction(1, rate)
    assert picked == expected


@pytest.mark.parametrize(("limit", "detail"), [(12, "stopped at 12.0 s of 19.9"), (1, "stopped at 1.0 s of 19.9")])
def test_a_limit_that_cuts_frames_is_told(limit: int, detail: str, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [100 * number for number in range(200)])
    video = VideoReader(path)
    assert len(list(video.frames(FrameTimes(Fraction(1), limit=limit)))) == limit
    assert video.fault is not None
    assert video.fault.reason == "too_long"
    assert video.fault.detail.startswith(detail)


@pytest.mark.parametrize(
    "options", [{"limit": 20}, {"limit": 3, "end": Fraction(3)}, {"limit": 1, "per_second": "1/20"}]
)
def test_a_limit_that_cuts_nothing_is_not_told(options: dict[str, object], tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [100 * number for number in range(200)])
    rate = Fraction(str(options.pop("per_second", "1")))
    video = VideoReader(path)
    list(video.frames(FrameTimes(rate, **options)))  # type: ignore[arg-type]  # from the list above
    assert video.fault is None
