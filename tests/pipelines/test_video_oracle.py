"""Picked frames beside those of a plain loop that decodes every frame: the right ones, and the same pixels.

The loop knows nothing of Stoker's choice of frames, time line and skipping; only the way from a frame to its picture is
Stoker's, so that pixels can be compared bit by bit.
"""

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from stoker.pipelines.video.picture import PictureOptions, frame_to_image
from tests.data import SHARED, needs_shared

RATE = 25
X264 = "keyint=20:min-keyint=20:scenecut=0:b-adapt=0:log=0:"
X265 = "keyint=20:min-keyint=20:scenecut=0:b-adapt=0:log-level=none:"
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"x264-params": X264 + "bframes=0"}),
    "h264_pyramid": ("libx264", {"x264-params": X264 + "bframes=5:b-pyramid=normal"}),
    "h264_open": ("libx264", {"x264-params": X264 + "bframes=3:open-gop=1"}),
    "h264_refresh": ("libx264", {"x264-params": X264 + "bframes=2:intra-refresh=1"}),
    "h264_fields": ("libx264", {"x264-params": X264 + "bframes=2:tff=1:open-gop=1"}),
    "hevc": ("libx265", {"x265-params": X265 + "bframes=4:open-gop=0"}),
    "hevc_open": ("libx265", {"x265-params": X265 + "bframes=8:open-gop=1:b-pyramid=1"}),
    "hevc_layers": ("libx265", {"x265-params": X265 + "bframes=4:temporal-layers=3"}),
    "mpeg2": ("mpeg2video", {"g": "12", "bf": "2"}),
    "mpeg2_fields": ("mpeg2video", {"g": "12", "bf": "2", "flags": "+ilme+ildct"}),
    "mpeg1": ("mpeg1video", {"g": "12", "bf": "2"}),
    "mpeg4": ("mpeg4", {"g": "12", "bf": "2"}),
    "mpeg4_plain": ("mpeg4", {"g": "12", "bf": "0"}),
    "vp8": ("libvpx", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8", "deadline": "realtime"}),
    "vp9": ("libvpx-vp9", {"g": "20", "cpu-used": "8", "deadline": "realtime"}),
    "av1": ("libsvtav1", {"g": "20", "preset": "13", "svtav1-params": "lp=1"}),
    "flv1": ("flv", {"g": "12"}),
    "wmv2": ("wmv2", {"g": "12"}),
    "mjpeg": ("mjpeg", {}),
}
# By day, one of each container and of each kind of coding; at night each codec in each container that takes it.
DAY = (
    ("mp4", "h264_pyramid"), ("mp4", "hevc_open"), ("mov", "h264_open"), ("mkv", "hevc_layers"), ("mkv", "mpeg4"),
    ("ts", "h264_open"), ("ts", "hevc_open"), ("ts", "mpeg2"), ("ts", "h264_refresh"), ("vob", "mpeg2"),
    ("vob", "mpeg2_fields"), ("mpg", "mpeg2"),
    ("avi", "h264"), ("avi", "h264_pyramid"), ("avi", "mpeg4"), ("avi", "mpeg4_plain"), ("webm", "vp9"),
    ("flv", "h264"), ("ogv", "vp8"), ("wmv", "wmv2"), ("mpg", "h264"), ("mpg", "h264_pyramid"), ("mpg", "hevc_open"),
)  # fmt: skip
ALL = {
    "mp4": ("h264", "h264_pyramid", "h264_open", "h264_refresh", "h264_fields", "hevc", "hevc_open", "hevc_layers",
            "mpeg2", "mpeg4", "mpeg4_plain", "vp9", "av1", "mjpeg"),
    "mov": ("h264", "h264_pyramid", "h264_open", "hevc_open", "mpeg2", "mpeg4", "mjpeg"),
    "mkv": tuple(name for name in CODECS if name not in ("flv1", "wmv2")),
    "ts": ("h264", "h264_pyramid", "h264_open", "h264_refresh", "h264_fields", "hevc", "hevc_open", "hevc_layers",
           "mpeg2", "mpeg2_fields", "mpeg1"),
    "avi": ("h264", "h264_pyramid", "h264_open", "mpeg4", "mpeg4_plain", "mjpeg", "mpeg2"),
    "webm": ("vp8", "vp9", "av1"),
    "vob": ("mpeg2",),
    "mpg": ("mpeg2", "h264", "h264_pyramid", "h264_open", "h264_refresh", "hevc", "hevc_open"),
    "flv": ("h264", "h264_pyramid", "h264_open", "flv1"),
    "ogv": ("vp8",),
    "wmv": ("wmv2", "mpeg4_plain"),
}  # fmt: skip
RATES = (Fraction(RATE), Fraction(7), Fraction(1), Fraction(1, 3))
Decoded = list[tuple[Fraction, Any]]  # None: a damaged picture. Any: Image.Image


def make(path: Path, codec: str, *, stamps: list[int] | None = None, frames: int = 100, first: int = 0) -> Path:
    """A film in which everything moves; ``stamps`` in milliseconds, or 25 frames a second."""
    encoder, options = CODECS[codec]
    if encoder not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {encoder}")
    scene = np.random.default_rng(0).integers(0, 255, (48, 800, 3)).astype(np.uint8)
    form = {".ogv": "ogg", ".wmv": "asf"}.get(path.suffix)
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(encoder, rate=RATE, options={"threads": "1"} | options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        base = Fraction(1, RATE) if stamps is None else Fraction(1, 1000)
        if stamps is not None:
            stream.time_base = stream.codec_context.time_base = base
        for number, stamp in enumerate(stamps or range(frames)):
            picture = np.ascontiguousarray(scene[:, first + number : first + number + 64])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_all(path: Path) -> Decoded:
    """Every frame with its time, by a plain loop that goes on after faults and steps of time stamps."""
    found: Decoded = []
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]  # Any: PyAV is untyped to us
        stream.codec_context.thread_count = 1
        start = Fraction(container.start_time or 0, 1_000_000)
        start = max(Fraction(0), start)
        if stream.start_time is not None:
            start = min(start, stream.start_time * stream.time_base)
        shift = Fraction(0)
        for packet in container.demux(stream):
            try:
                frames = stream.codec_context.decode(packet)
            except av.FFmpegError:
                continue
            for frame in frames:
                last = found[-1][0] if found else None
                if container.format.name in ("avi", "mpeg"):  # they lack stamps for presentation of all or some frames
                    time = Fraction(len(found), RATE)
                else:
                    time = frame.pts * stream.time_base + shift - start
                    if last is not None and time < last - Fraction(1, 10):
                        shift += last + Fraction(1, RATE) - time
                        time = last + Fraction(1, RATE)
                    if last is None and time < 0:
                        start, time = frame.pts * stream.time_base, Fraction(0)
                picture = frame_to_image(frame, None, PictureOptions())
                whole = isinstance(picture, Image.Image) and not frame.is_corrupt
                found.append((time, picture if whole else None))
    return found


def expected(frames: Decoded, rate: Fraction) -> list[int]:
    """The numbers of the frames on screen at each time, each once; the last is shown for 1/25 s."""
    times = [time for time, _ in frames]
    found: list[int] = []
    number = 0
    while frames and (tick := number / rate) < times[-1] + Fraction(1, RATE):
        shown = max(0, bisect_right(times, tick) - 1)
        if not found or found[-1] != shown:
            found.append(shown)
        number += 1
    return found


def compare(path: Path, rates: tuple[Fraction, ...] = RATES) -> None:
    frames = decode_all(path)
    for rate in rates:
        shown = [frame.picture for frame in VideoReader(path).frames(FrameTimes(rate))]
        picked = [None if isinstance(picture, Rejected) else picture for picture in shown]
        numbers = expected(frames, rate)
        # Durations of a last frame differ by container: it may be shown a little longer, or not at all.
        assert len(picked) - len(numbers) in (-1, 0, 1), (path.name, rate)
        same = [left == frames[number][1] for left, number in zip(picked, numbers, strict=False)]
        assert all(same), (path.name, rate, same)


@pytest.mark.parametrize(("container", "codec"), DAY)
def test_picked_frames_are_those_of_a_full_decode(container: str, codec: str, tmp_path: Path) -> None:
    compare(make(tmp_path / f"a.{container}", codec))


@pytest.mark.nightly
@pytest.mark.parametrize(("container", "codec"), [(name, codec) for name, codecs in ALL.items() for codec in codecs])
def test_picked_frames_are_those_of_a_full_decode_in_every_container(
    container: str, codec: str, tmp_path: Path
) -> None:
    compare(
        make(tmp_path / f"a.{container}", codec, frames=230), (*RATES, Fraction(12), Fraction(5, 2), Fraction(1, 8))
    )


@pytest.mark.parametrize("codec", ["h264_pyramid", "h264_open", "hevc_open", "vp9"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_frames_of_a_varying_rate_are_those_of_a_full_decode(container: str, codec: str, tmp_path: Path) -> None:
    gaps = np.random.default_rng(5).integers(5, 400, 90)
    compare(make(tmp_path / f"a.{container}", codec, stamps=[0, *np.cumsum(gaps).tolist()]))


@pytest.mark.parametrize("codec", ["h264_pyramid", "h264_open", "hevc_open", "mpeg2"])
def test_frames_of_joined_recordings_are_those_of_a_full_decode(codec: str, tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{first}.ts", codec, frames=60, first=first).read_bytes() for first in (0, 100, 200)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    compare(path)


def _cuts(payload: bytes, number: int) -> Callable[[str], bytes]:
    place = len(payload) * (number + 2) // 11 + 37 * number
    return lambda end: payload[place:] if end == "start" else payload[: len(payload) - place // 2]


@pytest.mark.parametrize(
    ("container", "codec", "end"),
    [
        ("ts", "h264_open", "start"), ("ts", "hevc_open", "start"), ("ts", "mpeg2", "start"),
        ("ts", "h264_open", "end"), ("vob", "mpeg2", "end"), ("mkv", "hevc_open", "end"),
        ("avi", "mpeg4_plain", "end"), ("flv", "h264_open", "end"),
    ],
)  # fmt: skip
def test_frames_of_a_recording_that_is_cut_are_those_of_a_full_decode(
    container: str, codec: str, end: str, tmp_path: Path
) -> None:
    payload = make(tmp_path / f"whole.{container}", codec).read_bytes()
    for number in range(3):
        path = tmp_path / f"{number}.{container}"
        path.write_bytes(_cuts(payload, number)(end))
        compare(path)


def test_frames_whose_stamps_are_in_disorder_are_those_without_skipping(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mpg", "mpeg1")  # FFmpeg's muxer and demuxer give two frames one stamp here
    for rate in RATES:
        lazy, whole = ([*VideoReader(path).frames(FrameTimes(rate), skip=skip)] for skip in (True, False))
        assert [(one.time, one.picture) for one in lazy] == [(one.time, one.picture) for one in whole], rate
    video = VideoReader(path)
    every_frame = FrameTimes(Fraction(1000))
    notes = [frame.facts.get("time_note", "") for frame in video.frames(every_frame)]
    assert 0 < video.moved < len(notes) / 2
    assert sorted(set(notes)) == ["", "moved behind the frame before"]
    assert notes.count("moved behind the frame before") <= video.moved  # which counts frames decoded again, too


@pytest.mark.nightly
@needs_shared
def test_frames_of_real_files_are_those_of_a_full_decode() -> None:
    assert SHARED is not None
    for path in sorted((SHARED / "videos").iterdir()):
        if path.suffix not in (".mp4", ".mov", ".mkv", ".webm"):
            continue
        for rate in (Fraction(1), Fraction(1, 5)):
            lazy, whole = ([*VideoReader(path).frames(FrameTimes(rate), skip=skip)] for skip in (True, False))
            assert [(one.pts, one.picture) for one in lazy] == [(one.pts, one.picture) for one in whole], path.name
