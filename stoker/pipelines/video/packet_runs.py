"""A video's packets in runs that can be left out without any other frame changing."""

from collections.abc import Iterator
from typing import Any

_RUN_PACKETS = 2_000  # held while it is not yet known whether they are needed
_RUN_SIZE = 32 << 20  # bytes, likewise

Packet = Any  # av.Packet: PyAV is untyped to us


def packet_runs(packets: Iterator[Packet], *, cuttable: bool) -> Iterator[tuple[list[Packet], int | None]]:
    """The packets in runs, and with each the time stamp from which on the next one decodes afresh, if it does."""
    before: list[Packet] = []
    run: list[Packet] = []
    size = 0
    for packet in packets:
        full = len(run) >= _RUN_PACKETS or size >= _RUN_SIZE
        if full or not cuttable or (packet.is_keyframe and packet.size):
            if before:
                yield before, _cut(run)
            before, run, size = run, [], 0
        run.append(packet)
        size += packet.size
    if before:
        yield before, _cut(run)
    if run:
        yield run, None


def _cut(run: list[Packet]) -> int | None:
    """The time stamp of a run's key frame, unless pictures shown before it follow: they need the run before."""
    if not run or not run[0].is_keyframe or any(one.pts is None and one.size for one in run):
        return None
    stamps = [one.pts for one in run if one.size]
    return run[0].pts if stamps and min(stamps) == run[0].pts else None
