"""Packets of an MPEG transport stream in a file, also behind junk and from the middle of a packet."""

from typing import BinaryIO

_SYNC = 0x47  # the first byte of each packet
_PACKETS = 8  # in a row that make a stream of bytes a transport stream
_SYNCS = bytes([_SYNC]) * _PACKETS
_LENGTHS = (188, 192, 204)  # bytes; discs have 4 more before each packet, broadcasts 16 behind it
_SEARCHED = 1 << 16  # bytes at the head
_NO_DATA = 0x1FFF  # the number (PID) of packets that only fill


def find_packets(head: bytes) -> tuple[int, int] | None:
    """Where the first packet's sync byte is, and the bytes from one packet to the next; None without packets."""
    for length in _LENGTHS:
        for offset in range(max(0, len(head) - (_PACKETS - 1) * length)):
            if head[offset] == _SYNC and head[offset : offset + _PACKETS * length : length] == _SYNCS:
                return offset, length
    return None


def read_head(file: BinaryIO) -> bytes:
    """As much of a file as is searched for packets."""
    file.seek(0)
    return file.read(_SEARCHED)


def describe_cut(file: BinaryIO, size: int) -> str:
    """That the file's last packet is not whole; "" if it is."""
    found = find_packets(read_head(file))
    if found is None:
        return ""
    offset, length = found
    rest = (size - offset + (4 if length == 192 else 0)) % length
    return f"{size} bytes, {length - rest} less than whole packets" if rest else ""


def is_scrambled(head: bytes) -> bool:
    """Whether the packets say that they are encrypted."""
    found = find_packets(head)
    if found is None:
        return False
    packets = [head[place : place + 4] for place in range(found[0], len(head) - 4, found[1])]
    packets = [one for one in packets if int.from_bytes(one[1:3], "big") & 0x1FFF != _NO_DATA]
    return sum(one[3] & 0xC0 != 0 for one in packets) * 10 > len(packets)
