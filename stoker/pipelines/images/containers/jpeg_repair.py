"""Where a JPEG goes on behind metadata of a wrong length, so that damaged EXIF, XMP or profiles cost no pixels."""

import re

_SOS = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEGMENTS = frozenset((*_FRAMES, 0xC4, 0xCC, 0xDA, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
_CANDIDATE = re.compile(b"\xff[" + re.escape(bytes(sorted(_SEGMENTS - {_SOS}))) + b"]")
_ADOBE = b"Adobe\0d"  # the segment's name and version
_MAX_LENGTH = 65_535  # bytes of a segment


def find_next_segment(payload: bytes, start: int) -> int | None:
    """Where the first segment behind metadata begins whose content is at ``start``; None if that cannot be told.

    From there segment must follow segment, without a gap, up to the image data. A thumbnail within the metadata, which
    is a JPEG too, is none of it.
    """
    seen = set[int]()
    for match in _CANDIDATE.finditer(payload, start, min(len(payload), start + _MAX_LENGTH + 2)):
        offset = match.start()
        if offset not in seen and _leads_to_image(payload, offset, seen) and not _is_nested(payload, start, offset):
            # What says how colours are stored must not be lost.
            return None if _ADOBE in payload[start:offset] else offset
    return None


def _leads_to_image(payload: bytes, offset: int, seen: set[int]) -> bool:
    """Whether segments follow each other from here up to the image data, a frame header and tables among them."""
    markers = set[int]()
    while offset + 4 <= len(payload) and payload[offset] == 0xFF:
        if payload[offset + 1] == 0xFF:
            offset += 1
            continue
        marker, length = payload[offset + 1], int.from_bytes(payload[offset + 2 : offset + 4], "big")
        if marker not in _SEGMENTS or length < 2 or offset in seen:
            return False
        seen.add(offset)
        markers.add(marker)
        if marker == _SOS:
            return bool(markers & _FRAMES) and 0xDB in markers
        offset += 2 + length
    return False


def _is_nested(payload: bytes, start: int, offset: int) -> bool:
    """Whether a JPEG began since ``start`` that has not ended."""
    return payload.rfind(b"\xff\xd8\xff", start, offset + 1) > payload.rfind(b"\xff\xd9", start, offset)
