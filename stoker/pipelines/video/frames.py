"""Frames of a video file at chosen times, exact at any frame rate.

The file is read once from its beginning; groups of pictures that hold no wanted frame are not decoded. PyAV is
imported when a file is opened, so that recipes can be parsed without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.containers import demuxer_of, describe_truncation
from stoker.pipelines.video.packet_runs import Packet, packet_runs
from stoker.pipelines.video.picture import frame_to_image
from stoker.storage.errors import StokerError

MAX_PIXELS = 1 << 25  # of a frame: 8K fits
_MAX_PACKETS = 20_000_000  # days of video; bounds a file that would never end
_ATTACHED_PICTURE = 0x400  # FFmpeg's flag of a stream that is a cover picture
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
class FrameTimes:
    """Wanted times: ``start`` and every ``1 / per_second`` seconds from there, before ``end``."""

    per_second: Fraction
    start: Fraction = Fraction(0)  # seconds
    end: Fraction | None = None  # seconds; None: the video's end
    limit: int = 1_000_000  # frames

    def at(self, number: int) -> Fraction:
        """Time ``number``, counted from 0, in seconds.

        >>> FrameTimes(Fraction(2), start=Fraction(1)).at(3)
        Fraction(5, 2)
        """
        return self.start + number / self.per_second

    def first_from(self, time: Fraction) -> int:
        """The number of the first time that is not before ``time`` (seconds)."""
        return max(0, -int((self.start - time) * self.per_second // 1))


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A frame as an upright RGB image with square pixels, or why it cannot be shown."""

    time: Fraction  # seconds from the video's first frame
    pts: int  # the file's own time stamp
    picture: Image.Image | Rejected


@dataclass
class VideoReader:
    """Reads the frames of one video file. ``fault`` and the counters are complete when ``frames`` has ended."""

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    packets: int = 0
    decoded: int = 0  # frames
    damaged: int = 0  # packets that do not decode
    length: Fraction = Fraction(0)  # seconds from the first to the last frame that was decoded
    fault: Rejected | None = None  # what is wrong with the file as a whole

    def frames(self, times: FrameTimes, *, skip: bool = True) -> Iterator[VideoFrame]:
        """The frame that is on screen at each of the times, each frame once.

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
            runs = packet_runs(self._packets(av, container, stream), seekable=skip and codec.name in _SEEKABLE_CODECS)
            yield from self._select(av, stream, runs, times)

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
        self, av: Any, stream: Any, runs: Iterator[tuple[list[Packet], int | None]], times: FrameTimes
    ) -> Iterator[VideoFrame]:  # Any: as above
        base, rate = stream.time_base, stream.average_rate
        first_pts: int | None = None
        previous: tuple[Fraction, int, Frame] | None = None  # on screen until the next frame's time is known
        number = 0  # of the next wanted time
        yielded = 0  # frames
        skipped = False
        for packets, restart_pts in runs:
            for packet in packets:
                # No wanted time is left before the next run, which decodes without this one: skip the rest of this one.
                if (
                    first_pts is not None
                    and restart_pts is not None
                    and times.at(number) >= (restart_pts - first_pts) * base
                ):
                    previous, skipped = None, True
                    break
                if skipped:
                    stream.codec_context.flush_buffers()
                    skipped = False
                for frame in self._decode(av, stream, packet):
                    pts = _pts(frame, previous, base, rate)
                    first_pts = pts if first_pts is None else first_pts
                    time = (pts - first_pts) * base
                    if previous is not None and time <= previous[0]:
                        continue  # a later frame has been decoded already
                    self.length = time
                    if previous is not None and times.at(number) < time:
                        yield _to_video_frame(*previous, stream.sample_aspect_ratio)
                        yielded += 1
                        number = times.first_from(time)
                    if yielded >= times.limit or (times.end is not None and times.at(number) >= times.end):
                        return
                    previous = (time, pts, frame)
        if previous is not None and times.at(number) < previous[0] + _duration(previous[2], stream, first_pts or 0):
            yield _to_video_frame(*previous, stream.sample_aspect_ratio)

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


def _pts(frame: Frame, previous: tuple[Fraction, int, Frame] | None, base: Fraction, rate: Fraction | None) -> int:
    """The frame's time stamp; where the file has none, one frame after the previous frame."""
    if frame.pts is not None:
        return int(frame.pts)
    if frame.dts is not None:
        return int(frame.dts)
    return 0 if previous is None else previous[1] + max(1, int(1 / (rate or 25) / base))


def _duration(frame: Frame, stream: Any, first_pts: int) -> Fraction:  # Any: PyAV is untyped to us
    """Seconds that the last frame is shown: the lesser of its own duration and what is left of the stream's.

    Either may be too long in a file.
    """
    base, rate = stream.time_base, stream.average_rate
    duration = frame.duration * base if frame.duration else (1 / rate if rate else Fraction(0))
    if stream.duration and frame.pts is not None:
        duration = min(duration, (first_pts + stream.duration - frame.pts) * base)
    return max(duration, Fraction(1, 1000))


def _to_video_frame(time: Fraction, pts: int, frame: Frame, aspect: Fraction | None) -> VideoFrame:
    if frame.is_corrupt:
        return VideoFrame(time, pts, Rejected("corrupt", "the decoder found this frame damaged"))
    if frame.width * frame.height > MAX_PIXELS:
        return VideoFrame(time, pts, Rejected("too_many_pixels", f"{frame.width}x{frame.height}"))
    return VideoFrame(time, pts, frame_to_image(frame, aspect))
