"""Headers of packets: where decoding can begin, and which pictures no other one references."""

from pathlib import Path
from typing import Any

import av
import pytest

from stoker.pipelines.video.decoding.bitstream import Coding, coding_reader
from tests.pipelines.video.decoding.test_run_decoder import CLOSED, OPEN, REFRESHED, moving


def codings(path: Path) -> list[Coding]:
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]  # Any: PyAV is untyped to us
        read = coding_reader(stream.codec_context.name, stream.codec_context.extradata or b"")
        assert read is not None
        return [read(packet) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize(("name", "films"), [("a.mp4", OPEN), ("b.ts", OPEN), ("c.mkv", OPEN), ("a.mp4", CLOSED)])
def test_each_group_restarts_and_half_of_its_pictures_are_not_referenced(
    name: str, films: dict[str, Any], tmp_path: Path
) -> None:
    found = codings(moving(tmp_path / name, films[name][0], films[name][1], frames=125))
    assert sum(coding.restarts for coding in found) in (4, 5, 6)
    assert 40 < sum(coding.disposable for coding in found) < 90
    assert all(coding.sound for coding in found)
    assert found[0].parameters or name.endswith(("mp4", "mkv"))


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_a_recovery_point_from_which_pictures_are_whole_later_is_no_restart(name: str, tmp_path: Path) -> None:
    found = codings(moving(tmp_path / name, *REFRESHED, frames=125))
    assert [place for place, coding in enumerate(found) if coding.restarts] == [0]


@pytest.mark.parametrize(
    ("codec", "extradata"), [("h264", b"\1" + bytes(6)), ("h264", b""), ("hevc", b""), ("mpeg4", b"")]
)
def test_packets_without_a_picture_or_with_a_hole_are_not_sound(codec: str, extradata: bytes) -> None:
    read = coding_reader(codec, extradata)
    assert read is not None
    for payload in (bytes(40), b"\0\0\0\1\x09\x10" + bytes(20), b"\x7f" * 40, b"\0\0\1"):
        coding = read(av.Packet(payload))
        assert not coding.sound
        assert not coding.restarts


def test_codecs_without_headers_that_are_read_go_by_the_container() -> None:
    assert coding_reader("vp9", b"") is None
