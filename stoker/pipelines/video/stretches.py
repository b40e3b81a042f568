"""Stretches of a long film, which several workers decode at the same time: from a key frame to the next stretch's.

The frames of all stretches together are those of the film that is decoded as a whole, or ``NotAlone`` is raised. Each
stretch ends at the very packet with which the next one begins, a key frame that needs nothing before it, and every
frame comes as its packets say. A film in doubt is not cut, or raises: damage, no index, groups of pictures that need
each other, fields, joined recordings, time stamps that are not those of its frames.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

from stoker.pipelines.errors import NotAlone
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.containers import SAFE_OPTIONS, demuxer_of, import_av
from stoker.pipelines.video.decoding.bitstream import SEEKABLE_CODECS, Coding, coding_reader
from stoker.pipelines.video.decoding.packet_runs import PacketRuns, Run, by_kind
from stoker.pipelines.video.decoding.run_decoder import RunDecoder
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.decoding.timeline import MAX_REORDERED, TimeLine
from stoker.pipelines.video.streams import MAX_PIXELS, select_stream, time_line

_CONTAINERS = ("mov", "matroska")  # they have an index, and each packet has the time stamp that the file gives it
_MAX_STRETCHES = 1000
_MOST_TRIED = 8  # key frames at which a stretch might begin: where none of so many will do, others hardly do
_LOWEST_LAYER = 1  # HEVC counts temporal layers from 1; of other codecs none is read
_LEAST_TIMES = 60  # wanted times of a stretch: with fewer, reading takes longer than decoding

Packet = Any  # av.Packet: PyAV is untyped to us


class Mark(NamedTuple):
    """A packet with a key frame, and how to know it again."""

    pts: int
    size: int  # bytes
    crc32: int

    @classmethod
    def of(cls, packet: Packet) -> Self | None:
        """None if the packet is no key frame with a time stamp."""
        if not packet.is_keyframe or packet.pts is None or not packet.size:
            return None
        return cls(packet.pts, packet.size, zlib.crc32(bytes(packet)))


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is read at one time.

    ``first``: time stamp of the film's first frame. ``begin`` and ``end``: where it begins, and before what it ends;
    None: the film's beginning and its end. ``parameters``: CRC-32 of the parameter sets that each of these repeats.
    """

    first: int
    begin: Mark | None
    end: Mark | None
    parameters: int

    def to_json(self) -> list[Any]:  # Any: JSON values
        """Its fields in order."""
        return [self.first, self.begin, self.end, self.parameters]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Self:  # Any: JSON values
        """What ``to_json`` gave."""
        first, begin, end, parameters = values
        return cls(first, Mark(*begin) if begin else None, Mark(*end) if end else None, parameters)

    def seek(self, container: Any, stream: Any, line: TimeLine) -> Fraction | None:  # Any: PyAV is untyped to us
        """Have the next packets be those of the stretch; seconds of its first frame, None if it is the film's."""
        if self.begin is None:
            return None
        line.begin_at(self.first)
        container.seek(self.begin.pts, stream=stream)
        return line.seconds(self.begin.pts)

    def runs(self, runs: PacketRuns, codec: str) -> Iterator[Run]:
        """Its runs, and the one behind it. Raises NotAlone."""
        for number, run in enumerate(runs):
            mark = Mark.of(run.packets[0])
            if number == 0:
                if self.begin not in (None, mark):
                    raise NotAlone("it does not begin where the one before it ends")
                if run.required > (self.begin is None) or _parameters(run.codings[:1]) != self.parameters:
                    raise NotAlone("its first packet has not all parameter sets")
            elif run.required:
                raise NotAlone("its parameter sets change")
            if runs.highest_layer > _LOWEST_LAYER or run.stamps is None:
                raise NotAlone("it has temporal layers, or frames without time stamps of their own")
            is_end = self.end is not None and mark == self.end
            if is_end and not _is_apart(run, codec):
                raise NotAlone("what follows needs it")
            yield run
            if is_end:
                return
        if self.end is not None:
            raise NotAlone("it does not end where the next one begins")

    def check(self, decoder: RunDecoder, line: TimeLine, times: FrameTimes, *, damaged: int) -> None:
        """Raise NotAlone if what was decoded may be other than in the whole film."""
        if not decoder.is_plain or damaged:
            raise NotAlone("not all frames came as its packets say")
        if line.steps or line.moved or line.uses_dts:
            raise NotAlone("its time stamps are not those of its frames")
        if line.first is None or line.first != line.seconds(self.first):
            raise NotAlone("the film begins at another time than its packets say")
        if self.end is None and (line.end is None or times.first_from(line.end) > times.limit):
            raise NotAlone("there may be more frames than are wanted of a video")


def cut_film(path: Path, times: FrameTimes, *, seconds: float) -> list[Stretch]:
    """The stretches of a video file, each of about so many seconds; none if it is short, or is best read at once."""
    av = import_av()
    demuxer = demuxer_of(path, av)
    if isinstance(demuxer, Rejected) or demuxer not in _CONTAINERS or times.end is not None:
        return []
    options = SAFE_OPTIONS | {"max_pixels": str(MAX_PIXELS)}
    try:
        with av.open(f"file:{path.resolve()}", format=demuxer, options=options, metadata_errors="replace") as container:
            stream = select_stream(container)
            if isinstance(stream, Rejected) or stream.codec_context.name not in SEEKABLE_CODECS:
                return []
            return _cut(container, stream, time_line(container, stream, demuxer), times, seconds)
    except (av.FFmpegError, ValueError, OSError, ArithmeticError, SyntaxError):
        return []  # the whole reading tells what is wrong with it


def _cut(
    container: Any, stream: Any, line: TimeLine, times: FrameTimes, seconds: float
) -> list[Stretch]:  # Any: as above
    length, codec = Fraction(container.duration or 0, 1_000_000), stream.codec_context.name
    step = max(Fraction(seconds), _LEAST_TIMES / times.per_second)
    count = min(_MAX_STRETCHES, int((length - times.start) / step))
    if count < 2 or times.first_from(length) > times.limit:
        return []
    run = next(_next_runs(container, stream), None)
    if run is None or not run.stamps:
        return []
    first, parameters = run.stamps[0], _parameters(run.codings[:1])
    marks: list[Mark | None] = []
    last = first
    for number in range(1, count):
        begin = times.start + number * (length - times.start) / count
        container.seek(first + int(begin / line.base), stream=stream)
        runs = islice(_next_runs(container, stream), _MOST_TRIED)
        fit = (run for run in runs if _is_apart(run, codec) and _parameters(run.codings[:1]) == parameters)
        run = next(fit, None)
        mark = None if run is None else Mark.of(run.packets[0])
        if mark is None:
            return []
        container.seek(mark.pts, stream=stream)
        found = next(container.demux(stream), None)
        if mark.pts > last and found is not None and Mark.of(found) == mark:
            marks.append(mark)
            last = mark.pts
    ends = [None, *marks, None]
    return [Stretch(first, begin, end, parameters) for begin, end in pairwise(ends)] if marks else []


def _next_runs(container: Any, stream: Any) -> Iterator[Run]:  # Any: as above
    codec = stream.codec_context
    read_coding = coding_reader(codec.name, codec.extradata or b"")
    return iter(PacketRuns(container.demux(stream), seekable=True, read_coding=read_coding))


def _is_apart(run: Run, codec: str) -> bool:
    """Whether the frames of a run, and of those behind it, are the same whatever was decoded before.

    Of short runs a decoder holds several back; then it is not told from the frames that come which of them are needed.
    """
    if not run.restarts or run.leading or len(run.packets) <= MAX_REORDERED:
        return False
    return codec != "h264" or run.codings[0].forgets


def _parameters(codings: Sequence[Coding]) -> int:
    """CRC-32 of the parameter sets in packets."""
    return zlib.crc32(repr(sorted(by_kind(sum((one.parameters for one in codings), ())).items())).encode())
