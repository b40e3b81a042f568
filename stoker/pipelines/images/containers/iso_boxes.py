"""Boxes of files in the ISO base media format, such as AVIF and HEIF, found without reading what is in them."""

from collections.abc import Iterator
from dataclasses import dataclass

_MAX_BOXES = 4096  # in one box; more are not read


@dataclass(frozen=True, slots=True)
class Box:
    """Name of a box, and where its content begins and ends."""

    name: bytes
    start: int
    stop: int


def whole_file(payload: bytes) -> Box:
    """The file as the box that all others are in."""
    return Box(b"", 0, len(payload))


def boxes_in(payload: bytes, start: int, stop: int) -> Iterator[Box]:
    """The boxes between two offsets, up to the first that does not end there."""
    for _ in range(_MAX_BOXES):
        if start + 8 > stop:
            return
        size, name, header = int.from_bytes(payload[start : start + 4], "big"), payload[start + 4 : start + 8], 8
        if size == 1 and start + 16 <= stop:
            size, header = int.from_bytes(payload[start + 8 : start + 16], "big"), 16
        end = stop if size == 0 else start + size
        if (size and size < header) or end > stop:
            return
        yield Box(name, start + header, end)
        start = end


def inner_box(payload: bytes, box: Box, *path: bytes, skip: int = 0) -> Box | None:
    """The first box at a path of names; ``skip``: bytes of the outer box before its boxes."""
    found: Box | None = box
    for name in path:
        if found is None:
            return None
        found = next((inner for inner in boxes_in(payload, found.start + skip, found.stop) if inner.name == name), None)
        skip = 0
    return found


def brands_of(payload: bytes) -> set[bytes]:
    """The major and compatible brands, from the first box."""
    stop = min(int.from_bytes(payload[:4], "big"), 256, len(payload))
    return {payload[8:12]} | {payload[offset : offset + 4] for offset in range(16, stop - 3, 4)}
