"""Strict decoding of PNG images: what the format can check is checked, and metadata are no reason to lose pixels.

Pillow ignores the checksums of image data and accepts an image whose rows end early; of metadata it accepts no more
than 1 MiB, and no wrong checksum. So the file's chunks are checked here, and Pillow gets a file of those it needs.
"""

import io
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from stoker.pipelines.images.colour import MAX_PROFILE
from stoker.pipelines.images.containers.metadata_repair import find_png_chunk
from stoker.pipelines.rejected import Rejected

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KNOWN = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
_PIXELS = _KNOWN | {b"tRNS"}  # a damaged one is damage to pixels
_METADATA = frozenset(
    b"acTL bKGD cHRM cICP cLLI eXIf fcTL fdAT gAMA hIST iCCP iTXt mDCV oFFs pCAL pHYs sBIT sCAL sPLT sRGB sTER tEXt "
    b"tIME zTXt".split()
)
_KEPT = _PIXELS | {b"eXIf"}
_SHOWN = _PIXELS | frozenset(b"acTL cHRM cICP cLLI fcTL fdAT gAMA mDCV sBIT sRGB".split())
_XMP, _RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"  # texts that may hold the orientation
_MAX_TEXT = 1 << 19  # bytes of such a text
_MAX_REPAIRS = 8  # chunks of metadata whose end is searched
_STRIP_ROWS = 64  # that are compared at once
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True, slots=True, eq=False)
class PngData:
    """A PNG image with no more metadata than say how to show it, and its ICC profile."""

    payload: bytes
    profile: bytes | None


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    start: int
    stop: int
    intact: bool  # its checksum is right

    def content(self, payload: bytes) -> bytes:
        return payload[self.start + 8 : self.stop - 4]


def header_alone(payload: bytes) -> bytes:
    """A file of the header chunk alone, for Pillow to read size and mode."""
    return payload[:33] + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"


def check_png(payload: bytes) -> PngData | Rejected:
    """The image of a PNG file, or ``truncated`` or ``corrupt``. Pixels are not decoded."""
    chunks: list[_Chunk] = []
    for chunk in _chunks(payload):
        if isinstance(chunk, Rejected):
            return chunk
        chunks.append(chunk)
    fault = _fault_of(chunks, payload)
    if fault is not None:
        return fault
    profile, kept = None, []
    for chunk in chunks:
        if (chunk.name in _KEPT and chunk.intact) or _is_orientation(chunk, payload):
            kept.append(chunk)
        elif chunk.name == b"iCCP" and chunk.intact and profile is None:
            profile = _inflate(chunk.content(payload).partition(b"\0")[2][1:], MAX_PROFILE)
    return PngData(_joined(kept, len(chunks), payload), profile)


class StrictPng(PngImagePlugin.PngImageFile):
    """Pillow's PNG image, which can tell whether every row was decoded."""

    def load_prepare(self) -> None:
        """Fill the last row with random values, so that it shows whether it is decoded."""
        super().load_prepare()
        width, height = self.size
        bands = len(self.getbands())
        ink = tuple(secrets.token_bytes(bands)) if bands > 1 else 255 if self.mode == "1" else 7
        self.im.paste(ink, (0, height - 1, width, height))
        self._last_row = self._read_last_row()

    def last_row_is_decoded(self) -> bool:
        """Whether the last row surely was decoded. False proves nothing: it may have the values it was filled with."""
        return not self.info.get("interlace") and self._read_last_row() != self._last_row

    def _read_last_row(self) -> bytes:
        width, height = self.size
        return self._new(self.im.crop((0, height - 1, width, height))).tobytes()


def shown_chunks(payload: bytes) -> list[bytes]:
    """The chunks of a checked file that say how it is shown, without profile and orientation."""
    chunks = [chunk for chunk in _chunks(payload) if isinstance(chunk, _Chunk)]
    return [payload[chunk.start : chunk.stop] for chunk in chunks if chunk.name in _SHOWN and chunk.intact]


def is_plain(payload: bytes) -> bool:
    """Whether a checked file is a still image of 8 bits, grey or colour, without palette and transparency."""
    names = {chunk.name for chunk in _chunks(payload) if isinstance(chunk, _Chunk)}
    return payload[24] == 8 and payload[25] in (0, 2) and not names & {b"tRNS", b"acTL"}


def rows_are_complete(png: PngData) -> bool:
    """Whether the image data have as many bytes as the header says; they are decompressed for it, not kept."""
    inflater, expected, found = zlib.decompressobj(), 0, 0
    for chunk in _chunks(png.payload):
        assert isinstance(chunk, _Chunk)  # they were checked
        if chunk.name == b"IHDR":
            expected = _inflated_size(chunk.content(png.payload))
        elif chunk.name == b"IDAT":
            pending = chunk.content(png.payload)
            while pending and not inflater.eof:
                found += len(inflater.decompress(pending, 1 << 20))
                pending = inflater.unconsumed_tail
    found += len(inflater.flush(1 << 16))
    return found >= expected


def _inflated_size(header: bytes) -> int:
    """The bytes of image data, filter types included."""
    width, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS[colour_type]
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = max(0, -(-(width - left) // across)), max(0, -(-(height - top) // down))
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total


def _chunks(payload: bytes) -> Iterator[_Chunk | Rejected]:
    """All chunks up to IEND; a reject, and then no more, where there is none."""
    view, offset, repairs = memoryview(payload), len(SIGNATURE), 0
    while True:
        if offset + 12 > len(payload):
            yield Rejected("truncated", "it ends without its last chunk")
            return
        size, name = int.from_bytes(payload[offset : offset + 4], "big"), payload[offset + 4 : offset + 8]
        if not (name.isalpha() and name.isascii()) or (size >= 1 << 31 and name not in _METADATA):
            yield Rejected("corrupt", f"no chunk begins at byte {offset}")
            return
        stop = offset + 12 + size
        intact = _is_intact(view, offset, stop)
        if not intact and name in _METADATA and repairs < _MAX_REPAIRS and not _begins_chunk(view, stop):
            stop = find_png_chunk(payload, offset + 8) or stop  # its length is wrong
            repairs += 1
        if stop > len(payload):
            yield Rejected("truncated", f"chunk {name.decode()} reaches behind the end")
            return
        yield _Chunk(name, offset, stop, intact)
        if name == b"IEND":
            return
        offset = stop


def _is_intact(view: memoryview, offset: int, stop: int) -> bool:
    return stop <= len(view) and zlib.crc32(view[offset + 4 : stop - 4]) == int.from_bytes(view[stop - 4 : stop], "big")


def _begins_chunk(view: memoryview, offset: int) -> bool:
    """Whether a chunk of a known name begins there, or an intact one of any name."""
    name = bytes(view[offset + 4 : offset + 8])
    if name in _METADATA | _PIXELS:
        return True
    size = int.from_bytes(view[offset : offset + 4], "big")
    return name.isalpha() and name.isascii() and _is_intact(view, offset, offset + 12 + size)


def _fault_of(chunks: list[_Chunk], payload: bytes) -> Rejected | None:
    """``corrupt`` or ``truncated`` if a chunk that pixels hang on is damaged, missing or unknown."""
    for chunk in chunks:
        if not chunk.intact and chunk.name not in _METADATA:  # else the damage may have hit the name
            return Rejected("corrupt", f"the checksum of chunk {chunk.name.decode()} is wrong")
        if chunk.name[:1].isupper() and chunk.name not in _KNOWN:
            return Rejected("corrupt", f"chunk {chunk.name.decode()} is unknown")
    names = [chunk.name for chunk in chunks]
    if names[0] != b"IHDR" or names.count(b"IHDR") != 1 or chunks[0].stop - chunks[0].start != 25:
        return Rejected("corrupt", "no header, or several")
    depth, colour_type, compression, filtering, interlace = chunks[0].content(payload)[8:]
    if depth not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlace > 1:
        return Rejected("corrupt", f"colour type {colour_type}, {depth} bits")
    if (colour_type == 3 and b"PLTE" not in names) or names.count(b"PLTE") > 1 or names.count(b"tRNS") > 1:
        return Rejected("corrupt", "its palette is missing, or there are several")
    if b"IDAT" not in names:
        return Rejected("truncated", "it has no image data")
    first, last = names.index(b"IDAT"), len(names) - names[::-1].index(b"IDAT")
    if set(names[first:last]) != {b"IDAT"}:
        return Rejected("corrupt", "its image data are interrupted")
    return None


def _is_orientation(chunk: _Chunk, payload: bytes) -> bool:
    """Whether the chunk is a text that may hold the orientation, and that Pillow reads."""
    if chunk.name not in (b"iTXt", b"zTXt", b"tEXt") or not chunk.intact or chunk.stop - chunk.start > _MAX_TEXT:
        return False
    name, _, rest = chunk.content(payload).partition(b"\0")
    if name not in (_XMP, _RAW_EXIF):
        return False
    if chunk.name == b"zTXt":
        return _inflate(rest[1:], _MAX_TEXT) is not None
    if chunk.name == b"iTXt" and rest[:1] == b"\1":
        return _inflate(rest[2:].split(b"\0", 2)[-1], _MAX_TEXT) is not None
    return True


def _inflate(content: bytes, most: int) -> bytes | None:
    """The decompressed bytes; None if they are damaged or more than ``most``."""
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(content, most)
    except zlib.error:
        return None
    return result if inflater.eof else None


def _joined(kept: list[_Chunk], chunks: int, payload: bytes) -> bytes:
    """A file of these chunks; the payload itself if these are all and nothing follows them."""
    if len(kept) == chunks and kept[-1].stop == len(payload):
        return payload
    spans: list[list[int]] = []
    for chunk in kept:
        if spans and spans[-1][1] == chunk.start:
            spans[-1][1] = chunk.stop
        else:
            spans.append([chunk.start, chunk.stop])
    return b"".join((SIGNATURE, *(payload[start:stop] for start, stop in spans)))


def open_strict(png: PngData) -> StrictPng:
    """The image with its header read, its profile as Pillow has it."""
    image = StrictPng(io.BytesIO(png.payload))
    if png.profile is not None:
        image.info["icc_profile"] = png.profile
    return image


def is_deep_and_transparent(png: PngData) -> bool:
    """Whether one colour of 16 bits is transparent."""
    return png.payload[24] == 16 and png.payload.find(b"tRNS", 0, png.payload.find(b"IDAT")) > 0


def with_deep_transparency(image: StrictPng, png: PngData) -> Image.Image:
    """The decoded image, with an alpha channel that shows which pixels have the transparent colour of 16 bits.

    Pillow compares only eight of the bits, and none of grey images, so that wrong pixels would be transparent.
    """
    key = np.array(image.info.get("transparency"), np.uint16)
    lower = None
    if image.mode == "RGB":
        lower = open_strict(png)
        lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]  # as if the lower byte came first
        lower.load()
    alpha, grey = Image.new("L", image.size, 255), Image.new("L", image.size if lower is None else (0, 0))
    for top in range(0, image.height, _STRIP_ROWS):
        box = (0, top, image.width, min(top + _STRIP_ROWS, image.height))
        values = np.asarray(image.crop(box)).astype(np.uint16)
        if lower is not None:
            values = values << 8 | np.asarray(lower.crop(box))
        else:
            grey.paste(Image.fromarray((values >> 8).astype(np.uint8)), box)
        is_clear = values == key if values.ndim == 2 else (values == key).all(axis=2)
        alpha.paste(0, box, Image.fromarray(is_clear))
    result: Image.Image = image if lower is not None else grey
    result.info = {name: value for name, value in image.info.items() if name != "transparency"}
    result.putalpha(alpha)
    return result
