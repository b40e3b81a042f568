"""A video's packets in runs, each of which can be skipped without changing the frames of the others.

A run is a group of pictures (GOP) where the codec allows it: decoding can begin anew at its key frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Limits of one run: it is held in memory until it is known whether it can be skipped.
_MAX_RUN_PACKETS = 2_000
_MAX_RUN_SIZE = 32 << 20  # bytes

Packet = Any  # av.Packet: PyAV is untyped to us


@dataclass(frozen=True, slots=True)
class Run:
    """Packets in the order of decoding, and where the next run can be decoded without this one."""

    packets: list[Packet]
    restart_pts: int | None  # time stamp of the next run's key frame; None if that run needs this one


def packet_runs(packets: Iterator[Packet], *, seekable: bool) -> Iterator[Run]:
    """The runs of a video's packets. Without ``seekable`` none can be decoded alone."""
    previous: list[Packet] = []
    run: list[Packet] = []
    size = 0
    for packet in packets:
        full = len(run) >= _MAX_RUN_PACKETS or size >= _MAX_RUN_SIZE
        if full or (packet.is_keyframe and packet.size):
            if previous:
                yield Run(previous, _restart_pts(run) if seekable else None)
            previous, run, size = run, [], 0
        run.append(packet)
        size += packet.size
    if previous:
        yield Run(previous, _restart_pts(run) if seekable else None)
    if run:
        yield Run(run, None)


def _restart_pts(run: list[Packet]) -> int | None:
    """The time stamp of a run's key frame; None if later packets need the previous run."""
    if not run or not run[0].is_keyframe or any(packet.pts is None and packet.size for packet in run):
        return None
    stamps = [packet.pts for packet in run if packet.size]
    return run[0].pts if stamps and min(stamps) == run[0].pts else None
