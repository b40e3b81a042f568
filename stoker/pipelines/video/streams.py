"""The video stream of an opened container: which one is read, its time line and what it announces."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video import transport_stream
from stoker.pipelines.video.decoding.timeline import MAX_REORDERED, TimeLine
from stoker.storage.plain_file import open_plain

MAX_PIXELS = 1 << 25  # of a frame: 8K fits
ENCRYPTED = Rejected("unsupported_format", "it is encrypted")
_ATTACHED_PICTURE = 0x400  # FFmpeg's flag of a stream that is a cover picture
_DEFAULT = 1  # and of one that players choose
_MAX_AHEAD_PIXELS = 1 << 26  # of frames that are held to look at the order of their time stamps
_LEAST_SHORTFALL_S = Fraction(1, 2)  # and 2 %: durations are often rounded, or those of the sound
_SCRAMBLED_HEAD = 1 << 20  # bytes that are looked at
_ASF_ENCRYPTION = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"), bytes.fromhex("14e68a292226174cb935dae07ee9289c")

Packet = Any  # av.Packet: PyAV is untyped to us


def select_stream(container: Any) -> Any | Rejected:  # Any: as above
    """The video stream to read, never a cover picture."""
    streams = container.streams.video
    videos = [stream for stream in streams if not int(stream.disposition) & _ATTACHED_PICTURE]
    if not videos:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        return Rejected("not_a_video", "only a cover picture" if streams else f"no video among its streams: {kinds}")
    best = container.streams.best("video")
    # The larger one of two that are equally the default, and of two that are equally large FFmpeg's choice.
    stream = max(videos, key=lambda one: (int(one.disposition) & _DEFAULT, _pixels(one), one is best))
    codec = stream.codec_context
    if codec is None:
        return Rejected("unsupported_format", "its codec is not known here")
    if codec.codec_tag in ("encv", "drmi") or "enc_key_id" in stream.metadata:
        return ENCRYPTED
    if codec.width * codec.height > MAX_PIXELS:
        return Rejected("too_many_pixels", f"{codec.width}x{codec.height}")
    return stream


def time_line(container: Any, stream: Any, demuxer: str) -> TimeLine:  # Any: as above
    """The stream's time line. Stamps before 0 are what codecs need to begin: the time line does not start with them."""
    start = None if container.start_time is None else max(Fraction(0), Fraction(container.start_time, 1_000_000))
    if start is not None and stream.start_time is not None:
        start = min(start, stream.start_time * stream.time_base)
    codec = stream.codec_context
    reordered = codec.reorder_depth if codec.has_b_frames else 0
    return TimeLine(stream.time_base, stream.average_rate, start=start, demuxer=demuxer, reordered=reordered)


def describe_stream(line: TimeLine) -> dict[str, Any]:  # Any: JSON
    """What a record says about all frames of the stream."""
    facts = {"time_base": f"{line.base.numerator}/{line.base.denominator}", "offset_s": _rounded(line.first)}
    return facts | ({"container_start_s": _rounded(line.start)} if line.start else {})


def _rounded(seconds: Fraction | None) -> float:
    return round(float(seconds or 0), 6)


def frames_ahead(stream: Any) -> int:  # Any: as above
    """How many frames to look at for the order of their stamps: enough for any reordering that their size allows."""
    pixels = int(stream.codec_context.width * stream.codec_context.height)
    return max(3, min(2 * MAX_REORDERED, _MAX_AHEAD_PIXELS // max(1, pixels)))


def announced_end(container: Any, stream: Any, line: TimeLine) -> Fraction | None:  # Any: as above
    """Seconds from the container's start at which it says that the video ends; None if it does not say."""
    if stream.duration:
        begin = stream.start_time * line.base - (line.start or 0) if stream.start_time is not None else Fraction(0)
        return Fraction(begin + stream.duration * line.base)
    if tagged := _tagged_duration(stream.metadata.get("DURATION", "")):
        return tagged
    only = len(container.streams) == 1  # or it may be the duration of the sound
    return Fraction(container.duration, 1_000_000) if container.duration and only else None


def _tagged_duration(text: str) -> Fraction | None:
    """Matroska's tag, as in "00:00:20.040000000"."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def describe_shortfall(end: Fraction | None, announced: Fraction | None) -> str:
    """How far a video came whose container announced more, such as "6.0 s of 12.0"; "" if that is about right."""
    if announced is None or (end or 0) + max(_LEAST_SHORTFALL_S, announced / 50) >= announced:
        return ""
    return f"{float(end or 0):.1f} s of {float(announced):.1f}"


def is_encrypted(packet: Packet) -> bool:
    """Whether the container says that the packet is encrypted."""
    return any(data.data_type == "encryption_info" for data in packet.iter_sidedata())


def is_scrambled(path: Path, demuxer: str) -> bool:
    """Whether a file says so at its head whose demuxer passes encrypted data on as if they were not."""
    with open_plain(path) as file:
        head = file.read(_SCRAMBLED_HEAD)
    if demuxer == "asf":
        return any(guid in head for guid in _ASF_ENCRYPTION)
    return demuxer == "mpegts" and transport_stream.is_scrambled(head)


def _pixels(stream: Any) -> int:  # Any: as above
    codec = stream.codec_context
    return 0 if codec is None else int(codec.width * codec.height)
