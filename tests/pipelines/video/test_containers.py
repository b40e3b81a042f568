"""Videos of many containers are recognised, those cut off are told, and nothing opens another file."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.pipelines.rejected import REASONS, Rejected
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from tests.pipelines.films import level

FRAGMENTS = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}
# Name → codec, format, options of the container. Each film has 30 frames, 10 or (where that is too few) 25 a second.
FILMS: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "a.mp4": ("libx264", None, {}),
    "start.mp4": ("libx264", None, {"movflags": "+faststart"}),
    "fragments.mp4": ("libx264", None, FRAGMENTS),
    "a.mkv": ("libx264", None, {}),
    "live.mkv": ("libx264", None, {"live": "1"}),
    "a.webm": ("libvpx", None, {}),
    "a.avi": ("mpeg4", None, {}),
    "a.ts": ("libx264", None, {}),
    "a.m2ts": ("libx264", None, {"mpegts_m2ts_mode": "1"}),
    "a.flv": ("libx264", None, {}),
    "a.vob": ("mpeg2video", "vob", {}),
    "a.wmv": ("mpeg4", "asf", {}),
    "a.mxf": ("mpeg2video", "mxf", {}),
    "a.gif": ("gif", None, {}),
    "a.ogv": ("libvpx", "ogg", {}),
    "a.nut": ("mpeg4", "nut", {}),
    "a.y4m": ("wrapped_avframe", "yuv4mpegpipe", {}),
    "a.ivf": ("libvpx", "ivf", {}),
    "a.apng": ("apng", None, {}),
    "a.webp": ("libwebp_anim", None, {}),
    "a.mjpeg": ("mjpeg", "mjpeg", {}),
}
# Those without any announcement of how long they are.
RAW: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "a.h264": ("libx264", "h264", {}),
    "a.h265": ("libx265", "hevc", {}),
    "a.m4v": ("mpeg4", "m4v", {}),
    "a.m2v": ("mpeg2video", "mpeg2video", {}),
    "a.dv": ("dvvideo", "dv", {}),
}
PIXELS = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}


def made(folder: Path, name: str) -> Path:
    """One of the films, made once a folder."""
    path = folder / name
    if path.exists():
        return path
    codec, form, options = (FILMS | RAW)[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {codec}")
    rate = 25 if codec in ("mpeg2video", "dvvideo") else 10
    with av.open(str(path), "w", format=form, options=options) as container:
        settings_ = {"threads": "1", "g": "10"} | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
        stream = container.add_stream(codec, rate=rate, options=settings_)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = (720, 576) if codec == "dvvideo" else (64, 48)
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        for number in range(30):
            values = np.full((stream.height, stream.width, 3), level(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path, rate: int = 100) -> tuple[list[int], Rejected | None]:
    """The greys of the frames, and the fault."""
    video = VideoReader(path)
    pictures = [frame.picture for frame in video.frames(FrameTimes(Fraction(rate), limit=500))]
    shown = [picture for picture in pictures if isinstance(picture, Image.Image)]
    return [round((float(np.asarray(one.convert("L")).mean()) - 20) / 8) for one in shown], video.fault


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.mark.parametrize("name", [*FILMS, *RAW])
def test_every_container_gives_all_its_frames_in_order(name: str, films: Path) -> None:
    greys, fault = read(made(films, name))
    assert greys == [number % 27 for number in range(30)]
    assert fault is None


@pytest.mark.parametrize("name", list(FILMS))
def test_a_film_that_was_cut_off_anywhere_is_told(name: str, films: Path, tmp_path: Path) -> None:
    payload = made(films, name).read_bytes()
    draw = Random(name)
    for _ in range(6):
        size = draw.randrange(len(payload) // 4, len(payload) * 3 // 4)
        step = 2048 if name == "a.vob" else 188 if name == "a.ts" else 192 if name == "a.m2ts" else 0
        if step and size % step == 0:
            size += 1  # nothing tells that a whole packet is missing
        cut = tmp_path / name
        cut.write_bytes(payload[:size])
        _, fault = read(cut)
        assert fault is not None, size
        assert fault.reason == "truncated", (size, fault)


@pytest.mark.parametrize("name", sorted((FILMS | RAW).keys() - {"a.mxf", "a.nut"}))  # in those FFmpeg misses frames
def test_of_two_films_in_one_file_the_second_is_read_or_told(name: str, films: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(made(films, name).read_bytes() * 2)
    greys, fault = read(path)
    assert fault is not None or len(greys) == 60


def test_an_index_without_media_is_truncated(films: Path, tmp_path: Path) -> None:
    payload = made(films, "start.mp4").read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(payload[: payload.index(b"mdat") - 4])
    _, fault = read(path)
    assert fault is not None
    assert (fault.reason, fault.detail) == ("truncated", "0 of 30 frames; 0 frames were decoded")


def _junk(payload: bytes) -> bytes:
    return b"junk" * 700 + payload


@pytest.mark.parametrize("name", ["a.ts", "a.m2ts"])
@pytest.mark.parametrize("change", [lambda payload: payload[77:], _junk])
def test_transport_streams_are_read_from_anywhere(
    name: str, change: Callable[[bytes], bytes], films: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(change(made(films, name).read_bytes()))
    greys, fault = read(path)
    assert greys[-15:] == [number % 27 for number in range(15, 30)]
    assert fault is None


def test_nothing_that_names_other_files_is_opened(films: Path, tmp_path: Path) -> None:
    other = made(films, "a.ts")
    texts = {
        "hls": f"#EXTM3U\n#EXTINF:1,\nfile://{other}\n",
        "hls-late": f"\n\n#EXTM3U\n#EXTINF:1,\n{other}\n",
        "concat": f"ffconcat version 1.0\nfile '{other}'\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }
    for name, text in texts.items():
        path = tmp_path / f"{name}-%03d.mp4"
        path.write_text(text)
        greys, fault = read(path)
        assert greys == []
        assert fault is not None
        assert fault.reason in ("unsupported_format", "not_a_video")


def test_sound_with_a_cover_has_only_a_cover_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode())
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
    assert read(path) == ([], Rejected("not_a_video", "only a cover picture"))


def damaged(payload: bytes, draw: Random) -> bytes:
    """The bytes with a piece cut out, put in or doubled."""
    begin = draw.randrange(len(payload))
    end = min(len(payload), begin + draw.randrange(1, 3000))
    kind = draw.randrange(4)
    if kind == 0:
        return payload[:begin] + payload[end:]
    if kind == 1:
        return payload[:end] + payload[begin:]
    if kind == 2:
        return payload[:begin] + draw.randbytes(end - begin) + payload[begin:]
    return payload[:begin]


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.nightly])])
def test_random_damage_neither_crashes_nor_hangs(count: int, films: Path, tmp_path: Path) -> None:
    names = [name for name in (*FILMS, *RAW) if name != "a.dv"]
    draw = Random(count)
    for number in range(count):
        name = names[number % len(names)]
        path = tmp_path / name
        path.write_bytes(damaged(made(films, name).read_bytes(), draw))
        video = VideoReader(path)
        frames = list(video.frames(FrameTimes(Fraction(2), limit=50)))
        assert frames or video.fault is not None, (number, name)
        assert video.fault is None or video.fault.reason in REASONS


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=3000))
def test_bytes_of_any_kind_are_no_video(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.mp4"
    path.write_bytes(payload)
    greys, fault = read(path)
    assert greys == []
    assert fault is not None
