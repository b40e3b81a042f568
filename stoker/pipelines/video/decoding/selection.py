"""Which frames of a video are wanted: those on screen at the wanted times, each once."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
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

    def wanted(self, stamps: Sequence[int], base: Fraction, origin: Fraction) -> set[int]:
        """The time stamps of the frames on screen at a wanted time, and of the first one from the end on.

        The last frame counts as not on screen: it is not known how long it is.

        Args:
            stamps: of all frames, in order.
            base: seconds of one step of the time stamps.
            origin: seconds on their clock at which times begin.

        >>> FrameTimes(Fraction(1, 2)).wanted([0, 900, 2100, 3000], Fraction(1, 1000), Fraction(0))
        {0, 900}
        """
        found = set()
        number = self.first_from(stamps[0] * base - origin)
        while (time := self.at(number)) < stamps[-1] * base - origin and (self.end is None or time < self.end):
            shown = bisect_right(stamps, int((time + origin) / base // 1))
            found.add(stamps[shown - 1])
            number = self.first_from(stamps[shown] * base - origin)
        if self.end is not None:
            found.update(stamps[(after := bisect_left(stamps, (self.end + origin) / base)) : after + 1])
        return found


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

    def __init__(self, times: FrameTimes, *, begin: Fraction | None = None) -> None:
        """``begin``: seconds of the first frame offered, if wanted times before it are those of earlier frames."""
        self.done = False  # no later frame is wanted
        self.cut_at: Fraction | None = None  # seconds of the first wanted frame beyond the limit
        self._times = times
        self._number = 0 if begin is None else times.first_from(begin)  # of the next wanted time
        self._picked = 0  # frames
        self._previous: TimedFrame[Frame] | None = None  # on screen until the next frame's time is known

    def wants_before(self, time: Fraction) -> bool:
        """Whether a wanted time is left before ``time`` (seconds)."""
        return self._times.at(self._number) < time

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
