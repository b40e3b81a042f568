"""Damaged videos: they give the frames of the intact file, or a fault with a reason; none crashes or hangs."""

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.rejected import REASONS
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from tests.pipelines.images.damage import DAMAGES
from tests.pipelines.test_video_oracle import make

REPO = Path(__file__).resolve().parents[2]
BY_DAY, BY_NIGHT = 150, 10_000
FILMS = (("mp4", "h264_open"), ("mkv", "hevc_open"), ("ts", "h264_pyramid"), ("avi", "mpeg4"), ("vob", "mpeg2"),
         ("webm", "vp9"), ("flv", "h264"), ("wmv", "wmv2"), ("ogv", "vp8"))  # fmt: skip


def pictures(path: Path) -> tuple[list[bytes], VideoReader]:
    video = VideoReader(path)
    shown = [frame.picture for frame in video.frames(FrameTimes(Fraction(3), limit=200))]
    return [picture.tobytes() for picture in shown if isinstance(picture, Image.Image)], video


def damages(payload: bytes, times: int, seed: int) -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(seed)
    kinds = tuple(DAMAGES)
    for number in range(times):
        kind = kinds[number % len(kinds)]
        yield kind, DAMAGES[kind](payload, random)


def check(folder: Path, times: int) -> list[str]:
    """What went wrong; each damaged file is written before it is read, so that a crash leaves it behind."""
    wrong = []
    for number, (container, codec) in enumerate(FILMS):
        path = make(folder / f"whole.{container}", codec, frames=50)
        payload, (intact, reader) = path.read_bytes(), pictures(path)
        assert intact
        assert reader.fault is None, container
        damaged = folder / f"damaged.{container}"
        for kind, content in damages(payload, times // len(FILMS), number):
            damaged.write_bytes(content)
            found, video = pictures(damaged)
            if video.fault is not None and video.fault.reason not in REASONS:
                wrong.append(f"{container} {kind}: {video.fault}")
            if len(found) > 200 or video.left_out < 0:
                wrong.append(f"{container} {kind}: {len(found)} frames, {video.left_out} left out")
            # A cut of the file's end loses frames, which is told.
            if (
                payload.startswith(content)
                and len(found) < len(intact) - 1
                and video.fault is None
                and container in TOLD
            ):
                wrong.append(f"{container} {kind} at {len(content)} of {len(payload)}: {len(found)} of {len(intact)}")
    return wrong


TOLD = ("mp4", "mkv", "avi", "webm", "flv", "wmv", "ogv")  # containers that announce what there is to come


def in_child(folder: Path, times: int, limit_s: float) -> None:
    """In a process of its own: a crash of FFmpeg is told as such, and a hang ends."""
    code = f"from pathlib import Path; from tests.pipelines import test_damaged_videos as test; \
wrong = test.check(Path({str(folder)!r}), {times}); print(*wrong, sep=chr(10)); raise SystemExit(bool(wrong))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=limit_s, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])


def test_no_damage_of_a_video_crashes_hangs_or_loses_its_end_untold(tmp_path: Path) -> None:
    in_child(tmp_path, BY_DAY, 120)


@pytest.mark.nightly
def test_ten_thousand_damages_of_videos(tmp_path: Path) -> None:
    in_child(tmp_path, BY_NIGHT, 3600)
