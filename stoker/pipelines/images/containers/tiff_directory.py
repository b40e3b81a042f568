"""The first directory of a TIFF or BigTIFF: whether what it announces of pixels is there."""

import struct
from collections.abc import Mapping

# Bits of a channel, offsets and sizes of strips and of tiles, the palette, and what all JPEG strips share: without one
# of them no pixel can be decoded.
_OF_PIXELS = frozenset((258, 273, 279, 320, 324, 325, 347))
_WIDTH, _HEIGHT, _CHANNELS, _ROWS_PER_STRIP, _PLANES = 256, 257, 277, 278, 284
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_READ = _OF_PIXELS | {_WIDTH, _HEIGHT, _CHANNELS, _ROWS_PER_STRIP, _PLANES, _TILE_WIDTH, _TILE_HEIGHT}
_MAX_VALUES = 1 << 20  # strips or tiles whose places are read
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of the numbers that are read here
_SIZES = {2: 1, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 17: 8}  # of the others

Values = Mapping[int, tuple[int, ...]]


def tiff_ends_early(payload: bytes) -> bool:
    """Whether the directory, or pixels that it announces, lie behind the end of the data or are not there at all.

    >>> tiff_ends_early(b"II*\\0\\x08\\0\\0\\0")
    True
    """
    try:
        values = _read(payload)
    except (struct.error, OverflowError):
        return True
    if values is None:
        return True
    for offsets, sizes in ((273, 279), (324, 325)):
        starts, counts = values.get(offsets, ()), values.get(sizes, ())
        if any(start + count > len(payload) or not count for start, count in zip(starts, counts, strict=False)):
            return True
        if starts and len(starts) < _announced(values, is_tiled=offsets == 324):
            return True
    return False


def _read(payload: bytes) -> dict[int, tuple[int, ...]] | None:
    """The whole numbers of the directory by tag; None if a value that pixels hang on lies behind the end.

    Raises struct.error where the directory itself does.
    """
    order = "<" if payload[:2] == b"II" else ">"
    is_big = payload[2:4] in (b"+\0", b"\0+")
    count_form, offset_form, header = ("Q", "Q", 8) if is_big else ("H", "I", 4)
    (start,) = struct.unpack_from(order + offset_form, payload, header)
    (entries,) = struct.unpack_from(order + count_form, payload, start)
    start += struct.calcsize(order + count_form)
    form = f"{order}HH{offset_form}"
    inline = struct.calcsize(order + offset_form)
    values: dict[int, tuple[int, ...]] = {}
    for number in range(entries):
        place = start + number * (struct.calcsize(form) + inline)
        tag, kind, count = struct.unpack_from(form, payload, place)
        place += struct.calcsize(form)
        size = count * (struct.calcsize(_NUMBERS[kind]) if kind in _NUMBERS else _SIZES.get(kind, 0))
        if size > inline:
            (place,) = struct.unpack_from(order + offset_form, payload, place)
        if place + size > len(payload):
            if tag in _OF_PIXELS:
                return None
        elif kind in _NUMBERS and tag in _READ and tag not in values and count <= _MAX_VALUES:
            values[tag] = struct.unpack_from(f"{order}{count}{_NUMBERS[kind]}", payload, place)
    return values


def _announced(values: Values, *, is_tiled: bool) -> int:
    """How many strips or tiles the image has by its size."""

    def first(tag: int, default: int) -> int:
        return next(iter(values.get(tag, ())), default) or 1

    width, height = first(_WIDTH, 1), first(_HEIGHT, 1)
    planes = first(_CHANNELS, 1) if first(_PLANES, 1) == 2 else 1
    if is_tiled:
        return -(-width // first(_TILE_WIDTH, width)) * -(-height // first(_TILE_HEIGHT, height)) * planes
    return -(-height // first(_ROWS_PER_STRIP, height)) * planes
