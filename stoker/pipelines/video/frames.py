"""Frames of a video file at chosen times, exact at any frame rate, and no more decoded than they need.

PyAV is imported when a file is opened, so that recipes can be read without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
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
_RESUMES = 64  # times that reading goes on behind a fault of the container
# Codecs whose key frames forget all that was before; in others (GIF) the container may call every frame a key.
_CUTTABLE = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "theora")
Frame = Any  # av.VideoFrame


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """The times wanted: ``start`` and every ``1 / per_second`` from there to before ``end`` (None: the video's)."""

    per_second: Fraction
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    limit: int = 1_000_000

    def at(self, number: int) -> Fraction:
        """The time of one of them, in seconds."""
        return self.start + number / self.per_second

    def first_from(self, time: Fraction) -> int:
        """The number of the first that is not before a time."""
        return max(0, -int((self.start - time) * self.per_second // 1))


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A frame, upright, with square pixels, as a picture in RGB; or why there is none.

    ``time`` in seconds from the video's first frame, ``pts`` as the file numbers it.
    """

    time: Fraction
    pts: int
    picture: Image.Image | Rejected


@dataclass
class VideoReader:
    """A file being read. What ``faults`` and the counters say is known when ``frames`` is through."""

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    packets: int = 0
    decoded: int = 0  # frames
    damaged: int = 0  # packets that do not decode
    length: Fraction = Fraction(0)  # seconds up to the last frame seen
    fault: Rejected | None = None  # what is wrong with the file as a whole

    def frames(self, times: FrameTimes, *, skip: bool = True) -> Iterator[VideoFrame]:
        """The frame being shown at each of the times, each frame once.

        With ``skip``, groups of pictures that hold none of them are read and not decoded; the frames are the same.
        Raises StokerError when PyAV is not installed. Anything wrong with the file is in ``fault``.
        """
        av = _av()
        demuxer = demuxer_of(self.path)
        if isinstance(demuxer, Rejected):
            self.fault = demuxer
            return
        try:
            yield from self._frames(av, demuxer, times, skip)
        except (av.FFmpegError, ValueError, OSError, ArithmeticError) as error:
            self.fault = self._fault(error, demuxer)
            return
        if self.fault is None:
            self.fault = self._verdict(demuxer)

    def _frames(
        self, av: Any, demuxer: str, times: FrameTimes, skip: bool
    ) -> Iterator[VideoFrame]:  # Any: PyAV is untyped
        options = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
        name = f"file:{self.path.resolve()}"
        with av.open(name, format=demuxer, options=options, metadata_errors="replace") as container:
            self.metadata = {str(key).lower(): str(value) for key, value in container.metadata.items()}
            stream = _best(container)
            if isinstance(stream, Rejected):
                self.fault = stream
                return
            codec = stream.codec_context
            codec.options = {"max_pixels": str(MAX_PIXELS)}
            codec.thread_count = 1  # with more, what is made up for damaged data depends on who comes first
            runs = packet_runs(self._packets(av, container, stream), cuttable=skip and codec.name in _CUTTABLE)
            yield from self._picked(av, stream, runs, times)

    def _packets(self, av: Any, container: Any, stream: Any) -> Iterator[Packet]:  # Any: as above
        for _ in range(_RESUMES):
            before = self.packets
            try:
                for packet in container.demux(stream):
                    if packet.size == 0 and packet.dts is not None:
                        continue  # Theora repeats a frame so; PyAV would take it for the end
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

    def _picked(
        self, av: Any, stream: Any, runs: Iterator[tuple[list[Packet], int | None]], times: FrameTimes
    ) -> Iterator[VideoFrame]:  # Any: as above
        base, rate = stream.time_base, stream.average_rate
        first: int | None = None
        held: tuple[Fraction, int, Frame] | None = None
        number = found = 0
        flushed = False
        for packets, cut in runs:
            for packet in packets:
                # Behind the cut everything can be decoded afresh: what is left before it, and not wanted, is not.
                if first is not None and cut is not None and times.at(number) >= (cut - first) * base:
                    held, flushed = None, True
                    break
                if flushed:
                    stream.codec_context.flush_buffers()
                    flushed = False
                for frame in self._decoded(av, stream, packet):
                    pts = _pts(frame, held, base, rate)
                    first = pts if first is None else first
                    time = (pts - first) * base
                    if held is not None and time <= held[0]:
                        continue  # its time has gone by
                    self.length = time
                    if held is not None and times.at(number) < time:
                        yield _shown(*held, stream.sample_aspect_ratio)
                        found += 1
                        number = times.first_from(time)
                    if found >= times.limit or (times.end is not None and times.at(number) >= times.end):
                        return
                    held = (time, pts, frame)
        if held is not None and times.at(number) < held[0] + _lasts(held[2], stream, first or 0):
            yield _shown(*held, stream.sample_aspect_ratio)

    def _decoded(self, av: Any, stream: Any, packet: Packet) -> Iterator[Frame]:  # Any: as above
        try:
            frames = stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return
        self.decoded += len(frames)
        yield from frames

    def _fault(self, error: Exception, demuxer: str) -> Rejected:
        said = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        early = describe_truncation(self.path, demuxer)
        if early or isinstance(error, EOFError):
            return Rejected("truncated", early or said)
        return Rejected("corrupt", said)

    def _verdict(self, demuxer: str) -> Rejected | None:
        """What to say of a file that was read to where it was wanted."""
        early = describe_truncation(self.path, demuxer)
        if early:
            return Rejected("truncated", f"{early}; {self.decoded} frames were decoded")
        if self.damaged:
            return Rejected("corrupt", f"{self.damaged} of {self.packets} packets do not decode")
        if not self.packets:
            return Rejected("not_a_video", "its video stream holds no frame")
        return None if self.decoded else Rejected("corrupt", "no frame decodes")


def _av() -> Any:  # Any: PyAV is untyped to us
    try:
        import av
    except ImportError:
        raise StokerError('videos need PyAV, which is not installed: pip install "stoker[video]"') from None
    return av


def _best(container: Any) -> Any | Rejected:  # Any: as above
    """The video stream to read: FFmpeg's choice, but never a cover picture."""
    videos = [one for one in container.streams.video if not int(one.disposition) & 0x400]
    if not videos:
        kinds = ", ".join(sorted({one.type for one in container.streams})) or "none"
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


def _pts(frame: Frame, held: tuple[Fraction, int, Frame] | None, base: Fraction, rate: Fraction | None) -> int:
    """The frame's time stamp; where the file has none, one frame after the last."""
    if frame.pts is not None:
        return int(frame.pts)
    if frame.dts is not None:
        return int(frame.dts)
    return 0 if held is None else held[1] + max(1, int(1 / (rate or 25) / base))


def _lasts(frame: Frame, stream: Any, first: int) -> Fraction:  # Any: PyAV is untyped to us
    """Seconds that the last frame is shown, by itself and by the stream's length: either may be too long."""
    base, rate = stream.time_base, stream.average_rate
    own = frame.duration * base if frame.duration else (1 / rate if rate else Fraction(0))
    left = (first + stream.duration - frame.pts) * base if stream.duration and frame.pts is not None else own
    return max(min(own, left), Fraction(1, 1000))


def _shown(time: Fraction, pts: int, frame: Frame, aspect: Fraction | None) -> VideoFrame:
    if frame.is_corrupt:
        return VideoFrame(time, pts, Rejected("corrupt", "the decoder found this frame damaged"))
    if frame.width * frame.height > MAX_PIXELS:
        return VideoFrame(time, pts, Rejected("too_many_pixels", f"{frame.width}x{frame.height}"))
    return VideoFrame(time, pts, frame_to_image(frame, aspect))
