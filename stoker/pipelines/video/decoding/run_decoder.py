"""Frames of a video, decoded as far as the wanted ones need: the pictures of these are the same as of a full decode.

Left out are runs without a wanted frame, what follows the last wanted frame of a run, and pictures that no other one
references. Where the decoder does not give exactly the frames that were expected, the run is decoded again, whole, and
from the run before it, because decoders conceal damage with earlier pictures.

They do so without a word, so frames are first decoded by one that raises instead. The first time it does, one that
conceals takes its place, which then stays: what it gives is what a full decode gives.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, pairwise
from typing import Any

from stoker.pipelines.video.decoding.packet_runs import PacketRuns, Run
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.decoding.timeline import TimeLine

_MAX_RUNS_BEFORE = 8

Frame = Any  # av.VideoFrame: PyAV is untyped to us


class _UnexpectedFrames(Exception):
    """The decoder did not give the frames that were expected of it."""


@dataclass
class RunDecoder:
    """Decodes runs. The counters are complete when ``frames`` has ended.

    Args:
        codec: the stream's codec context; one that raises for damage, unless ``concealing`` is None.
        errors: what it raises for packets that do not decode.
        runs: the stream's packets.
        line: the stream's time line.
        times: the wanted times.
        concealing: makes a codec context that conceals damage.
        until: time stamp of the key frame before which decoding ends; its run is only looked at.
    """

    codec: Any  # av.VideoCodecContext
    errors: tuple[type[Exception], ...]
    runs: PacketRuns
    line: TimeLine
    times: FrameTimes
    concealing: Callable[[], Any] | None = None  # None as soon as ``codec`` conceals damage
    until: int | None = None
    decoded: int = 0  # frames
    packets: int = 0  # of the runs
    is_plain: bool = True  # each run was decoded by itself, and all frames came as expected
    damaged: int = 0  # packets that do not decode
    sent: int = 0  # packets that were given to the decoder, each counted once
    end: Fraction | None = None  # seconds of the last frame, if it was left out
    _last_damaged: int = -1  # place of the last one among the video's packets
    _expected: list[int] = field(default_factory=list)  # a heap: time stamps of packets whose frames are to come
    _given: int | None = None  # time stamp of the last frame
    _sent: dict[int, bytearray] = field(default_factory=dict)  # by place of a run: which packets were given
    _before: list[Run] = field(default_factory=list)  # where to begin if the next run is to be decoded again
    _begun: int = -1  # the first packet of the run at which the decoder began anew
    _clean: bool = True  # all frames came as expected
    _parted: bool = False  # the decoder was emptied, and begins anew at the next run

    def frames(self, runs: Iterable[Run]) -> Iterator[Frame]:
        """The wanted frames, others and the last one, in order; no frame that is left out is on screen when wanted."""
        whole = False  # decode all, until a run is without a fault
        for run, after in pairwise(chain(runs, [None])):
            assert run is not None  # only the last one of the pairs ends with None
            if self.until is not None and run.packets[0].pts == self.until:
                yield from self._finish()
                return
            self.packets += sum(packet.size > 0 for packet in run.packets)
            can_redo = self._find_base()
            if self._parted:
                self._begun = run.first
                if self.codec.name == "h264" and run.codings and not run.codings[0].forgets:
                    self._conceal()  # it takes earlier pictures that were left out for damage
            self._sent = {before.first: self._sent.get(before.first, bytearray()) for before in self._before}
            if self.concealing is not None and not run.restarts and self._before and can_redo:
                yield from self._decode_again(run)
                whole = True
            elif whole or not run.restarts or not can_redo:
                self.is_plain = False
                if not self._before:
                    self._conceal()
                self._clean = True
                yield from self._decode(run, range(len(run.packets)))
                whole = whole and not self._clean
            else:
                try:
                    yield from self._decode_wanted(run, after)
                except _UnexpectedFrames:
                    yield from self._decode_again(run)
                    whole = True
            self._before.append(run)

    def _find_base(self) -> bool:
        """Whether the next run can be decoded again, from its own or an earlier key frame. Forget what is older."""
        if self._parted or self._given is None:
            self._before = [run for run in self._before[-1:] if run.restarts]
            return True
        for place in range(len(self._before) - 1, -1, -1):
            run = self._before[place]
            # The decoder may hold frames back of several short runs. Those before this one were given.
            if run.restarts and (run.packets[0].pts <= self._given or run.first == self._begun):
                self._before = self._before[place:]
                return len(self._before) <= _MAX_RUNS_BEFORE or run.first != self._begun
        if len(self._before) >= _MAX_RUNS_BEFORE:
            self._before = []
        return False

    def _decode_wanted(self, run: Run, after: Run | None) -> Iterator[Frame]:
        begin = 0
        while begin < len(run.packets) and (self.line.first is None or self.line.uses_dts):
            yield from self._decode(run, [begin], strict=True)
            begin += 1
        places, parts = self._plan(run, after)
        yield from self._decode(run, [place for place in places if place >= begin], strict=True)
        if parts and not self._parted:
            yield from self._check(self._drain(), strict=bool(run.codings))
            if self._expected and run.codings:
                raise _UnexpectedFrames
            self._part()

    def _plan(self, run: Run, after: Run | None) -> tuple[Sequence[int], bool]:
        """Which packets of the run to decode, and whether the decoder can begin anew at the run after it."""
        every = range(len(run.packets))
        if not run.stamps or (after is not None and after.stamps is None):
            return every, False
        following = (after.stamps or [])[: after.leading + 1] if after is not None else []
        if following and following[0] <= run.stamps[-1]:
            return every, False
        wanted = self.times.wanted(run.stamps + following, self.line.base, self.line.start or Fraction(0))
        end = None if following else self._unwanted_end(run, run.stamps[-1])
        if not following and end is None:
            wanted.add(run.stamps[-1])
        parts = end is not None or (after is not None and after.restarts and wanted.isdisjoint(following))
        if not all(coding.sound for coding in run.codings):
            return every, parts and end is None  # damage of what is left out is to be told, too
        self.end = end
        needed = [place for place in every if self._is_needed(run, place, wanted)]
        if parts:
            last = max((place for place in needed if run.packets[place].pts in wanted), default=-1)
            needed = [place for place in needed if place <= max(last, run.required - 1)]
        return needed, parts

    def _unwanted_end(self, run: Run, stamp: int) -> Fraction | None:
        """Seconds of the video's last frame, None if it may be on screen at a wanted time."""
        last = next(packet for packet in run.packets if packet.size and packet.pts == stamp)
        begin = self.line.seconds(stamp)
        # Decoding tells how long it is shown: as long as its packet says, or by the rate, maybe with a field repeated.
        shown = max(self.line.frame_s, last.duration * self.line.base) if last.duration else 2 * self.line.frame_s
        return begin if self.times.at(self.times.first_from(begin)) >= begin + shown else None

    def _is_needed(self, run: Run, place: int, wanted: set[int]) -> bool:
        packet = run.packets[place]
        if not run.codings or not packet.size or packet.is_discard or packet.pts in wanted:
            return True
        coding = run.codings[place]
        return not coding.disposable or coding.layer < self.runs.highest_layer

    def _decode_again(self, run: Run) -> Iterator[Frame]:
        """The frames behind the last one that was given, with those of the runs before that were left out."""
        self.end = None
        given, again = self._given, [*self._before, run]
        stamps = {packet.pts for part in again for packet in part.packets if packet.size}
        is_behind = given is None or given not in stamps
        self._part()
        self._conceal()
        for part in again:
            for frame in self._decode(part, range(len(part.packets))):
                if is_behind or (frame.pts is not None and given is not None and frame.pts > given):
                    is_behind = True
                    yield frame
                is_behind = is_behind or frame.pts == given

    def _finish(self) -> Iterator[Frame]:
        """The frames that the decoder holds back at the end of the last run."""
        try:
            yield from [] if self._parted else self._check(self._drain(), strict=True)
        except _UnexpectedFrames:
            self.is_plain = False
        self.is_plain = self.is_plain and not self._expected

    def _conceal(self) -> None:
        """Decode by the codec context that conceals damage, from a key frame or the beginning on."""
        self.is_plain = False
        if self.concealing is not None:
            self.codec, self.concealing = self.concealing(), None

    def _drain(self) -> list[Frame]:
        """The frames that the decoder holds back."""
        try:
            return list(self.codec.decode(None))
        except EOFError:  # the last packet, which says that none follows, was decoded already
            return []
        except self.errors:
            raise _UnexpectedFrames from None

    def _part(self) -> None:
        self.codec.flush_buffers()
        self._expected.clear()
        self._parted = True

    def _decode(self, run: Run, places: Iterable[int], *, strict: bool = False) -> Iterator[Frame]:
        """The frames that the decoder gives for these packets; ``strict`` raises if they are not as expected."""
        decoding = False
        for place in places:
            packet = run.packets[place]
            if self._parted and 0 < place <= run.leading:
                continue  # what it references was left out
            decoding = True
            self._count_sent(run, place)
            if packet.size and packet.pts is not None and not packet.is_discard:
                heappush(self._expected, packet.pts)
            try:
                frames = self.codec.decode(packet)
            except self.errors:
                if strict and self.concealing is not None:
                    raise _UnexpectedFrames from None  # it may be no fault if it is concealed
                self._count_damage(run.first + place)
                if strict:
                    raise _UnexpectedFrames from None
                self._clean = self.is_plain = False
                continue
            yield from self._check(frames, strict=strict and bool(run.codings))
        self._parted = self._parted and not decoding

    def _check(self, frames: list[Frame], *, strict: bool) -> Iterator[Frame]:
        for frame in frames:
            self.decoded += 1
            expected = heappop(self._expected) if self._expected else None
            if frame.pts != expected or frame.is_corrupt:
                if strict:
                    raise _UnexpectedFrames
                self._clean = self.is_plain = False
                while self._expected and frame.pts is not None and self._expected[0] <= frame.pts:
                    heappop(self._expected)
            self._given = frame.pts
            yield frame

    def _count_sent(self, run: Run, place: int) -> None:
        given = self._sent.setdefault(run.first, bytearray())
        given.extend(bytes(max(0, len(run.packets) - len(given))))
        if run.packets[place].size and not given[place]:
            given[place] = 1
            self.sent += 1

    def _count_damage(self, place: int) -> None:
        if place > self._last_damaged:
            self._last_damaged = place
            self.damaged += 1
