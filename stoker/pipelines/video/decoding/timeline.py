"""The time line of a video stream: seconds from the container's start, always forward.

Containers give time stamps that step back (joined recordings), jump (a gap in a recording), are absent (raw streams) or
stand in the wrong order (AVI has none for presentation, and FFmpeg fills them in as if no frame were reordered).
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, pairwise
from statistics import median_low
from typing import Any

# Where FFmpeg's command joins sections again: a step back of more than 0.1 s, and in formats whose clock may be set
# anew (MPEG-TS and -PS) a jump of more than 10 s; elsewhere 30 hours, so that a still picture may stay for long.
# Source: FFmpeg, fftools/ffmpeg_demux.c, ts_discontinuity_detect(), and the default of -dts_error_threshold.
_STEP_BACK_S = Fraction(1, 10)
_JUMP_S = {"mpegts": Fraction(10), "mpeg": Fraction(10)}
_WITHOUT_PTS = ("avi",)  # containers with stamps for decoding only
_MAX_JUMP_S = Fraction(30 * 3600)
MAX_REORDERED = 16  # frames that any codec holds back, at most
_USUAL_RATE = 25  # frames a second, where a stream names neither its rate nor a frame's duration

Packet = Any  # av.Packet: PyAV is untyped to us
Frame = Any  # av.VideoFrame


class TimeLine:
    """Times of one stream's frames. ``forward`` corrects packets before they are decoded, ``stamp`` tells times after.

    Args:
        base: the stream's time base.
        rate: its frames a second, None if unknown.
        start: the container's start in seconds on its own clock, None if it has no clock.
        demuxer: FFmpeg's name of the container.
        reordered: frames that the decoder may hold back.
    """

    def __init__(
        self, base: Fraction, rate: Fraction | None, *, start: Fraction | None, demuxer: str, reordered: int
    ) -> None:
        self.base = base
        self.start = start
        self.first: Fraction | None = None  # seconds from the start to the first frame
        self.steps: list[str] = []  # what was corrected, for people
        self._moved = set[Fraction]()  # seconds of frames whose stamps are not later than that of the frame before
        self.uses_dts = False  # the stamps for presentation are wrong: take those for decoding
        self._ticks = max(1, round(1 / (rate or _USUAL_RATE) / base))  # of a frame
        self._reordered = reordered
        self._without_pts = demuxer in _WITHOUT_PTS
        self._may_repeat = demuxer == "mpeg"
        self._max_jump = int(_JUMP_S.get(demuxer, _MAX_JUMP_S) / base)
        self._step_back = int(_STEP_BACK_S / base)
        self._shift = 0  # what is added to the stamps of the current section
        self._begins: list[int] = []  # corrected stamps at which sections begin, and
        self._shifts: list[int] = []  # what was added there
        self._highest: int | None = None  # corrected stamp for presentation
        self._duration = 0  # of the packet with it
        self._rhythm: deque[int] = deque(maxlen=MAX_REORDERED)  # steps of the last stamps for decoding
        self._first_dts: int | None = None
        self._ahead = 0  # ticks by which the first stamped packet's stamp for presentation is later than its other one
        self._unstamped = 0  # packets since the last one with a stamp
        self._has_unstamped = False  # MPEG-PS stamps only the first of the frames that begin in one of its packets
        self._decoding: int | None = None  # corrected stamp for decoding of the last packet
        self._last: int | None = None  # corrected stamp of the last frame

    def forward(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """The packets, their stamps corrected so that sections follow one another without a step or a jump."""
        for packet in self._without_repeats(packets) if self._may_repeat else packets:
            if packet.size:
                self._correct(packet)
            yield packet

    @staticmethod
    def _without_repeats(packets: Iterable[Packet]) -> Iterator[Packet]:
        """The packets; of two with the same stamps, the first has none.

        FFmpeg gives the stamps of a packet of MPEG-PS to the frame that ends where it begins, too.
        """
        for packet, after in pairwise(chain(packets, [None])):
            if after is not None and packet.dts is not None and (packet.pts, packet.dts) == (after.pts, after.dts):
                packet.pts = packet.dts = None
            yield packet

    def _correct(self, packet: Packet) -> None:
        stamp, before = (packet.pts, self._highest) if packet.dts is None else (packet.dts, self._decoding)
        if stamp is not None and before is not None:
            step = stamp + self._shift - before
            # Stamps for presentation step back wherever frames are reordered, but not at key frames.
            steps_back = step < -self._step_back and (packet.dts is not None or packet.is_keyframe)
            steps_back = steps_back or (step <= 0 and self._unstamped > 0)
            if steps_back or step > self._max_jump:
                self._join(packet, step)
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts = None if packet.dts is None else packet.dts + self._shift
        if packet.dts is not None:
            if self._decoding is not None and packet.dts > self._decoding:
                self._rhythm.append(max(1, round((packet.dts - self._decoding) / (self._unstamped + 1))))
            self._decoding = packet.dts
            if self._first_dts is None:
                self._first_dts = packet.dts
                self._ahead = 0 if packet.pts is None else packet.pts - packet.dts
        if packet.pts is not None and (self._highest is None or packet.pts >= self._highest):
            self._highest, self._duration = packet.pts, packet.duration or 0
        is_unstamped = packet.pts is None and packet.dts is None
        self._unstamped = self._unstamped + 1 if is_unstamped else 0
        self._has_unstamped = self._has_unstamped or is_unstamped

    def _join(self, packet: Packet, step: int) -> None:
        """Begin a section: it goes on one frame after the last one."""
        stamp = packet.dts if packet.pts is None else packet.pts
        highest = self._decoding if self._highest is None else self._highest
        highest = highest or 0
        if self._unstamped and self._decoding is not None:
            highest = max(highest, self._decoding + self._unstamped * self._step(None) + self._ahead)
        begin = highest + self._step(None)
        self._shift = begin - stamp
        self._begins.append(begin)
        self._shifts.append(self._shift)
        seconds = float(abs(step) * self.base)
        kind = "step back" if step < 0 else "jump"
        self.steps.append(f"time stamps {kind} by {seconds:.3f} s at {float(self.seconds(begin)):.3f} s")

    def _begin(self, stamp: int) -> None:
        """Set the time of the first frame."""
        self.start = stamp * self.base if self.start is None else min(self.start, stamp * self.base)
        if self._first_dts is not None and (self.uses_dts or self._without_pts):
            # A decoder gives a frame the stamp of the packet that let it out, which comes later by the frames it holds
            # back, and FFmpeg adds as much to the stamps that it fills in. The first frame is the first packet's.
            held = self._reordered * self._step(None)
            if self._without_pts:  # FFmpeg adds a frame for H.264 without reordering, too
                held = max(held, self._ahead)
            self.start += max(0, min(stamp - self._first_dts, held)) * self.base
        self.first = self.seconds(stamp)

    def begin_at(self, stamp: int) -> None:
        """Set the time of the first frame, which is not read: it has this stamp, and none is taken from decoding."""
        self._begin(stamp)

    @property
    def frame_s(self) -> Fraction:
        """Seconds of a frame by the stream's rate, at least a millisecond."""
        return max(self._ticks * self.base, Fraction(1, 1000))

    def seconds(self, stamp: int) -> Fraction:
        """A corrected stamp in seconds from the container's start."""
        return stamp * self.base - (self.start or 0)

    def stamp(self, frame: Frame) -> tuple[Fraction, int]:
        """The frame's time, later than that of the frame before, and the file's own stamp. Frames come in order."""
        stamp = frame.dts if self.uses_dts or frame.pts is None else frame.pts
        if stamp is None or (frame.pts is None and self._has_unstamped and self._last is not None):
            stamp = 0 if self._last is None else self._last + self._step(frame)
        if is_moved := self._last is not None and stamp <= self._last:
            stamp = (self._last or 0) + 1
        self._last = stamp
        if self.first is None:
            self._begin(stamp)
        time = self.seconds(stamp)
        if is_moved:
            self._moved.add(time)
        section = bisect_right(self._begins, stamp)
        return time, stamp - (self._shifts[section - 1] if section else 0)

    def _step(self, frame: Frame | None) -> int:
        """Ticks from one frame to the next, where stamps do not tell."""
        if self._rhythm:
            return median_low(self._rhythm)
        return int(frame.duration) if frame is not None and frame.duration else self._ticks

    @property
    def end(self) -> Fraction | None:
        """Seconds at which the last one of the packets ends; None if none had a time stamp."""
        return None if self._highest is None else self.seconds(self._highest + (self._duration or self._step(None)))

    @property
    def moved(self) -> int:
        """How many frames have stamps that are not later than that of the frame before."""
        return len(self._moved)

    def note(self, time: Fraction) -> str:
        """What was corrected in the stamp of the frame at a time in seconds, and before it; "" if nothing."""
        steps = [text for text, begin in zip(self.steps, self._begins, strict=True) if self.seconds(begin) <= time]
        note = f"{steps[-1]}; {len(steps)} times" if len(steps) > 1 else "".join(steps)
        moved = "moved behind the frame before" if time in self._moved else ""
        return "; ".join(text for text in (note, moved) if text)


def seems_in_decoding_order(run: Sequence[Packet]) -> bool:
    """Whether a run's stamps grow from packet to packet, which they do not where a codec reorders frames."""
    stamps = [packet.pts for packet in run if packet.size]
    return len(stamps) > 2 and None not in stamps and all(one < next_ for one, next_ in pairwise(stamps))


def dts_is_right(frames: Sequence[Frame]) -> bool:
    """Whether the stamps for decoding (dts) of frames in order of presentation are better than those for presentation.

    That is FFmpeg's best-effort rule: those are better that step back less often, in doubt those for presentation.
    Source: FFmpeg, libavcodec/decode.c, guess_correct_pts().
    """
    stamps = [(frame.pts, frame.dts) for frame in frames if frame.pts is not None and frame.dts is not None]
    faults_pts = sum(later[0] <= earlier[0] for earlier, later in pairwise(stamps))
    faults_dts = sum(later[1] <= earlier[1] for earlier, later in pairwise(stamps))
    return bool(faults_pts > faults_dts)
