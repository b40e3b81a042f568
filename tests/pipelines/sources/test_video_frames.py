"""Frames of videos: at the right times, upright, and whatever is wrong with a file has its reason."""

import http.server
import itertools
import json
import resource
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.pipelines.errors import RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.images.codec import decode
from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import REASONS, Rejected
from stoker.pipelines.source import Candidate, Context
from stoker.pipelines.sources.video_frames import VideoFrames
from stoker.pipelines.video.frames import FrameTimes, VideoReader
from stoker.pipelines.video.names import video_key
from stoker.pipelines.web.client import Web
from tests.data import SHARED, needs_shared

TICK = Fraction(1, 1000)


def level(number: int) -> int:
    """The grey that frame ``number`` is painted in, apart enough to survive any codec."""
    return 20 + number % 27 * 8


def film(
    path: Path, stamps: list[int], *, codec: str = "libx264", size: tuple[int, int] = (64, 48), **options: str
) -> Path:
    """A video whose frames stand at the given milliseconds, each in its own grey, with noise for the codec to code."""
    noise = np.random.default_rng(0).integers(-3, 4, (size[1], size[0], 3))
    form = {} if path.suffix not in (".mp4", ".mov") or options.pop("end", "") else {"movflags": "+faststart"}
    title, pix_fmt = options.pop("title", "A test"), options.pop("pix_fmt", "yuv420p")
    with av.open(str(path), "w", options=form) as container:
        container.metadata["title"] = title
        container.metadata["artist"] = "The tests"
        stream = container.add_stream(codec, rate=1000, options={"threads": "1"} | options)
        stream.width, stream.height, stream.time_base = *size, TICK
        stream.codec_context.time_base = TICK
        stream.pix_fmt = pix_fmt
        for number, stamp in enumerate(stamps):
            values = np.clip(level(number) + noise, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts, frame.time_base = stamp, TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def seen(
    path: Path, per_second: str = "1", *, skip: bool = True, **options: Any
) -> tuple[list[tuple[int, int]], VideoReader]:
    """(milliseconds, frame number by its grey) of the frames, and what was found out about the file."""
    video = VideoReader(path)
    found = []
    for shown in video.frames(FrameTimes(Fraction(per_second), **options), skip=skip):
        if isinstance(shown.picture, Rejected):
            continue
        grey = float(np.asarray(shown.picture.convert("L")).mean())
        found.append((round(shown.time * 1000), round((grey - 20) / 8)))
    return found, video


def context(folder: Path) -> Context:
    web = Web(allow_private=True, requests_per_second=0, attempts=1, robots=False, timeout_s=5, deadline_s=20)
    return Context(root=folder, web=web, scratch=folder / "scratch")


def candidates(source: VideoFrames, folder: Path) -> list[Candidate]:
    where = context(folder)
    return [one for partition in source.partitions(where) for one in source.read(partition, where)]


def reasons(source: VideoFrames, folder: Path) -> list[str]:
    return [one.rejected.reason for one in candidates(source, folder) if one.rejected is not None]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A folder on a web server of its own."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", folder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_each_time_shows_the_frame_then_being_shown(tmp_path: Path) -> None:
    stamps = [0, 400, 990, 1010, 2000, 2500, 2600]
    path = film(tmp_path / "a.mp4", stamps)
    assert seen(path)[0] == [(0, 0), (990, 2), (2000, 4)]
    assert seen(path, "2")[0] == [(0, 0), (400, 1), (990, 2), (1010, 3), (2000, 4), (2500, 5)]
    assert seen(path, "1000")[0] == [(stamp, place) for place, stamp in enumerate(stamps)]


def test_a_long_still_is_taken_once(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [0, 40, 60_000, 60_040])
    assert seen(path)[0] == [(0, 0), (40, 1), (60_000, 2)]


def test_times_begin_at_the_first_frame_and_keep_to_their_bounds(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [700 + 100 * number for number in range(50)])
    assert [stamp for stamp, _ in seen(path)[0]] == [0, 1000, 2000, 3000, 4000]
    bounded, _ = seen(path, start=Fraction(2), end=Fraction(4))
    assert [stamp for stamp, _ in bounded] == [2000, 3000]
    assert [stamp for stamp, _ in seen(path, limit=2)[0]] == [0, 1000]
    assert seen(path, start=Fraction(60))[0] == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.sampled_from(["1", "5/2", "1/3", "30"]), st.data())
def test_what_is_picked_is_the_plain_rule_whatever_is_skipped(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], rate: str, data: st.DataObject
) -> None:
    stamps = list(itertools.accumulate(gaps, initial=0))
    gop, between = data.draw(st.sampled_from([1, 5, 250])), data.draw(st.sampled_from(["0", "3"]))
    form = data.draw(st.sampled_from(["mp4", "mkv"]))
    path = film(tmp_path_factory.mktemp("film") / f"a.{form}", stamps, g=str(gop), bf=between)
    period = 1 / Fraction(rate)
    wanted = []
    for tick in itertools.count():
        time = tick * period * 1000
        if time > stamps[-1]:
            break
        shown = max(place for place, stamp in enumerate(stamps) if stamp <= time)
        if not wanted or wanted[-1] != stamps[shown]:
            wanted.append(stamps[shown])
    whole, video = seen(path, rate, skip=False)
    found, lazy = seen(path, rate)
    assert found == whole
    times = [stamp for stamp, _ in found]
    assert times[: len(wanted)] == wanted
    assert times[len(wanted) :] in ([], [stamps[-1]])  # the last may be on for a while yet
    assert lazy.decoded <= video.decoded
    assert (video.fault, lazy.fault) == (None, None)


def test_groups_of_pictures_that_nobody_wants_are_not_decoded(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", list(range(0, 60_000, 100)), g="10", keyint_min="10", bf="0")
    found, video = seen(path, "1/20")
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
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(25):
            values = np.full((48, 64, 3), 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found, video = seen(path)
    assert video.fault is None
    assert [round(stamp, -2) for stamp, _ in found] == [0, 1000, 2000]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_file_that_was_cut_gives_what_it_holds_and_says_so(name: str, tmp_path: Path) -> None:
    path = film(tmp_path / name, list(range(0, 20_000, 40)), codec="mpeg4", size=(320, 240))
    payload = path.read_bytes()
    path.write_bytes(payload[: len(payload) // 2])
    found, video = seen(path)
    assert 5 <= len(found) < 20
    assert video.fault is not None
    assert video.fault.reason == "truncated"


def test_damage_in_the_middle_loses_little_and_is_told(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", list(range(0, 20_000, 40)), size=(320, 240), g="25")
    payload = bytearray(path.read_bytes())
    middle = len(payload) // 2
    payload[middle : middle + 400] = bytes(400)
    path.write_bytes(payload)
    found = candidates(VideoFrames(videos="a.mp4"), tmp_path)
    kept = [one for one in found if one.rejected is None]
    assert len(kept) >= 17
    assert found[-1].sample.key == video_key("file:a.mp4")
    assert found[-1].rejected is not None
    assert found[-1].rejected.reason == "corrupt"
    assert "frames were taken" in found[-1].rejected.detail


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


def test_what_is_no_video_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "page.mp4").write_bytes(b"<!doctype html>" + b" " * 900)
    (tmp_path / "playlist.mp4").write_bytes(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n")
    (tmp_path / "script.mp4").write_bytes(b"ffconcat version 1.0\nfile 'empty.mp4'\n")
    Image.new("RGB", (9, 9)).save(tmp_path / "picture.mp4", "PNG")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    whole = film(tmp_path / "whole.mp4", [0, 100], end="index").read_bytes()
    (tmp_path / "whole.mp4").unlink()
    (tmp_path / "unfinished.mp4").write_bytes(whole[: whole.index(b"moov") - 4])
    expected = {
        "empty": "empty",
        "page": "not_a_video",
        "picture": "not_a_video",
        "playlist": "unsupported_format",
        "script": "not_a_video",
        "sound": "not_a_video",
        "unfinished": "truncated",
    }
    found = candidates(VideoFrames(videos="*.mp4"), tmp_path)
    assert {one.sample.record["title"]: one.rejected.reason for one in found if one.rejected} == expected
    assert len(found) == len(expected)
    assert all(one.sample.key == video_key(one.sample.record["url"]) for one in found)


def test_a_frame_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mov", [0, 100], codec="png", pix_fmt="rgb24")
    payload = path.read_bytes()
    size = payload[payload.index(b"IHDR") + 4 :][:8]
    path.write_bytes(payload.replace(b"IHDR" + size, b"IHDR" + (30000).to_bytes(4, "big") * 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reasons(VideoFrames(videos="a.mov"), tmp_path) in (["too_many_pixels"], ["corrupt"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_candidates_say_where_and_when_they_are_from(tmp_path: Path) -> None:
    film(tmp_path / "sub.mp4", list(range(0, 3000, 500)), title="The\n title")
    found = candidates(VideoFrames(videos="sub.mp4", frames_per_second=2, short_side=24, format="png"), tmp_path)
    key = video_key("file:sub.mp4")
    assert [one.sample.key for one in found] == [f"{key}-{stamp:09d}" for stamp in range(0, 3000, 500)]
    sample = found[3].sample
    partition = next(iter(VideoFrames(videos="sub.mp4").partitions(context(tmp_path))))
    assert sample.record == {
        "url": "file:sub.mp4",
        "title": "The title",
        "author": "The tests",
        "group": key,
        "video": key,
        "time_s": 1.5,
        "pts": sample.record["pts"],
        "sha256": partition.fingerprint,
    }
    picture = decode(sample.fields["png"])
    assert isinstance(picture, Image.Image)
    assert picture.size == (32, 24)
    assert set(sample.measures) == {"fetched_at"}
    again = candidates(VideoFrames(videos="sub.mp4", frames_per_second=2, short_side=24, format="png"), tmp_path)
    assert [one.sample.fields for one in again] == [one.sample.fields for one in found]
    json.dumps([one.sample.record for one in found])


def test_no_record_holds_a_path_of_this_machine(tmp_path: Path) -> None:
    inside, outside = tmp_path / "recipes", tmp_path / "films"
    (inside / "clips").mkdir(parents=True)
    (outside / "more").mkdir(parents=True)
    film(inside / "clips" / "a.mp4", [0, 100])
    film(outside / "b.mp4", [0, 100])
    film(outside / "more" / "b.mp4", [0, 100, 200])
    source = VideoFrames(videos=("clips/*.mp4", "../films/b.mp4", str(outside / "more" / "*.mp4")))
    found = candidates(source, inside)
    assert [one.sample.record["url"] for one in found] == ["file:clips/a.mp4", "file:b.mp4", "file:b.mp4"]
    assert len({one.sample.key for one in found}) == 3
    assert str(tmp_path) not in repr([one.sample.record for one in found])


def test_lists_name_videos_and_what_is_known_of_them(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", [0, 100])
    (tmp_path / "films.csv").write_text(
        "url,title,license,label\na.mp4,My film,CC0-1.0,cats\nhttp://\nno.mp4,x\n,nothing\na.mp4,again\n",
        encoding="utf-8",
    )
    found = candidates(VideoFrames(lists="films.csv"), tmp_path)
    kept = [one.sample.record for one in found if one.rejected is None]
    assert [(one["title"], one["licence"], one["label"]) for one in kept] == [("My film", "CC0-1.0", "cats")]
    assert [one.rejected.reason for one in found if one.rejected] == ["bad_url"] * 3


def test_videos_of_the_web_are_fetched_read_and_removed(served: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = served
    film(folder / "a.mp4", [0, 1000, 1100])
    (folder / "page.mp4").write_text("<html>no film</html>")
    source = VideoFrames(videos=(f"{address}/a.mp4", f"{address}/page.mp4", f"{address}/gone.mp4", "http://bad host/"))
    found = candidates(source, tmp_path)
    kept = [one.sample for one in found if one.rejected is None]
    assert [sample.record["time_s"] for sample in kept] == [0, 1.0]
    assert kept[0].record["url"] == f"{address}/a.mp4"
    assert len(kept[0].record["sha256"]) == 64
    assert kept[0].measures["fetched_at"]
    assert [one.rejected.reason for one in found if one.rejected] == ["not_a_video", "gone", "bad_url"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_caps_of_size_hold_for_files_and_downloads(served: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = served
    film(folder / "a.mp4", [0, 1000])
    small = VideoFrames(videos=(f"{address}/a.mp4", "www/a.mp4"), max_megabytes=0.0005)
    assert reasons(small, tmp_path) == ["too_large", "too_large"]
    assert reasons(VideoFrames(videos="www/a.mp4", start_s=10), tmp_path) == ["too_short"]


def test_a_server_that_is_down_is_tried_again_later_or_passed_by(tmp_path: Path) -> None:
    source = VideoFrames(videos="http://127.0.0.1:9/a.mp4")
    with pytest.raises(SourceUnavailable, match="unreachable = 'reject'"):
        candidates(source, tmp_path)
    assert reasons(VideoFrames(videos="http://127.0.0.1:9/a.mp4", unreachable="reject"), tmp_path) == ["unreachable"]


def test_names_that_name_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for videos, message in (("no.mp4", "no such file"), ("*.webm", "no such file"), ("folder", "folder/\\*.mp4")):
        with pytest.raises(RecipeError, match=message):
            list(VideoFrames(videos=videos).partitions(context(tmp_path)))
    with pytest.raises(ValueError, match="expected videos"):
        VideoFrames()
    with pytest.raises(ValueError, match="not after start_s"):
        VideoFrames(videos="a", start_s=3, end_s=2)
    film(tmp_path / "a.mp4", [0])
    partitions = list(VideoFrames(videos="a.mp4").partitions(context(tmp_path)))
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(SourceBroken, match="gone"):
        list(VideoFrames(videos="a.mp4").read(partitions[0], context(tmp_path)))


def test_a_changed_file_is_another_partition_of_the_same_key(tmp_path: Path) -> None:
    def only() -> Partition:
        return next(iter(VideoFrames(videos="a.mp4").partitions(context(tmp_path))))

    film(tmp_path / "a.mp4", [0])
    before = only()
    film(tmp_path / "a.mp4", [0, 100])
    assert before.name == only().name
    assert before.fingerprint != only().fingerprint


# What is no video, or not a whole one, among the real files. Every other one is read without a fault.
BROKEN = {
    "bad_corrupt_packets.mp4": "corrupt",
    "bad_moov_missing.mp4": "truncated",
    "bad_png_as.mp4": "not_a_video",
    "bad_text_as.mp4": "not_a_video",
    "bad_truncated_half.mp4": "truncated",
    "bad_zero_byte.mp4": "empty",
    "decord_corrupted.mp4": "corrupt",
    "small_AudioVideoInterleave.avi": "not_a_video",
    "small_FlashVideo.flv": "truncated",
    "small_Mpeg4.mp4": "not_a_video",
    "small_mp4-with-audio.mp4": "not_a_video",
}


@pytest.mark.slow
@needs_shared
def test_every_real_video_gives_its_frames_or_the_right_reason(tmp_path: Path) -> None:
    assert SHARED is not None
    films = [path for path in sorted((SHARED / "videos").iterdir()) if path.suffix != ".json"]
    found = candidates(VideoFrames(videos=tuple(map(str, films)), short_side=64), tmp_path)
    of: dict[str, list[Candidate]] = {}
    for one in found:
        of.setdefault(one.sample.record["url"].removeprefix("file:"), []).append(one)
    assert set(of) == {path.name for path in films}
    faults = {
        name: one.rejected.reason
        for name, all_ in of.items()
        for one in all_
        if one.rejected is not None and "-" not in one.sample.key
    }
    assert faults == BROKEN
    assert sum(one.rejected is None for one in of["bad_corrupt_packets.mp4"]) == 13
    assert len(of["decord_corrupted.mp4"]) == 6
    assert all(of[name][0].rejected is None for name in of if name not in BROKEN)


@needs_shared
def test_real_times_are_those_of_the_reference_and_phones_stand_upright() -> None:
    assert SHARED is not None
    reference = json.loads((SHARED / "videos" / "tc_nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    times = [float(one["pts_time"]) for one in reference]
    shown = list(VideoReader(SHARED / "videos" / "tc_nasa_13013.mp4").frames(FrameTimes(Fraction(1000))))
    assert [float(one.time) for one in shown] == pytest.approx([time - times[0] for time in times], abs=1e-5)
    sizes = {}
    for angle in (0, 90, 180, 270):
        first = next(iter(VideoReader(SHARED / "videos" / f"decord_video_{angle}.mov").frames(FrameTimes(Fraction(1)))))
        assert isinstance(first.picture, Image.Image)
        sizes[angle] = first.picture.size
    assert sizes == {0: (568, 320), 90: (320, 568), 180: (568, 320), 270: (320, 568)}


@pytest.mark.slow
@needs_shared
def test_skipping_changes_no_real_frame() -> None:
    assert SHARED is not None
    for path in sorted((SHARED / "videos").iterdir()):
        if path.suffix == ".json":
            continue
        lazy, whole = ([*VideoReader(path).frames(FrameTimes(Fraction(1, 3)), skip=skip)] for skip in (True, False))
        assert [(one.pts, one.picture) for one in lazy] == [(one.pts, one.picture) for one in whole], path.name


@pytest.mark.parametrize(("label", "expected"), [("", None), ("folder", "cats"), ("video", "tom")])
def test_frames_can_be_labelled_by_folder_or_video(tmp_path: Path, label: Any, expected: str | None) -> None:
    (tmp_path / "cats").mkdir()
    film(tmp_path / "cats" / "tom.mp4", [0, 500])
    source = VideoFrames(videos="cats/*.mp4", label=label)
    (partition,) = source.partitions(context(tmp_path))
    found = list(source.read(partition, context(tmp_path)))
    assert found
    assert all(one.sample.record.get("label") == expected for one in found)
