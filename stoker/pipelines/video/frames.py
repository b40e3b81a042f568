"""Frames of a video file at chosen times, exact at any frame rate.

The file, or a stretch of it, is read once from its beginning; what no wanted frame needs is not decoded.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.animation import animated_frames
from stoker.pipelines.video.containers import SAFE_OPTIONS, WEBP, demuxer_of, describe_head, import_av, is_probed
from stoker.pipelines.video.decoding.bitstream import SEEKABLE_CODECS, coding_reader
from stoker.pipelines.video.decoding.packet_runs import Packet, PacketRuns
from stoker.pipelines.video.decoding.run_decoder import RunDecoder
from stoker.pipelines.video.decoding.selection import FrameTimes, Selection, TimedFrame
from stoker.pipelines.video.decoding.timeline import TimeLine, dts_is_right, seems_in_decoding_order
from stoker.pipelines.video.picture import PictureOptions, describe_frame, frame_to_image
from stoker.pipelines.video.streams import (
    ENCRYPTED,
    MAX_PIXELS,
    announced_end,
    describe_shortfall,
    describe_stream,
    frames_ahead,
    is_encrypted,
    is_scrambled,
    select_stream,
    time_line,
)
from stoker.pipelines.video.stretches import Stretch
from stoker.pipelines.video.truncation.detect import describe_truncation

_MAX_PACKETS = 20_000_000  # days of video; bounds a file that would never end
# Containers whose duration is announced, and whose end may be missing without another sign of it.
_ANNOUNCING = ("mov", "avi", "asf", "flv", "mxf", "gxf", "ivf")
_MAX_RESUMES = 64  # how often reading goes on after a fault of the container
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
    stretch: Stretch | None = None  # None: the whole film
    metadata: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # columns of all frames' records, Any: JSON
    packets: int = 0
    decoded: int = 0  # frames
    damaged: int = 0  # packets that do not decode
    left_out: int = 0  # packets that no wanted frame needs: read, not decoded
    moved: int = 0  # frames that the file puts at or before the time of the one before, shown just behind it
    length: Fraction = Fraction(0)  # seconds from the container's start to the last frame that was decoded
    fault: Rejected | None = None  # what is wrong with the file as a whole
    _cut_at: Fraction | None = None  # seconds at which the limit of frames ended the reading
    _finished: bool = False  # the stream was read to its end
    _ends_cut: bool = False  # the last packet is not whole
    _shortfall: str = ""  # how far the video came of what was announced

    def frames(self, times: FrameTimes, *, skip: bool = True) -> Iterator[VideoFrame]:
        """The frame that is on screen at each of the times, each frame once. Before the first frame, that one is.

        With ``skip``, what no wanted frame needs is read and not decoded; the result is the same.
        Raises StokerError when PyAV is not installed, and NotAlone when the frames of a stretch may be others than
        those of the whole film. A fault of the file does not raise: it is in ``fault``.
        """
        av = import_av()
        demuxer = demuxer_of(self.path, av)
        if isinstance(demuxer, Rejected):
            self.fault = demuxer
            return
        try:
            yield from self._animation(times) if demuxer == WEBP else self._frames(av, demuxer, times, skip)
        except (av.FFmpegError, ValueError, OSError, ArithmeticError, SyntaxError) as error:
            self.fault = self._rejection_for(error, demuxer)
            return
        if self.fault is None and (self.stretch is None or self.stretch.end is None):
            self.fault = self._check_end(demuxer)

    def _frames(
        self, av: Any, demuxer: str, times: FrameTimes, skip: bool
    ) -> Iterator[VideoFrame]:  # Any: PyAV is untyped
        options = SAFE_OPTIONS | {"max_pixels": str(MAX_PIXELS)}
        name = f"file:{self.path.resolve()}"
        with ExitStack() as opened:
            container = opened.enter_context(av.open(name, format=demuxer, options=options, metadata_errors="replace"))
            self.metadata = {str(key).lower(): str(value) for key, value in container.metadata.items()}
            stream = select_stream(container)
            if isinstance(stream, Rejected):
                truncation = describe_truncation(self.path, demuxer) if stream.reason == "not_a_video" else ""
                self.fault = Rejected("truncated", truncation) if truncation else stream
                return
            codec = stream.codec_context
            seekable = skip and codec.name in SEEKABLE_CODECS
            _set_options(codec, {"err_detect": "explode"} if seekable else {})

            def concealing() -> Any:  # Any: as above
                again = opened.enter_context(av.open(name, format=demuxer, options=options, metadata_errors="replace"))
                context = again.streams[stream.index].codec_context
                _set_options(context, {})
                return context

            line = time_line(container, stream, demuxer)
            begin_s = None if self.stretch is None else self.stretch.seek(container, stream, line)
            packets = line.forward(self._packets(av, container, stream))
            runs = PacketRuns(
                packets,
                seekable=seekable,
                read_coding=coding_reader(codec.name, codec.extradata or b""),
                knows_first=begin_s is not None,
            )
            end = None if self.stretch is None or self.stretch.end is None else self.stretch.end.pts
            decoder = RunDecoder(
                codec, (av.FFmpegError, ValueError), runs, line, times, concealing if seekable else None, end
            )
            aspect = stream.sample_aspect_ratio
            for shown in self._select(stream, decoder, Selection(times, begin=begin_s)):
                yield _to_video_frame(shown, aspect, self.pictures, line.note(shown.time))
            self.decoded, self.damaged = decoder.decoded, self.damaged + decoder.damaged
            if self.stretch is not None:
                self.stretch.check(decoder, line, times, damaged=self.damaged)
                self.packets = decoder.packets
            self.left_out, self.moved = self.packets - decoder.sent, line.moved
            announced = announced_end(container, stream, line)
            if self._cut_at is not None:
                of = f" of {float(announced):.1f}" if announced is not None and announced > self._cut_at else ""
                self.fault = Rejected("too_long", f"stopped at {float(self._cut_at):.1f} s{of}: max_frames is reached")
            elif self._finished and not line.steps and demuxer in _ANNOUNCING:
                self._shortfall = describe_shortfall(line.end, announced)
                if not self.packets and stream.frames:
                    self._shortfall = f"0 of {stream.frames} frames"

    def _animation(self, times: FrameTimes) -> Iterator[VideoFrame]:
        self.facts = {"time_base": "1/1000", "offset_s": 0.0}
        selection: Selection[Image.Image | Rejected] = Selection(times)
        for frame in animated_frames(self.path):
            self.packets, self.decoded, self.length = self.packets + 1, self.decoded + 1, frame.time
            if (wanted := selection.offer(frame)) is not None:
                yield VideoFrame(wanted.time, wanted.pts, wanted.frame)
            if selection.done:
                break
        else:
            if (last := selection.finish(Fraction(1, 1000))) is not None:
                yield VideoFrame(last.time, last.pts, last.frame)
        if selection.cut_at is not None:
            self.fault = Rejected("too_long", f"stopped at {float(selection.cut_at):.1f} s: max_frames is reached")

    def _packets(self, av: Any, container: Any, stream: Any) -> Iterator[Packet]:  # Any: as above
        for _ in range(_MAX_RESUMES):
            before = self.packets
            try:
                for packet in container.demux(stream):
                    if packet.size == 0 and packet.dts is not None:
                        continue  # Theora repeats a frame in this way; PyAV would take it for the end
                    if packet.size:
                        self.packets += 1
                        self._ends_cut = packet.is_corrupt
                        if packet.is_keyframe and is_encrypted(packet):
                            self.fault = ENCRYPTED
                            return
                        if self.packets > _MAX_PACKETS:
                            self.fault = Rejected("too_large", f"more than {_MAX_PACKETS} packets")
                            return
                    yield packet
                return
            except (av.FFmpegError, ValueError):
                self.damaged += 1
                if self.packets == before:
                    return
            except IndexError:  # PyAV at the end of a file in which a stream appeared late: it may take that for wanted
                return  # ours had its end before

    def _select(
        self, stream: Any, decoder: RunDecoder, selection: Selection[Frame]
    ) -> Iterator[TimedFrame[Frame]]:  # Any: as above
        name, line = stream.codec_context.name, decoder.line
        runs = iter(decoder.runs) if self.stretch is None else self.stretch.runs(decoder.runs, name)
        first = next(runs, None)
        if first is None:
            return
        frames = decoder.frames(chain([first], runs))
        if stream.codec_context.has_b_frames and seems_in_decoding_order(first.packets):
            early = list(islice(frames, frames_ahead(stream)))
            line.uses_dts = dts_is_right(early)
            frames = chain(early, frames)
        frame = None
        for frame in frames:
            time, pts = line.stamp(frame)
            self.length = time
            self.facts = self.facts or describe_stream(line)
            wanted = selection.offer(TimedFrame(time, pts, frame))
            if wanted is not None:
                yield wanted
            if selection.done:
                break
        else:
            if frame is not None:
                left = None if decoder.end is None else decoder.end - self.length
                if decoder.until is not None:
                    left = line.seconds(decoder.until) - self.length
                shown = _duration(frame, self.length, stream, line) if left is None else left
                self.length += left or 0
                if (last := selection.finish(shown)) is not None:
                    yield last
        self._cut_at, self._finished = selection.cut_at, not selection.done

    def _rejection_for(self, error: Exception, demuxer: str) -> Rejected:
        message = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        truncation = describe_truncation(self.path, demuxer)
        if truncation or isinstance(error, EOFError):
            return Rejected("truncated", truncation or message)
        return Rejected("corrupt", message)

    def _check_end(self, demuxer: str) -> Rejected | None:
        """The fault of a file that was read without an exception, if it has one."""
        if not self.decoded and is_scrambled(self.path, demuxer):
            return ENCRYPTED
        truncation = describe_truncation(self.path, demuxer) or self._shortfall
        if self._finished and self._ends_cut and not truncation:
            truncation = "its last packet is cut"
        if truncation:
            return Rejected("truncated", f"{truncation}; {self.decoded} frames were decoded")
        if not self.decoded and is_probed(demuxer):
            return Rejected("not_a_video", describe_head(self.path))
        if self.damaged:
            return Rejected("corrupt", f"{self.damaged} of {self.packets} packets do not decode")
        if not self.packets:
            return Rejected("not_a_video", "its video stream holds no frame")
        return None if self.decoded else Rejected("corrupt", "no frame decodes")


def _set_options(codec: Any, options: dict[str, str]) -> None:  # Any: PyAV is untyped to us
    codec.options = {"max_pixels": str(MAX_PIXELS)} | options
    codec.thread_count = 1  # with more, the frames decoded from damaged data depend on thread timing


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
