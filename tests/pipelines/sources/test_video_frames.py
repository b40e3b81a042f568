"""Frames of videos as candidates: their records, labels, rejects, and videos of the web."""

import http.server
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.errors import OutsideRecipe, RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.images.codec import decode
from stoker.pipelines.partition import Partition
from stoker.pipelines.source import Candidate, Context
from stoker.pipelines.sources.video_frames import VideoFrames
from stoker.pipelines.video.names import video_key
from stoker.pipelines.web.client import Web
from tests.data import SHARED, needs_shared
from tests.pipelines.films import film


def context(folder: Path, *, trusted: bool = False) -> Context:
    web = Web(allow_private=True, requests_per_second=0, attempts=1, robots=False, timeout_s=5, deadline_s=20)
    return Context(root=folder, web=web, scratch=folder / "scratch", trusted=trusted)


def candidates(source: VideoFrames, folder: Path, *, trusted: bool = False) -> list[Candidate]:
    where = context(folder, trusted=trusted)
    return [candidate for partition in source.partitions(where) for candidate in source.read(partition, where)]


def reasons(source: VideoFrames, folder: Path) -> list[str]:
    return [candidate.rejected.reason for candidate in candidates(source, folder) if candidate.rejected is not None]


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


def test_damage_in_the_middle_loses_little_and_is_told(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", list(range(0, 20_000, 40)), size=(320, 240), g="25")
    payload = bytearray(path.read_bytes())
    middle = len(payload) // 2
    payload[middle : middle + 400] = bytes(400)
    path.write_bytes(payload)
    found = candidates(VideoFrames(videos="a.mp4"), tmp_path)
    kept = [candidate for candidate in found if candidate.rejected is None]
    assert len(kept) >= 17
    assert found[-1].sample.key == video_key("file:a.mp4")
    assert found[-1].rejected is not None
    assert found[-1].rejected.reason == "corrupt"
    assert "frames were taken" in found[-1].rejected.detail


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
        "script": "unsupported_format",
        "sound": "not_a_video",
        "unfinished": "truncated",
    }
    found = candidates(VideoFrames(videos="*.mp4"), tmp_path)
    assert {
        candidate.sample.record["title"]: candidate.rejected.reason for candidate in found if candidate.rejected
    } == expected
    assert len(found) == len(expected)
    assert all(candidate.sample.key == video_key(candidate.sample.record["url"]) for candidate in found)


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
    assert [candidate.sample.key for candidate in found] == [f"{key}-{stamp:09d}" for stamp in range(0, 3000, 500)]
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
        "time_base": "1/16000",
        "offset_s": 0.0,
        "sha256": partition.fingerprint,
    }
    picture = decode(sample.fields["png"])
    assert isinstance(picture, Image.Image)
    assert picture.size == (32, 24)
    assert set(sample.measures) == {"fetched_at"}
    again = candidates(VideoFrames(videos="sub.mp4", frames_per_second=2, short_side=24, format="png"), tmp_path)
    assert [candidate.sample.fields for candidate in again] == [candidate.sample.fields for candidate in found]
    json.dumps([candidate.sample.record for candidate in found])


def test_no_record_holds_a_path_of_this_machine(tmp_path: Path) -> None:
    inside, outside = tmp_path / "recipes", tmp_path / "films"
    (inside / "clips").mkdir(parents=True)
    (outside / "more").mkdir(parents=True)
    film(inside / "clips" / "a.mp4", [0, 100])
    film(outside / "b.mp4", [0, 100])
    film(outside / "more" / "b.mp4", [0, 100, 200])
    source = VideoFrames(videos=("clips/*.mp4", "../films/b.mp4", str(outside / "more" / "*.mp4")))
    found = candidates(source, inside, trusted=True)
    assert [candidate.sample.record["url"] for candidate in found] == ["file:clips/a.mp4", "file:b.mp4", "file:b.mp4"]
    assert len({candidate.sample.key for candidate in found}) == 3
    assert str(tmp_path) not in repr([candidate.sample.record for candidate in found])


def test_lists_name_videos_and_what_is_known_of_them(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", [0, 100])
    (tmp_path / "films.csv").write_text(
        "url,title,license,label\na.mp4,My film,CC0-1.0,cats\nhttp://,,,\nno.mp4,x,,\n,nothing,,\na.mp4,again,,\n",
        encoding="utf-8",
    )
    found = candidates(VideoFrames(lists="films.csv"), tmp_path)
    kept = [candidate.sample.record for candidate in found if candidate.rejected is None]
    assert [(record["title"], record["licence"], record["label"]) for record in kept] == [
        ("My film", "CC0-1.0", "cats")
    ]
    assert [candidate.rejected.reason for candidate in found if candidate.rejected] == ["bad_url"] * 3


def test_videos_of_the_web_are_fetched_read_and_removed(served: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = served
    film(folder / "a.mp4", [0, 1000, 1100])
    (folder / "page.mp4").write_text("<html>no film</html>")
    source = VideoFrames(videos=(f"{address}/a.mp4", f"{address}/page.mp4", f"{address}/gone.mp4", "http://bad host/"))
    found = candidates(source, tmp_path)
    kept = [candidate.sample for candidate in found if candidate.rejected is None]
    assert [sample.record["time_s"] for sample in kept] == [0, 1.0]
    assert kept[0].record["url"] == f"{address}/a.mp4"
    assert len(kept[0].record["sha256"]) == 64
    assert kept[0].measures["fetched_at"]
    assert [candidate.rejected.reason for candidate in found if candidate.rejected] == [
        "not_a_video",
        "gone",
        "bad_url",
    ]
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]


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


def test_what_matches_and_cannot_be_read_is_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    root, away = tmp_path / "recipe", tmp_path / "away"
    (root / "clips" / "deep.mp4").mkdir(parents=True)
    away.mkdir()
    film(away / "private.mp4", [0])
    film(root / "clips" / "a.mp4", [0])
    os.mkfifo(root / "clips" / "pipe.mp4")
    (root / "clips" / "dangling.mp4").symlink_to("nothing.mp4")
    (root / "clips" / "link.mp4").symlink_to(away / "private.mp4")
    (root / "clips" / "others").symlink_to(away)
    source = VideoFrames(videos="clips/**/*.mp4")
    source.check(context(root))
    told = {
        one.sample.record["url"]: one.rejected and (one.rejected.reason, one.rejected.detail)
        for one in candidates(source, root)
    }
    outside = "outside", "a link out of the recipe's folder, which is followed with --trust"
    assert told == {
        "file:clips/a.mp4": None,
        "file:clips/dangling.mp4": ("unreadable", "a link to nothing"),
        "file:clips/link.mp4": outside,
        "file:clips/others": outside,
        "file:clips/pipe.mp4": ("unreadable", "a pipe"),
    }
    trusted = candidates(source, root, trusted=True)
    assert [one.sample.record["url"] for one in trusted if one.rejected is None] == [
        f"file:clips/{name}.mp4" for name in ("a", "link", "others/private")
    ]
    # The owner mends it: the same key then has frames.
    (root / "clips" / "link.mp4").unlink()
    film(root / "clips" / "link.mp4", [0])
    mended = candidates(source, root)
    assert [one.sample.key[:16] for one in mended if one.rejected is None] == [
        video_key(f"file:clips/{name}.mp4") for name in ("a", "link")
    ]
    (root / "clips" / "a.mp4").unlink()
    (root / "clips" / "link.mp4").unlink()
    with pytest.raises(OutsideRecipe, match="--trust"):  # nothing is left
        source.check(context(root))
    with pytest.raises(OutsideRecipe, match="--trust"):
        candidates(VideoFrames(videos="clips/others/private.mp4"), root)


@pytest.mark.parametrize("pattern", ["clips/**/*", "clips/*", "clips/[ad]*", "clips/?*", "clips/*.mp4"])
def test_folders_that_a_pattern_matches_are_passed_over(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "clips" / "deep.mp4").mkdir(parents=True)
    (tmp_path / "clips" / "also.mp4").symlink_to("deep.mp4")
    film(tmp_path / "clips" / "a.mp4", [0])
    assert reasons(VideoFrames(videos=pattern), tmp_path) == []


PLAN = """
import sys
from pathlib import Path
from stoker.pipelines.source import Context
from stoker.pipelines.sources.video_frames import VideoFrames
from stoker.pipelines.web.client import Web
root = Path(sys.argv[1])
plan = VideoFrames(videos="*/*.mp4").partitions(Context(root=root, web=Web(), scratch=root))
print([one.payload.get("refused") for one in plan])
"""


def test_a_file_in_a_folder_that_may_not_be_entered_is_rejected(tmp_path: Path) -> None:
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        film(tmp_path / name / "a.mp4", [0])
    (tmp_path / "closed").chmod(0o444)
    # The superuser enters every folder, unless it gives that right up.
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    try:
        told = subprocess.run(
            [*powerless, sys.executable, "-c", PLAN, tmp_path], check=True, capture_output=True, text=True
        )
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert told.stdout == "[['unreadable', 'its folder may not be entered'], None]\n"


def test_a_changed_file_is_another_partition_of_the_same_key(tmp_path: Path) -> None:
    def only() -> Partition:
        return next(iter(VideoFrames(videos="a.mp4").partitions(context(tmp_path))))

    film(tmp_path / "a.mp4", [0])
    before = only()
    film(tmp_path / "a.mp4", [0, 100])
    assert before.name == only().name
    assert before.fingerprint != only().fingerprint


# What is no video, or not a whole one, among the real files. Every other file is read without a fault.
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
    found = candidates(VideoFrames(videos=tuple(map(str, films)), short_side=64), tmp_path, trusted=True)
    of: dict[str, list[Candidate]] = {}
    for candidate in found:
        of.setdefault(candidate.sample.record["url"].removeprefix("file:"), []).append(candidate)
    assert set(of) == {path.name for path in films}
    faults = {
        name: candidate.rejected.reason
        for name, all_ in of.items()
        for candidate in all_
        if candidate.rejected is not None and "-" not in candidate.sample.key
    }
    assert faults == BROKEN
    assert sum(candidate.rejected is None for candidate in of["bad_corrupt_packets.mp4"]) == 13
    assert len(of["decord_corrupted.mp4"]) == 6
    assert all(of[name][0].rejected is None for name in of if name not in BROKEN)


@pytest.mark.parametrize(("label", "expected"), [("", None), ("folder", "cats"), ("video", "tom")])
def test_frames_can_be_labelled_by_folder_or_video(tmp_path: Path, label: Any, expected: str | None) -> None:
    (tmp_path / "cats").mkdir()
    film(tmp_path / "cats" / "tom.mp4", [0, 500])
    source = VideoFrames(videos="cats/*.mp4", label=label)
    (partition,) = source.partitions(context(tmp_path))
    found = list(source.read(partition, context(tmp_path)))
    assert found
    assert all(candidate.sample.record.get("label") == expected for candidate in found)


def test_files_outside_of_the_recipes_folder_are_labelled_by_their_own(tmp_path: Path) -> None:
    inside, outside = tmp_path / "recipes", tmp_path / "ucf" / "Juggling 50%25"
    inside.mkdir()
    outside.mkdir(parents=True)
    film(outside / "v_1.avi", [0, 500], codec="mpeg4")
    (inside / "films.csv").write_text(f"url\n{outside}/v_1.avi\n", encoding="utf-8")
    for source in (
        VideoFrames(videos="../ucf/*/*.avi", label="folder"),
        VideoFrames(videos=f"{outside}/v_1.avi", label="folder"),
        VideoFrames(lists="films.csv", label="folder"),
    ):
        found = candidates(source, inside, trusted=True)
        assert found
        assert {candidate.sample.record.get("label") for candidate in found} == {"Juggling 50%25"}


def test_frames_beyond_the_limit_are_one_reject(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", list(range(0, 5000, 100)))
    found = candidates(VideoFrames(videos="a.mp4", max_frames=3), tmp_path)
    assert [candidate.rejected for candidate in found[:3]] == [None] * 3
    assert found[3].rejected is not None
    assert found[3].rejected.reason == "too_long"
    assert found[3].rejected.detail == "stopped at 3.0 s of 4.9: max_frames is reached; 3 frames were taken"
    assert len(found) == 4
    (early,) = candidates(VideoFrames(videos="a.mp4", start_s=60), tmp_path)
    assert early.rejected is not None
    assert early.rejected.detail == "it ends at 4.900 s, before start_s = 60"


def test_frames_of_joined_recordings_say_so(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", list(range(0, 3000, 100)))
    path.write_bytes(path.read_bytes() * 2)
    found = candidates(VideoFrames(videos="a.ts"), tmp_path)
    assert [candidate.sample.record["time_s"] for candidate in found] == [0, 1, 2, 3, 4, 5]
    notes = [candidate.sample.record.get("time_note") for candidate in found]
    assert notes[:3] == [None] * 3
    assert notes[3] == notes[5] == "time stamps step back by 2.900 s at 3.000 s"


@pytest.mark.parametrize(("name", "rate"), [("a.mp4", 1.0), ("a.mp4", 25.0), ("a.mp4", 0.1)])
def test_every_frame_that_is_read_is_taken_or_counted(name: str, rate: float, tmp_path: Path) -> None:
    film(tmp_path / name, list(range(0, 8_000, 40)), size=(64, 48), g="25")
    found = candidates(VideoFrames(videos=name, frames_per_second=rate), tmp_path)
    assert all(candidate.omitted == {} for candidate in found[:-1])
    assert sum(found[-1].omitted.values()) == 200 - len(found)
    assert ("video frame not decoded, at no wanted time" in found[-1].omitted) == (rate < 25)


def test_frames_of_a_video_without_a_wanted_one_are_counted(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", list(range(0, 2_000, 40)), size=(64, 48), g="25")
    (only,) = candidates(VideoFrames(videos="a.mp4", start_s=5), tmp_path)
    assert only.rejected is not None
    assert only.rejected.reason == "too_short"
    assert sum(only.omitted.values()) == 50
