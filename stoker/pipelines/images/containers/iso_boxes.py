"""Boxes of AVIF and HEIF files (ISO base media): how many images they hold, and how the first one is cropped.

Only the few boxes that say so are read, and no more of them than a file of a camera has.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_BOXES = 4096  # in one box; more are not read
_IMAGES = (b"av01", b"hvc1", b"grid", b"iden", b"iovl", b"jpeg", b"avc1", b"unci", b"j2k1", b"vvc1")  # types of items
_SEQUENCES = (b"avis", b"msf1", b"hevc", b"hevx")  # brands of files with a track of images


@dataclass(frozen=True, slots=True)
class Box:
    """Name of a box, and where its content begins and ends."""

    name: bytes
    start: int
    stop: int


def count_images(payload: bytes) -> int:
    """The frames of the file's sequence if it has one, else its images that are shown by themselves."""
    frames = _frames_of_sequence(payload) if _brands(payload) & set(_SEQUENCES) else 0
    return max(frames, _shown_items(payload))


def _boxes(payload: bytes, start: int, stop: int) -> Iterator[Box]:
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


def _inner(payload: bytes, box: Box, *path: bytes, skip: int = 0) -> Box | None:
    """The first box at a path of names; ``skip``: bytes of the outer box before its boxes."""
    found: Box | None = box
    for name in path:
        if found is None:
            return None
        found = next((inner for inner in _boxes(payload, found.start + skip, found.stop) if inner.name == name), None)
        skip = 0
    return found


def _brands(payload: bytes) -> set[bytes]:
    stop = min(int.from_bytes(payload[:4], "big"), 256, len(payload))
    return {payload[8:12]} | {payload[offset : offset + 4] for offset in range(16, stop - 3, 4)}


def _frames_of_sequence(payload: bytes) -> int:
    """Samples of the first track of pictures; alpha has a track of its own."""
    movie = _inner(payload, Box(b"", 0, len(payload)), b"moov")
    if movie is None:
        return 0
    for track in _boxes(payload, movie.start, movie.stop):
        handler = _inner(payload, track, b"mdia", b"hdlr") if track.name == b"trak" else None
        if handler is None or payload[handler.start + 8 : handler.start + 12] not in (b"pict", b"vide"):
            continue
        sizes = _inner(payload, track, b"mdia", b"minf", b"stbl", b"stsz")
        if sizes is not None and sizes.stop - sizes.start >= 12:
            return int.from_bytes(payload[sizes.start + 8 : sizes.start + 12], "big")
    return 0


def _shown_items(payload: bytes) -> int:
    """Image items that are neither hidden nor part, thumbnail or auxiliary of another one; the primary one counts."""
    meta = _inner(payload, Box(b"", 0, len(payload)), b"meta")
    if meta is None:
        return 0
    primary, items = _primary_item(payload, meta), _items(payload, meta)
    references = _inner(payload, meta, b"iref", skip=4)
    dependent = set[int]() if references is None else _dependent_items(payload, references)
    return len({item for item in items if item not in dependent} | ({primary} if primary is not None else set()))


def _primary_item(payload: bytes, meta: Box) -> int | None:
    box = _inner(payload, meta, b"pitm", skip=4)
    if box is None or box.start + 6 > box.stop:
        return None
    return int.from_bytes(payload[box.start + 4 : box.start + (8 if payload[box.start] else 6)], "big")


def _items(payload: bytes, meta: Box) -> set[int]:
    """Identifiers of the image items that are not hidden."""
    table = _inner(payload, meta, b"iinf", skip=4)
    if table is None or table.start + 6 > table.stop:
        return set()
    items = set[int]()
    for box in _boxes(payload, table.start + (8 if payload[table.start] else 6), table.stop):
        if box.name != b"infe" or box.stop - box.start < 12:
            continue
        version, is_hidden = payload[box.start], payload[box.start + 3] & 1
        if version not in (2, 3) or is_hidden:
            continue
        width = 2 if version == 2 else 4
        kind = box.start + 4 + width + 2
        if payload[kind : kind + 4] in _IMAGES:
            items.add(int.from_bytes(payload[box.start + 4 : box.start + 4 + width], "big"))
    return items


def _dependent_items(payload: bytes, references: Box) -> set[int]:
    """Thumbnails and auxiliary images (the one that refers), and parts of derived images (what is referred to)."""
    form, width = (">I", 4) if payload[references.start : references.start + 1] == b"\1" else (">H", 2)
    dependent = set[int]()
    for box in _boxes(payload, references.start + 4, references.stop):
        if box.stop - box.start < width + 2:
            continue
        (origin,) = struct.unpack_from(form, payload, box.start)
        if box.name in (b"thmb", b"auxl"):
            dependent.add(origin)
        elif box.name == b"dimg":
            (count,) = struct.unpack_from(">H", payload, box.start + width)
            start = box.start + width + 2
            for place in range(start, min(start + count * width, box.stop - width + 1), width):
                dependent.add(struct.unpack_from(form, payload, place)[0])
    return dependent
