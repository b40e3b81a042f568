"""Frames of a video file at chosen times, exact at any frame rate.

The file is read once from its beginning; groups of pictures that hold no wanted frame are not decoded. PyAV is
imported when a file is opened, so that recipes can be parsed without it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.containers import demuxer_of, describe_truncation
from stoker.pipelines.video.packet_runs import Packet, Run, packet_runs
from stoker.pipelines.video.picture import PictureOptions, describe_frame, frame_to_image
from stoker.pipelines.video.selection import FrameTimes, Selection, TimedFrame
from stoker.pipelines.video.timeline import MAX_REORDERED, TimeLine, dts_is_right, seems_in_decoding_order
from stoker.storage.errors import StokerError

MAX_PIXELS = 1 << 25  # of a frame: 8K fits
_MAX_PACKETS = 20_000_000  # days of video; bounds a file that would never end
_ATTACHED_PICTURE = 0x400  # FFmpeg's flag of a stream that is a cover picture
_MAX_AHEAD_PIXELS = 1 << 26  # of frames that are held to look at the order of their time stamps
_MAX_RESUMES = 64  # how often reading goes on after a fault of the container
# Codecs whose decoders can begin at any key frame. With others (GIF) the container may flag every frame as a key.
_SEEKABLE_CODECS = (
    "h264",
    "hevc",
    "vp8",
    "vp9",
    "av1",
    "libdav1d",
    "mpeg4",
    "mpeg2video",
    "mpeg1video",
    "mjpeg",
    "theora",
)
Frame = Any  # av.VideoFrame


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A frame as an upright RGB image with square pixels, or why it cannot be shown."""

    time: Fraction  # seconds from the container's start
    pts: int  # the file's own time stamp
    picture: Image.Image | Rejected
    facts: dict[str, Any] = field(default_factory=dict)  # columns of the record, Any: JSON


@dataclass
class VideoReader:
    """Reads the frames of one video file. ``fault`` and the counters are complete when ``frames`` has ended."""

    path: Path
    pictures: PictureOptions = field(default_factory=PictureOptions)
    metadata: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # columns of all frames' records, Any: JSON
    packets: int = 0
    decoded: int = 0  # frames
    damaged: int = 0  # packets that do not decode
    length: Fraction = Fraction(0)  # seconds from the container's start to the last frame that was decoded
    fault: Rejected | None = None  # what is wrong with the file as a whole
    _cut_at: Fraction | None = None  # seconds at which the limit of frames ended the reading
    _finished: bool = False  # the stream was read to its end

    def frames(self, times: FrameTimes, *, skip: bool = True) -> Iterator[VideoFrame]:
        """The frame that is on screen at each of the times, each frame once. Before the first frame, that one is.

        With ``skip``, groups of pictures that hold no wanted frame are read and not decoded; the result is the same.
        Raises StokerError when PyAV is not installed. A fault of the file does not raise: it is in ``fault``.
        """
        av = _import_av()
        demuxer = demuxer_of(self.path)
        if isinstance(demuxer, Rejected):
            self.fault = demuxer
            return
        try:
            yield from self._frames(av, demuxer, times, skip)
        except (av.FFmpegError, ValueError, OSError, ArithmeticError) as error:
            self.fault = self._rejection_for(error, demuxer)
            return
        if self.fault is None:
            self.fault = self._check_end(demuxer)

    def _frames(
        self, av: Any, demuxer: str, times: FrameTimes, skip: bool
    ) -> Iterator[VideoFrame]:  # Any: PyAV is untyped
        options = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
        name = f"file:{self.path.resolve()}"
        with av.open(name, format=demuxer, options=options, metadata_errors="replace") as container:
            self.metadata = {str(key).lower(): str(value) for key, value in container.metadata.items()}
            stream = _select_stream(container)
            if isinstance(stream, Rejected):
                self.fault = stream
                return
            codec = stream.codec_context
            codec.options = {"max_pixels": str(MAX_PIXELS)}
            codec.thread_count = 1  # with more, the frames decoded from damaged data depend on thread timing
            line = _time_line(container, stream, demuxer)
            packets = line.forward(self._packets(av, container, stream))
            runs = packet_runs(packets, seekable=skip and codec.name in _SEEKABLE_CODECS)
            aspect = stream.sample_aspect_ratio
            for shown in self._select(av, stream, runs, line, Selection(times)):
                yield _to_video_frame(shown, aspect, self.pictures, line.note(shown.time))
            if self._cut_at is not None:
                end = _announced_end(container, stream)
                of = f" of {float(end):.1f}" if end is not None and end > self._cut_at else ""
                self.fault = Rejected("too_long", f"stopped at {float(self._cut_at):.1f} s{of}: max_frames is reached")

    def _packets(self, av: Any, container: Any, stream: Any) -> Iterator[Packet]:  # Any: as above
        for _ in range(_MAX_RESUMES):
            before = self.packets
            try:
                for packet in container.demux(stream):
                    if packet.size == 0 and packet.dts is not None:
                        continue  # Theora repeats a frame in this way; PyAV would take it for the end
                    if packet.size:
                        self.packets += 1
                        if self.packets > _MAX_PACKETS:
                            self.fault = Rejected("too_large", f"more than {_MAX_PACKETS} packets")
                            return
                    yield packet
                return
            except (av.FFmpegError, ValueError):
                self.damaged += 1
                if self.packets == before:
                    return

    def _select(
        self, av: Any, stream: Any, runs: Iterator[Run], line: TimeLine, selection: Selection[Frame]
    ) -> Iterator[TimedFrame[Frame]]:  # Any: as above
        first = next(runs, None)
        if first is None:
            return
        frames = self._decode_runs(av, stream, chain([first], runs), line, selection)
        if stream.codec_context.has_b_frames and seems_in_decoding_order(first.packets):
            early = list(islice(frames, _frames_ahead(stream)))
            line.uses_dts = dts_is_right(early)
            frames = chain(early, frames)
        frame = None
        for frame in frames:
            time, pts = line.stamp(frame)
            self.length = time
            self.facts = self.facts or _facts(stream, line)
            wanted = selection.offer(TimedFrame(time, pts, frame))
            if wanted is not None:
                yield wanted
            if selection.done:
                break
        else:
            if frame is not None and (last := selection.finish(_duration(frame, self.length, stream, line))):
                yield last
        self._cut_at, self._finished = selection.cut_at, not selection.done

    def _decode_runs(
        self, av: Any, stream: Any, runs: Iterable[Run], line: TimeLine, selection: Selection[Frame]
    ) -> Iterator[Frame]:  # Any: as above
        skipped = False
        for run in runs:
            for packet in run.packets:
                # No wanted time is left before the next run, which decodes without this one: skip the rest of this one.
                if (
                    line.first is not None
                    and not line.uses_dts
                    and run.restart_pts is not None
                    and not selection.wants_before(line.seconds(run.restart_pts))
                ):
                    selection.pass_over()
                    skipped = True
                    break
                if skipped:
                    stream.codec_context.flush_buffers()
                    skipped = False
                yield from self._decode(av, stream, packet)

    def _decode(self, av: Any, stream: Any, packet: Packet) -> Iterator[Frame]:  # Any: as above
        try:
            frames = stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return
        self.decoded += len(frames)
        yield from frames

    def _rejection_for(self, error: Exception, demuxer: str) -> Rejected:
        message = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        truncation = describe_truncation(self.path, demuxer)
        if truncation or isinstance(error, EOFError):
            return Rejected("truncated", truncation or message)
        return Rejected("corrupt", message)

    def _check_end(self, demuxer: str) -> Rejected | None:
        """The fault of a file that was read without an exception, if it has one."""
        truncation = describe_truncation(self.path, demuxer)
        if truncation:
            return Rejected("truncated", f"{truncation}; {self.decoded} frames were decoded")
        if self.damaged:
            return Rejected("corrupt", f"{self.damaged} of {self.packets} packets do not decode")
        if not self.packets:
            return Rejected("not_a_video", "its video stream holds no frame")
        return None if self.decoded else Rejected("corrupt", "no frame decodes")


def check_library() -> None:
    """Raise StokerError if PyAV is not installed. Does not import it."""
    if find_spec("av") is None:
        raise StokerError('videos need PyAV, which is not installed: pip install "stoker[video]"')


def _import_av() -> Any:  # Any: PyAV is untyped to us
    check_library()
    import av

    return av


def _select_stream(container: Any) -> Any | Rejected:  # Any: as above
    """The video stream to read: FFmpeg's choice, but never a cover picture."""
    videos = [stream for stream in container.streams.video if not int(stream.disposition) & _ATTACHED_PICTURE]
    if not videos:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        return Rejected("not_a_video", f"no video among its streams: {kinds}")
    best = container.streams.best("video")
    stream = best if best in videos else videos[0]
    codec = stream.codec_context
    if codec is None:
        return Rejected("unsupported_format", "its codec is not known here")
    if codec.codec_tag in ("encv", "drmi"):
        return Rejected("unsupported_format", "it is encrypted")
    if codec.width * codec.height > MAX_PIXELS:
        return Rejected("too_many_pixels", f"{codec.width}x{codec.height}")
    return stream


def _time_line(container: Any, stream: Any, demuxer: str) -> TimeLine:  # Any: as above
    """The stream's time line. Stamps before 0 are what codecs need to begin: the time line does not start with them."""
    start = None if container.start_time is None else max(Fraction(0), Fraction(container.start_time, 1_000_000))
    if start is not None and stream.start_time is not None:
        start = min(start, stream.start_time * stream.time_base)
    codec = stream.codec_context
    reordered = codec.reorder_depth if codec.has_b_frames else 0
    return TimeLine(stream.time_base, stream.average_rate, start=start, demuxer=demuxer, reordered=reordered)


def _facts(stream: Any, line: TimeLine) -> dict[str, Any]:  # Any: as above, and JSON
    """What a record says about all frames of the stream."""
    facts = {"time_base": f"{line.base.numerator}/{line.base.denominator}", "offset_s": _rounded(line.first)}
    return facts | ({"container_start_s": _rounded(line.start)} if line.start else {})


def _rounded(seconds: Fraction | None) -> float:
    return round(float(seconds or 0), 6)


def _frames_ahead(stream: Any) -> int:  # Any: as above
    """How many frames to look at for the order of their stamps: enough for any reordering that their size allows."""
    pixels = int(stream.codec_context.width * stream.codec_context.height)
    return max(3, min(2 * MAX_REORDERED, _MAX_AHEAD_PIXELS // max(1, pixels)))


def _announced_end(container: Any, stream: Any) -> Fraction | None:  # Any: as above
    """Seconds from the container's start at which it says that the video ends; None if it does not say."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    return Fraction(container.duration, 1_000_000) if container.duration else None


def _duration(frame: Frame, time: Fraction, stream: Any, line: TimeLine) -> Fraction:  # Any: PyAV is untyped to us
    """Seconds that the last frame, at ``time``, is shown: its own duration, or what is left of the stream's.

    Either may be too long in a file.
    """
    rate = stream.average_rate
    duration = frame.duration * line.base if frame.duration else (1 / rate if rate else Fraction(0))
    if stream.duration and line.first is not None and not line.steps:
        duration = min(duration, line.first + stream.duration * line.base - time)
    return max(duration, Fraction(1, 1000))


def _to_video_frame(
    shown: TimedFrame[Frame], aspect: Fraction | None, options: PictureOptions, note: str
) -> VideoFrame:
    frame = shown.frame
    picture: Image.Image | Rejected
    if frame.is_corrupt:
        picture = Rejected("corrupt", "the decoder found this frame damaged")
    elif frame.width * frame.height > MAX_PIXELS:
        picture = Rejected("too_many_pixels", f"{frame.width}x{frame.height}")
    else:
        picture = frame_to_image(frame, aspect, options)
    facts = describe_frame(frame, options) | ({"time_note": note} if note else {})
    return VideoFrame(shown.time, shown.pts, picture, facts)
