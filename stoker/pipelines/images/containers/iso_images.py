"""What AVIF and HEIF files say of their images: how many they are, and how the first one is cropped.

Only the few boxes that say so are read, and no more of them than a file of a camera has.
"""

import struct
from fractions import Fraction

from stoker.pipelines.images.containers.iso_boxes import Box, boxes_in, brands_of, inner_box, whole_file
from stoker.pipelines.rejected import Rejected

# Types of items that are images.
_IMAGES = (b"av01", b"hvc1", b"grid", b"iden", b"iovl", b"jpeg", b"avc1", b"unci", b"j2k1", b"vvc1")
_SEQUENCES = (b"avis", b"msf1", b"hevc", b"hevx")  # brands of files with a track of images
_SAMPLE_ENTRY = 78  # bytes of a visual sample entry before its boxes

Crop = tuple[int, int, int, int]  # left, top, right, bottom


def count_images(payload: bytes) -> int:
    """The frames of the file's sequence if it has one, else its images that are shown by themselves."""
    frames = _frames_of_sequence(payload) if brands_of(payload) & set(_SEQUENCES) else 0
    return max(frames, _shown_items(payload))


def clean_aperture(payload: bytes, width: int, height: int) -> Crop | Rejected | None:
    """The part of the first image that is shown (property ``clap``), in pixels as they are stored, before it is turned.

    None if it is the whole image of this width and height; ``corrupt`` if it is no box of whole pixels within it, which
    MIAF (ISO/IEC 23000-22, 7.3.6.7) demands.
    """
    # libavif takes the sequence where the major brand says so, else the primary item.
    track = _picture_track(payload) if payload[8:12] == b"avis" else None
    box = _aperture_of_item(payload) if track is None else _aperture_of_track(payload, track)
    if box is None:
        return None
    if box.stop - box.start != 32:
        return Rejected("corrupt", "a clean aperture of a wrong length")
    values = struct.unpack_from(">IIIIiIiI", payload, box.start)
    if not all(values[1::2]):
        return Rejected("corrupt", "a clean aperture with a division by zero")
    wide, high, right, down = (Fraction(*values[index : index + 2]) for index in range(0, 8, 2))
    left, top = Fraction(width) / 2 + right - wide / 2, Fraction(height) / 2 + down - high / 2
    sides = (left, top, left + wide, top + high)
    if any(side.denominator != 1 for side in sides) or not (
        0 <= left < sides[2] <= width and 0 <= top < sides[3] <= height
    ):
        return Rejected("corrupt", f"a clean aperture that is no part of {width}x{height} pixels")
    crop = (int(left), int(top), int(sides[2]), int(sides[3]))
    return None if crop == (0, 0, width, height) else crop


def _aperture_of_track(payload: bytes, track: Box) -> Box | None:
    table = inner_box(payload, track, b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(boxes_in(payload, table.start + 8, table.stop), None) if table is not None else None
    return inner_box(payload, entry, b"clap", skip=_SAMPLE_ENTRY) if entry is not None else None


def _aperture_of_item(payload: bytes) -> Box | None:
    meta = inner_box(payload, whole_file(payload), b"meta")
    primary = _primary_item(payload, meta) if meta is not None else None
    tables = inner_box(payload, meta, b"iprp", skip=4) if meta is not None else None
    container = inner_box(payload, tables, b"ipco") if tables is not None else None
    if primary is None or tables is None or container is None:
        return None
    properties = list(boxes_in(payload, container.start, container.stop))
    for table in boxes_in(payload, tables.start, tables.stop):
        if table.name == b"ipma":
            for number in _properties_of(payload, table, primary):
                if 0 < number <= len(properties) and properties[number - 1].name == b"clap":
                    return properties[number - 1]
    return None


def _properties_of(payload: bytes, table: Box, item: int) -> list[int]:
    """Numbers of the properties that the table (ipma) gives to an item, from 1."""
    if table.start + 8 > table.stop:
        return []
    identifier = 4 if payload[table.start] else 2
    width = 2 if payload[table.start + 3] & 1 else 1
    (entries,) = struct.unpack_from(">I", payload, table.start + 4)
    offset = table.start + 8
    for _ in range(entries):
        if offset + identifier + 1 > table.stop:
            return []
        found, count = int.from_bytes(payload[offset : offset + identifier], "big"), payload[offset + identifier]
        offset += identifier + 1
        if found == item and offset + count * width <= table.stop:
            mask = (1 << 8 * width - 1) - 1  # without the bit that says whether it is essential
            places = range(offset, offset + count * width, width)
            return [int.from_bytes(payload[place : place + width], "big") & mask for place in places]
        offset += count * width
    return []


def _frames_of_sequence(payload: bytes) -> int:
    track = _picture_track(payload)
    sizes = inner_box(payload, track, b"mdia", b"minf", b"stbl", b"stsz") if track is not None else None
    if sizes is None or sizes.stop - sizes.start < 12:
        return 0
    size, count = struct.unpack_from(">II", payload, sizes.start + 4)
    # Frames of one size have no table.
    return int(count if size else min(count, (sizes.stop - sizes.start - 12) // 4))


def _picture_track(payload: bytes) -> Box | None:
    """The first track of pictures; alpha has a track of its own."""
    movie = inner_box(payload, whole_file(payload), b"moov")
    for track in boxes_in(payload, movie.start, movie.stop) if movie is not None else ():
        handler = inner_box(payload, track, b"mdia", b"hdlr") if track.name == b"trak" else None
        if handler is not None and payload[handler.start + 8 : handler.start + 12] in (b"pict", b"vide"):
            return track
    return None


def _shown_items(payload: bytes) -> int:
    """Image items that are neither hidden nor part, thumbnail or auxiliary of another one; the primary one counts."""
    meta = inner_box(payload, whole_file(payload), b"meta")
    if meta is None:
        return 0
    primary, items = _primary_item(payload, meta), _items(payload, meta)
    references = inner_box(payload, meta, b"iref", skip=4)
    dependent = set[int]() if references is None else _dependent_items(payload, references)
    return len({item for item in items if item not in dependent} | ({primary} if primary is not None else set()))


def _primary_item(payload: bytes, meta: Box) -> int | None:
    box = inner_box(payload, meta, b"pitm", skip=4)
    if box is None or box.start + 6 > box.stop:
        return None
    return int.from_bytes(payload[box.start + 4 : box.start + (8 if payload[box.start] else 6)], "big")


def _items(payload: bytes, meta: Box) -> set[int]:
    """Identifiers of the image items that are not hidden."""
    table = inner_box(payload, meta, b"iinf", skip=4)
    if table is None or table.start + 6 > table.stop:
        return set()
    items = set[int]()
    for box in boxes_in(payload, table.start + (8 if payload[table.start] else 6), table.stop):
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
    for box in boxes_in(payload, references.start + 4, references.stop):
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
