"""Which frames of a video are wanted: those on screen at the wanted times, each once."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


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
class TimedFrame(Generic[Frame]):
    """A decoded frame and when it is shown."""

    time: Fraction  # seconds from the container's start
    pts: int  # the file's own time stamp
    frame: Frame


class Selection(Generic[Frame]):
    """Picks the wanted ones of a video's frames, which are offered in order of their times.

    The first frame counts as shown before its time, so that a video that begins late loses no wanted time.
    """

    def __init__(self, times: FrameTimes) -> None:
        self.done = False  # no later frame is wanted
        self.cut_at: Fraction | None = None  # seconds of the first wanted frame beyond the limit
        self._times = times
        self._number = 0  # of the next wanted time
        self._picked = 0  # frames
        self._previous: TimedFrame[Frame] | None = None  # on screen until the next frame's time is known

    def wants_before(self, time: Fraction) -> bool:
        """Whether a wanted time is left before ``time`` (seconds)."""
        return self._times.at(self._number) < time

    def wants_between(self, begin: Fraction, end: Fraction) -> bool:
        """Whether a wanted time is left from ``begin`` on and before ``end`` (seconds)."""
        return self._times.at(max(self._number, self._times.first_from(begin))) < end

    def pass_over(self) -> None:
        """Forget the frame that was offered last: no wanted time is left before the next one that will be offered."""
        self._previous = None

    def offer(self, frame: TimedFrame[Frame]) -> TimedFrame[Frame] | None:
        """Take the next frame; return the one before it if that was wanted."""
        wanted = self._pick(frame.time)
        self._previous = frame
        end = self._times.end
        if end is not None and (frame.time if self._picked == 0 else self._times.at(self._number)) >= end:
            self.done = True
        return wanted

    def finish(self, duration: Fraction) -> TimedFrame[Frame] | None:
        """The last frame, shown for ``duration`` seconds, if it was wanted."""
        return None if self._previous is None else self._pick(self._previous.time + duration)

    def _pick(self, until: Fraction) -> TimedFrame[Frame] | None:
        frame, end = self._previous, self._times.end
        if self.done or frame is None or not self.wants_before(until) or (end is not None and frame.time >= end):
            return None
        if self._picked >= self._times.limit:
            self.cut_at, self.done = max(frame.time, self._times.at(self._number)), True
            return None
        self._picked += 1
        self._number = self._times.first_from(until)
        return frame
