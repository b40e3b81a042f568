"""A video's packets in runs, each of which can be skipped without changing the frames of the others.

A run is a group of pictures (GOP) where the codec allows it: decoding can begin anew at its key frame.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stoker.pipelines.video.decoding.bitstream import Coding

# Limits of one run: it is held in memory until it is known whether it can be skipped.
_MAX_RUN_PACKETS = 2_000
_MAX_RUN_SIZE = 32 << 20  # bytes

Packet = Any  # av.Packet: PyAV is untyped to us


@dataclass(frozen=True, slots=True)
class Run:
    """Packets in the order of decoding.

    ``restarts``: decoding can begin at the first packet. The ``leading`` ones behind it are shown before it and need
    the run before (an open GOP); all others do not.
    ``stamps``: the time stamps in order, None if packets lack them or share one.
    ``required``: packets up to the last one with new parameter sets, which later runs may need.
    """

    first: int  # place of its first packet among the video's
    packets: list[Packet]
    codings: list[Coding]
    restarts: bool
    leading: int
    stamps: list[int] | None
    required: int = 0


@dataclass
class PacketRuns:
    """The runs of a video's packets. Without ``seekable`` none can be decoded alone.

    Args:
        packets: in the order of decoding.
        seekable: whether the decoder can begin at key frames.
        read_coding: what reads a packet's headers, None if only the container tells of key frames.
        knows_first: the parameter sets of the first packet are those of packets before it, so they are not new.
    """

    packets: Iterator[Packet]
    seekable: bool
    read_coding: Callable[[Packet], Coding] | None = None
    knows_first: bool = False
    highest_layer: int = 0  # temporal, of all packets that were read
    parameters: dict[int, list[bytes]] = field(default_factory=dict)  # kind → units of the last packet with any

    def __iter__(self) -> Iterator[Run]:
        run: list[Packet] = []
        size = first = 0
        for packet in self.packets:
            full = len(run) >= _MAX_RUN_PACKETS or size >= _MAX_RUN_SIZE
            if run and (full or (packet.is_keyframe and packet.size)):
                yield self._run(first, run)
                first, run, size = first + len(run), [], 0
            run.append(packet)
            size += packet.size
        if run:
            yield self._run(first, run)

    def _run(self, first: int, packets: list[Packet]) -> Run:
        shown = [packet.pts for packet in packets if packet.size and not packet.is_discard]
        distinct = None not in shown and len(set(shown)) == len(shown)
        stamps = sorted(shown) if distinct else None
        codings, required = self._read(packets)
        key = packets[0]
        leading = 0
        if stamps is not None and key.pts is not None:
            leading = sum(packet.pts < key.pts for packet in packets if packet.size and not packet.is_discard)
        restarts = self.seekable and stamps is not None and key.is_keyframe and key.size > 0 and key.pts is not None
        if restarts and codings:
            restarts = codings[0].restarts and all(
                coding.leading and packet.pts < key.pts
                for packet, coding in zip(packets[1 : leading + 1], codings[1 : leading + 1], strict=True)
            )
        elif leading:
            restarts = False
        return Run(first, packets, codings, restarts, leading, stamps, required)

    def _read(self, packets: list[Packet]) -> tuple[list[Coding], int]:
        """What the packets' headers say, and how many of them are needed for new parameter sets."""
        if not self.seekable:
            return [], 0
        codings: list[Coding] = []
        required = 0
        for place, packet in enumerate(packets):
            if self.read_coding is not None:
                coding = self.read_coding(packet) if packet.size else Coding()
                codings.append(coding)
                self.highest_layer = max(self.highest_layer, coding.layer)
                if self.knows_first:
                    self.parameters, self.knows_first = by_kind(coding.parameters), False
                if coding.parameters and self._are_new(coding.parameters):
                    required = place + 1
            if packet.size and packet.has_sidedata("new_extradata"):
                required = place + 1
        return codings, required

    def _are_new(self, parameters: tuple[bytes, ...]) -> bool:
        kinds = by_kind(parameters)
        new = any(self.parameters.get(kind) != units for kind, units in kinds.items())
        self.parameters |= kinds
        return new


def by_kind(parameters: tuple[bytes, ...]) -> dict[int, list[bytes]]:
    """Parameter sets by their first byte, which says of what kind they are."""
    kinds: dict[int, list[bytes]] = {}
    for unit in parameters:
        kinds.setdefault(unit[0], []).append(unit)
    return kinds
