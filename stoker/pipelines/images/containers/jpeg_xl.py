"""JPEG XL images, decoded by the optional package pillow-jxl-plugin; their size is read here before that.

The decoder turns images upright itself; EXIF beside them has no say (ISO/IEC 18181-2). A JPEG that was packed without
loss comes out as the JPEG that it was.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from stoker.pipelines.images.containers.iso_boxes import boxes_in
from stoker.pipelines.images.formats import JXL_CODESTREAM, is_complete, library_of, missing_library
from stoker.pipelines.rejected import Rejected

_MAX_HEADER = 4096  # bytes of the codestream in which its header ends
_RATIOS = {1: (1, 1), 2: (6, 5), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width to height
_SIDE = ((9, 1), (13, 1), (18, 1), (30, 1))  # bits of a side less the offset, by selector
_PREVIEW = ((6, 1), (8, 65), (10, 321), (12, 1345))
_PREVIEW_BY_8 = ((0, 16), (0, 32), (5, 1), (9, 33))
_SRGB = re.compile(r"(?:RGB|Gra)_D65_\w{3}_SRG")  # libjxl's names of the profile


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """Width and height as stored, and whether the file is an animation."""

    width: int
    height: int
    animated: bool


def read_jxl_header(payload: bytes) -> JxlHeader | Rejected:
    """The header of a codestream, or of the one in a container; ``truncated`` or ``corrupt``."""
    codestream = _codestream(payload)
    if not codestream.startswith(JXL_CODESTREAM):
        return Rejected("truncated", "it ends before its image data")
    bits = _Bits(codestream[2:])
    try:
        height, width = _size(bits, _SIDE)
        return JxlHeader(width, height, _is_animated(bits))
    except EOFError:
        return Rejected("truncated", "it ends in its header")


def decode_jxl(payload: bytes) -> bytes | Image.Image | Rejected:
    """The image upright in mode L, LA, RGB, RGBA, I;16 or F; the bytes of the JPEG if it is one packed without loss."""
    library = library_of("jxl")
    if library is None:
        return missing_library("jxl")
    try:
        is_jpeg, info, content, profile, _ = library.Decoder(num_threads=1)(payload)
    except RuntimeError:  # its message is the same for all faults
        reason = "corrupt" if is_complete(payload, "jxl") else "truncated"
        return Rejected(reason, "its image data are damaged, or end early")
    if is_jpeg:
        return bytes(content)
    size = (info.width, info.height)
    if info.mode == "F;16":
        halves = np.frombuffer(content, np.float16).reshape(size[::-1])
        image = Image.fromarray(halves.astype(np.float32))
    elif info.mode in ("L", "LA", "RGB", "RGBA", "I;16", "F"):
        image = Image.frombytes(info.mode, size, content)
    else:
        return Rejected("unsupported_format", f"JPEG XL with pixels {info.mode}")
    if profile and not _is_srgb(profile):
        image.info["icc_profile"] = bytes(profile)
    return image


def _is_srgb(profile: bytes) -> bool:
    try:
        return bool(_SRGB.match(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description or ""))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return True  # damaged: as good as none


def _codestream(payload: bytes) -> bytes:
    """The beginning of the codestream."""
    if payload.startswith(JXL_CODESTREAM):
        return payload[:_MAX_HEADER]
    parts = b""
    for box in boxes_in(payload, 0, len(payload)):
        if box.name == b"jxlc":
            return payload[box.start : box.start + _MAX_HEADER]
        if box.name == b"jxlp":  # parts in their order, each behind its number
            parts += payload[box.start + 4 : min(box.stop, box.start + 4 + _MAX_HEADER)]
            if len(parts) >= _MAX_HEADER:
                break
    return parts[:_MAX_HEADER]


class _Bits:
    """Whole numbers of some bits each, from the lowest bit of the first byte on."""

    def __init__(self, content: bytes) -> None:
        self._value = int.from_bytes(content, "little")
        self._left = len(content) * 8

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        result = self._value & ((1 << count) - 1)
        self._value >>= count
        return result

    def choose(self, kinds: tuple[tuple[int, int], ...]) -> int:
        """A number in one of four forms: so many bits, and what is added to them."""
        bits, offset = kinds[self.take(2)]
        return self.take(bits) + offset


def _size(bits: _Bits, kinds: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """Height and width (SizeHeader)."""
    divisible = bits.take(1)

    def side() -> int:
        return (bits.take(5) + 1) * 8 if divisible else bits.choose(kinds)

    return _sides(bits, side)


def _sides(bits: _Bits, side: Callable[[], int]) -> tuple[int, int]:
    height = side()
    ratio = bits.take(3)
    if not ratio:
        return height, side()
    across, down = _RATIOS[ratio]
    return height, height * across // down


def _is_animated(bits: _Bits) -> bool:
    """The flag of ImageMetadata, behind orientation, intrinsic size and preview."""
    if bits.take(1) or not bits.take(1):  # all defaults, or no extra fields
        return False
    bits.take(3)
    if bits.take(1):
        _size(bits, _SIDE)
    if bits.take(1):
        by_eight = bits.take(1)
        _sides(bits, lambda: bits.choose(_PREVIEW_BY_8 if by_eight else _PREVIEW))
    return bool(bits.take(1))
