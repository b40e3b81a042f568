"""Strict decoding of JPEG images: missing, extra or damaged image data are faults, never grey or invented pixels.

libjpeg turns such data into warnings and fills the gaps; simplejpeg, which is the same library with the same pixels,
can make warnings errors. Before that the file's segments are checked here and written anew without metadata, so that
harmless oddities (junk after a comment, a damaged profile, a missing end marker) are no warnings.

What no decoder can tell: a change of entropy-coded data that happens to be valid Huffman codes for the same number of
blocks, such as a flipped bit. The format has no checksum.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from stoker.pipelines.images.containers.jpeg_repair import find_next_segment
from stoker.pipelines.rejected import Rejected

_SOI, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PROGRESSIVE, _LOSSLESS = frozenset((0xC2, 0xC6, 0xCA, 0xCE)), frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # in entropy-coded data: neither a stuffed FF nor a restart
_MAX_SCANS = 32  # of the largest progressive JPEG, which is decoded once for each scan; encoders write about ten
_METADATA = frozenset((*range(0xE0, 0xF0), _COM))
_MAX_REPAIRS = 8  # segments of metadata whose end is searched
_MAX_JUNK = 16  # bytes between two segments that are skipped: less than most segments that damage would hide
# Metadata on which neither orientation nor colours hang: not EXIF and XMP (APP1) and profiles (APP2).
_HARMLESS = frozenset((_APP0, *range(0xE3, 0xF0), _COM))

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class JpegData:
    """A JPEG image, with what its metadata say of orientation and colours.

    ``payload`` is what is decoded, without metadata. ``info``: EXIF, XMP and ICC profile, named as in Pillow.
    ``strict``: simplejpeg reads it; else, as lossless JPEG, Pillow must.
    """

    payload: bytes
    width: int
    height: int
    components: int
    strict: bool
    inverted: bool  # CMYK as Adobe writes it
    info: dict[str, bytes]
    coefficients: int = 0  # that the decoder keeps, because they come in several scans

    @property
    def mode(self) -> str:
        """Pillow's name of its colours."""
        return {1: "L", 4: "CMYK"}.get(self.components, "RGB")


@dataclass(frozen=True, slots=True)
class _Segment:
    marker: int
    start: int
    stop: int
    junk: bytes  # before it, after the segment before

    def content(self, payload: bytes) -> bytes:
        return payload[self.start + 4 : self.stop]


def check_jpeg(payload: bytes, *, max_pixels: int) -> JpegData | Rejected:
    """The image data of a JPEG file, or ``truncated``, ``corrupt`` or ``too_many_pixels``."""
    segments = _segments(payload)
    if isinstance(segments, Rejected):
        return segments
    frames = [segment for segment in segments if segment.marker in _FRAMES]
    if len(frames) != 1:
        return Rejected("corrupt", f"{len(frames)} frame headers")
    frame = frames[0].content(payload)
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5]:
        return Rejected("corrupt", "a frame header of a wrong length")
    precision, height, width, components = struct.unpack(">BHHB", frame[:6])
    if width * height > max_pixels:
        return Rejected("too_many_pixels", f"{width}x{height}, at most {max_pixels} pixels are decoded")
    if not width or not height or components not in (1, 3, 4):
        return Rejected("corrupt", f"{width}x{height} pixels of {components} components")
    adobe = next((s.content(payload) for s in reversed(segments) if _is_adobe(s, payload)), None)
    fault = _fault_of_junk(segments, payload, components, adobe)
    if fault is not None:
        return fault
    scans = payload[segments[-1].start :]
    ends = scans.rfind(b"\xff\xd9") > 0  # from the end, where it is nearly always
    marker = frames[0].marker
    if not ends and marker not in _PROGRESSIVE:
        scans = scans.rstrip(b"\xff") + b"\xff\xd9"  # strict decoding tells whether more than the end marker is missing
    else:
        scans = scans[: _end_of(scans, frame, marker)]
    fault = _fault_of_scans(scans, frame, marker, max_work=max_pixels * _MAX_SCANS)
    if fault is not None or (not ends and marker in _PROGRESSIVE):
        return fault or Rejected("truncated", "the last scans are missing")
    return JpegData(
        payload=_written(segments, payload, scans, marker),
        width=width,
        height=height,
        components=components,
        # simplejpeg 1.9 overruns its buffer when a lossless image is to be scaled.
        strict=marker not in _LOSSLESS and precision == 8,
        inverted=components == 4 and adobe is not None,
        info=_info(segments, payload),
        coefficients=0 if _is_one_scan(scans, frame, marker) else _coefficients(frame),
    )


def decode_strictly(
    jpeg: JpegData, *, grey: bool, scale: int, memory: Pixels | None = None
) -> Pixels | Rejected | None:
    """Pixels (height, width, 1, 3 or 4) at 1/``scale`` of the size, CMYK of four components; None: let Pillow try.

    ``memory``: four bytes a pixel of the full size, where they are to lie: CMYK, or RGB and a byte without meaning.
    """
    if memory is not None:
        space, options = "CMYK" if jpeg.components == 4 else "RGBX", {"buffer": memory.reshape(-1)}
    else:
        space, options = _space_and_scale(jpeg, grey, scale)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(jpeg.payload, colorspace=space, **options)
    except ValueError as error:
        message = str(error)
        if "remature end" in message:
            return Rejected("truncated", message)
        if message.startswith(("Corrupt JPEG data", "Inconsistent", "Invalid SOS", "Unknown Adobe")):
            return Rejected("corrupt", message)
        return None
    return np.subtract(255, pixels, out=pixels) if jpeg.inverted else pixels


def _space_and_scale(
    jpeg: JpegData, grey: bool, scale: int
) -> tuple[str, dict[str, Any]]:  # Any: arguments of simplejpeg
    space = "CMYK" if jpeg.components == 4 else "GRAY" if grey or jpeg.components == 1 else "RGB"
    # simplejpeg takes the smallest scale whose image is not below these.
    return space, {"min_height": -(-jpeg.height // scale), "min_width": -(-jpeg.width // scale)} if scale > 1 else {}


def _segments(payload: bytes) -> list[_Segment] | Rejected:
    """The segments before the image data; the last one is the first SOS.

    Where metadata end is not believed if no other segment begins there: its length may be what is damaged.
    """
    segments: list[_Segment] = []
    offset, repairs = 2, 0
    while True:
        segment = _segment_at(payload, offset)
        is_broken = isinstance(segment, Rejected) or bool(segment.junk)
        if is_broken and segments and segments[-1].marker in _METADATA and repairs < _MAX_REPAIRS:
            repairs += 1
            stop = find_next_segment(payload, segments[-1].start + 4)
            if stop is not None and stop != offset:
                segments[-1] = replace(segments[-1], stop=stop)
                offset = stop
                continue
        if isinstance(segment, Rejected):
            return segment
        segments.append(segment)
        if segment.marker == _SOS:
            return segments
        offset = segment.stop


def _segment_at(payload: bytes, offset: int) -> _Segment | Rejected:
    """The next segment at or behind an offset. Of metadata with an impossible length, the header alone."""
    start = _next_marker(payload, offset)
    if start is None or start + 4 > len(payload):
        return Rejected("truncated", "it ends before its image data")
    marker = payload[start + 1]
    stop = start + 2 + int.from_bytes(payload[start + 2 : start + 4], "big")
    junk = payload[offset:start].strip(b"\xff")
    if marker in _METADATA and not start + 4 <= stop <= len(payload):
        stop = start + 4
    if marker in (_SOI, _EOI, 1) or 0xD0 <= marker <= 0xD7 or stop < start + 4:
        return Rejected("corrupt", f"marker 0xFF{marker:02X} in its header")
    if stop > len(payload):
        return Rejected("truncated", "it ends before its image data")
    if len(junk) > _MAX_JUNK:
        return Rejected("corrupt", f"{len(junk)} bytes that belong to no segment")
    return _Segment(marker, start, stop, junk)


def _next_marker(payload: bytes, offset: int) -> int | None:
    """Where the next marker's last 0xFF is."""
    while True:
        start = payload.find(b"\xff", offset)
        if start < 0 or start + 1 >= len(payload):
            return None
        if payload[start + 1] not in (0, 0xFF):
            return start
        offset = start + 1


def _is_adobe(segment: _Segment, payload: bytes) -> bool:
    """Whether the segment says how colours are stored, as libjpeg reads it."""
    content = segment.content(payload)
    return segment.marker == _APP14 and len(content) >= 12 and content.startswith(b"Adobe")


def _info(segments: list[_Segment], payload: bytes) -> dict[str, bytes]:
    """The metadata that say how to show the image, put together as Pillow does."""
    info: dict[str, bytes] = {}
    profile: list[bytes] = []
    for segment in segments:
        if segment.marker not in (_APP1, _APP2):
            continue
        content = segment.content(payload)
        if content.startswith(b"Exif\0\0"):
            info["exif"] = info["exif"] + content[6:] if "exif" in info else content
        elif content.startswith(_XMP):
            info["xmp"] = content[len(_XMP) :]
        elif content.startswith(b"ICC_PROFILE\0") and len(content) > 14:
            profile.append(content)
    profile.sort()
    if profile and profile[0][13] == len(profile):
        info["icc_profile"] = b"".join(part[14:] for part in profile)
    return info


def _fault_of_junk(segments: list[_Segment], payload: bytes, components: int, adobe: bytes | None) -> Rejected | None:
    """``corrupt`` if bytes between segments may come from damage that changes pixels.

    Damage in a segment shifts its end: what follows it, or was cut off it, lies between segments. After metadata that
    neither orientation nor colours hang on, that is harmless.
    """
    before: _Segment | None = None
    for segment in segments:
        if segment.junk:
            found = f"{len(segment.junk)} bytes that belong to no segment"
            harmless = before is None or before.marker in _HARMLESS
            if not harmless or components == 4 or (adobe is not None and adobe[11] != 1):
                return Rejected("corrupt", found)
        before = segment
    return None


def _fault_of_scans(scans: bytes, frame: bytes, marker: int, *, max_work: int) -> Rejected | None:
    """``corrupt`` or ``truncated`` if the scans do not hold every bit of every coefficient of every component.

    ``too_many_pixels`` if to decode all scans is as much work as ``max_work`` pixels.
    """
    if _is_one_scan(scans, frame, marker):
        return None  # one scan of all components; simplejpeg tells whether it is whole
    # The lowest bit that was sent, by component and coefficient; a sequential scan sends all at once.
    missing = {frame[6 + 3 * component]: [1] * 64 for component in range(frame[5])}
    height, width = struct.unpack(">HH", frame[1:5])
    for number, (components, first, last, bit) in enumerate(_scan_headers(scans)):
        if (number + 1) * height * width > max_work:
            return Rejected("too_many_pixels", f"{width}x{height} in more than {number} scans")
        for component in components:
            if component not in missing:
                return Rejected("corrupt", f"a scan of component {component}, which is not there")
            if marker in _PROGRESSIVE:
                missing[component][first : last + 1] = [bit] * len(missing[component][first : last + 1])
            else:
                missing[component] = [0] * 64
        if marker not in _PROGRESSIVE and not any(map(any, missing.values())):
            break
    if any(map(any, missing.values())):
        return Rejected("truncated", "scans are missing")
    return None


def _is_one_scan(scans: bytes, frame: bytes, marker: int) -> bool:
    """Whether the first scan has all components whole."""
    return marker not in _PROGRESSIVE and len(scans) > 4 and scans[4] == frame[5]


def _coefficients(frame: bytes) -> int:
    """The number of coefficients of all components."""
    height, width = struct.unpack(">HH", frame[1:5])
    factors = [(factor >> 4, factor & 15) for factor in frame[7::3]]
    across, down = max(factor[0] for factor in factors) or 1, max(factor[1] for factor in factors) or 1
    return sum(height * width * factor[0] * factor[1] // (across * down) for factor in factors)


def _end_of(scans: bytes, frame: bytes, marker: int) -> int:
    """Where the image ends: what follows its end marker, as a second image or junk, is none of it."""
    if _is_one_scan(scans, frame, marker):
        return scans.find(b"\xff\xd9", 4 + 2 * frame[5]) + 2
    offset = 0
    while (found := _MARKER.search(scans, offset)) is not None and found[1][0] != _EOI:
        offset = found.end() + max(2, int.from_bytes(scans[found.end() : found.end() + 2], "big"))
    return len(scans) if found is None else found.end()


def _scan_headers(scans: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Component identifiers, first and last coefficient and lowest bit of each scan."""
    offset = 0
    while True:
        found = _MARKER.search(scans, offset)
        if found is None or found[1][0] == _EOI:
            return
        length = int.from_bytes(scans[found.end() : found.end() + 2], "big")
        content = scans[found.end() + 2 : found.end() + length]
        if found[1][0] == _SOS and content and len(content) == 4 + 2 * content[0]:
            yield content[1:-3:2], content[-3], content[-2], content[-1] & 15
        offset = found.end() + max(length, 2)


def _written(segments: list[_Segment], payload: bytes, scans: bytes, marker: int) -> bytes:
    """The file without metadata and junk, with a usual JFIF segment if it had one."""
    parts = [b"\xff\xd8"]
    for segment in segments[:-1]:
        if (
            segment.marker == _APP0
            and segment.content(payload).startswith(b"JFIF\0")
            and segment.stop - segment.start >= 16
        ):
            parts.append(_JFIF)
        elif _is_adobe(segment, payload) or not (0xE0 <= segment.marker <= 0xEF or segment.marker == _COM):
            parts.append(payload[segment.start : segment.stop])
    length = segments[-1].stop - segments[-1].start
    if marker not in _PROGRESSIVE and marker not in _LOSSLESS and scans[length - 3 : length] == b"\0\0\0":
        # Some encoders say 0 to 0 for the coefficients of a sequential scan; libjpeg warns, and reads all 64.
        scans = scans[: length - 2] + b"\x3f" + scans[length - 1 :]
    return b"".join((*parts, scans))
