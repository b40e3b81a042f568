"""Decodes regions of JPEG images: only what a crop needs, at the smallest scale that has enough pixels.

The engine is libturbojpeg 3, from the package ``turbojpeg`` or the system. Without it simplejpeg, which is
the same library, decodes whole images and cuts the region out. Of an intact image both give the same pixels, bit for
bit. For what neither reads (CMYK, 12 bits, arithmetic coding, odd files) the functions return None: let Pillow try.
"""

import importlib.util
import re
import threading
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from stoker.training.pictures import libturbojpeg
from stoker.training.pictures.crops import Box

Pixels = npt.NDArray[np.uint8]
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_WITHOUT_LENGTH = (0x01, 0xD8)
MAGIC = b"\xff\xd8\xff"
SCALES = (1, 2, 4, 8)  # n of scales 1/n that libjpeg-turbo has fast code for
_MAX_SCRATCH = 64 * 2**20  # bytes that a thread keeps

# libjpeg's warnings when pixels are lost; libjpeg would invent them, and Pillow too, without a warning. A
# premature end of the file is left to Pillow: it tells a truncated image from one that lacks only its end marker.
_DATA_LOST = ("premature end of data segment", "bad Huffman code", "instead of RST", "bad arithmetic code")


class DamagedImage(Exception):  # PictureMaker and models catch it, and name the sample
    """An image that cannot be decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Jpeg:
    """A JPEG image and what its header says."""

    payload: bytes | memoryview
    width: int
    height: int
    mcu_width: int  # pixels; columns are decoded in units of it


def engine() -> str:
    """What decodes JPEGs here: ``turbojpeg``, ``simplejpeg`` or ``pillow``."""
    if libturbojpeg.library() is not None:
        return "turbojpeg"
    return "simplejpeg" if _has_simplejpeg() else "pillow"


def open_jpeg(payload: bytes | memoryview) -> Jpeg | None:
    """The image with its header read; None for what only Pillow may be able to read."""
    library = libturbojpeg.library()
    if library is None:
        return _open_by_simplejpeg(payload) if engine() == "simplejpeg" else None
    handle, data = _thread.address(), np.frombuffer(payload, np.uint8)
    _thread.header_of = None
    if library.tj3DecompressHeader(handle, data.ctypes.data, data.size) != 0:
        _thread.handle = None
        return None
    mcu = libturbojpeg.MCU_SIZES.get(library.tj3Get(handle, libturbojpeg.SUBSAMPLING))
    if (
        mcu is None
        or library.tj3Get(handle, libturbojpeg.COLOURSPACE) not in libturbojpeg.READABLE_COLOURSPACES
        or library.tj3Get(handle, libturbojpeg.PRECISION) != 8
    ):
        return None
    width, height = library.tj3Get(handle, libturbojpeg.WIDTH), library.tj3Get(handle, libturbojpeg.HEIGHT)
    _thread.header_of = Jpeg(payload, width, height, mcu[0])
    return _thread.header_of


def scale_for(box: Box, min_size: tuple[int, int]) -> int:
    """The n of the smallest scale 1/n at which the box, snapped to it, is ``min_size`` (width, height) or larger.

    >>> scale_for((0, 0, 500, 500), (224, 224)), scale_for((1, 0, 448, 500), (224, 224))
    (2, 1)
    """
    for scale in SCALES[:0:-1]:
        if box[2] // scale >= min_size[0] and box[3] // scale >= min_size[1]:
            snapped = snap_box(box, scale)
            if snapped[2] // scale >= min_size[0] and snapped[3] // scale >= min_size[1]:
                return scale
    return 1


def snap_box(box: Box, scale: int) -> Box:
    """The box shrunk, by less than n on each side, to edges that are whole pixels at the scale 1/n."""
    if scale == 1:
        return box
    left, top = -(-box[0] // scale), -(-box[1] // scale)
    return (
        left * scale,
        top * scale,
        max(1, (box[0] + box[2]) // scale - left) * scale,
        max(1, (box[1] + box[3]) // scale - top) * scale,
    )


def check_scans(payload: bytes | memoryview) -> None:
    """Raise DamagedImage for a JPEG of more scans than encoders write: each scan is as much work as a whole image.

    Only scans of the image count: not those of thumbnails in segments, nor of what follows its end.
    """
    at, components, scans = 2, 0, 0
    # In a scan's own bytes 0xff is always followed by 0 or a restart marker.
    while (found := _MARKER.search(payload, at)) is not None and found.end() + 8 <= len(payload):
        marker, at = payload[found.end() - 1], found.end()
        if marker == 0xD9:  # the end of the image
            return
        if marker in _WITHOUT_LENGTH:
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # the frame
            components = 0 if marker in _PROGRESSIVE else payload[at + 7]
        elif marker == 0xDA:
            if components and payload[at + 2] >= components:
                return  # all components in one scan, behind which nothing is read
            scans += 1
            if scans > libturbojpeg.MAX_SCANS:
                raise DamagedImage(f"more than {libturbojpeg.MAX_SCANS} scans, which is the most that are read")
        at += max(2, payload[at] << 8 | payload[at + 1])


def decode(jpeg: Jpeg, box: Box, *, scale: int = 1, grey: bool = False) -> Pixels | None:
    """The pixels of a box snapped to the scale, (height / n, width / n, 3 or 1), or None for Pillow to read.

    They are in memory that this thread's next call overwrites. The image below the box is not read. Raises DamagedImage
    where pixels are lost.
    """
    library = libturbojpeg.library()
    if library is None:
        return _decode_by_simplejpeg(jpeg, box, scale, grey)
    handle, data = _thread.address(), np.frombuffer(jpeg.payload, np.uint8)
    address, size = data.ctypes.data, data.size
    # The handle holds one header; it may be that of another image, or another thread may have opened this one.
    if _thread.header_of is not jpeg and library.tj3DecompressHeader(handle, address, size) != 0:
        _discard_decompressor()
        return None
    _thread.header_of = None  # the payload may be a view of a large memory map: keep no reference
    left, top, width, height = box[0] // scale, box[1] // scale, box[2] // scale, box[3] // scale
    unit = max(1, jpeg.mcu_width // scale)
    # One unit more on each side of the box: colour is upsampled from its neighbours, and without them pixels at the
    # region's edge differ by up to 40 levels. This costs 1 %.
    start = max(0, (left - 1) // unit * unit)
    stop = min(-(-jpeg.width // scale), left + width + unit)
    region = libturbojpeg.Region(start, top, stop - start, min(height, -(-jpeg.height // scale) - top))
    channels, pixel_format = (1, libturbojpeg.GREY) if grey else (3, libturbojpeg.RGB)
    pitch = region.w * channels
    scratch, scratch_address = _thread.scratch(region.h * pitch)
    if (
        library.tj3SetScalingFactor(handle, libturbojpeg.Factor(1, scale)) != 0
        or library.tj3SetCroppingRegion(handle, region) != 0
        or library.tj3Decompress8(handle, address, size, scratch_address, pitch, pixel_format) != 0
    ):
        _discard_decompressor()
        return None
    pixels: Pixels = scratch[: region.h * pitch].reshape(region.h, region.w, channels)
    return pixels[:, left - start : left - start + width]


class _ThreadState(threading.local):
    """One thread's decompressor and scratch memory."""

    def __init__(self) -> None:
        self.handle: libturbojpeg.Decompressor | None = None
        self.header_of: Jpeg | None = None  # the image whose header the decompressor holds
        self._scratch: tuple[Pixels, int] = np.empty(0, np.uint8), 0

    def address(self) -> int | None:
        """The address of the thread's decompressor."""
        if self.handle is None:
            library = libturbojpeg.library()
            assert library is not None  # callers have checked
            self.handle = libturbojpeg.Decompressor(library)
        return self.handle.address

    def scratch(self, size: int) -> tuple[Pixels, int]:
        """Memory of at least this many bytes, and its address, valid as long as the memory is referenced."""
        if self._scratch[0].size >= size:
            return self._scratch
        memory = np.empty(size + size // 4, np.uint8)
        scratch = memory, memory.ctypes.data
        if memory.size <= _MAX_SCRATCH:
            self._scratch = scratch
        return scratch


_thread = _ThreadState()


def _discard_decompressor() -> None:
    """Drop the decompressor: after a damaged image it decodes the next one to slightly different pixels."""
    handle, _thread.handle = _thread.handle, None
    if handle is not None:
        _raise_if_lost(handle.last_error)


def _raise_if_lost(message: str) -> None:
    if any(lost in message for lost in _DATA_LOST):
        raise DamagedImage(f"its image has lost data ({message[:120]})")


@cache
def _has_simplejpeg() -> bool:
    return importlib.util.find_spec("simplejpeg") is not None


def _open_by_simplejpeg(payload: bytes | memoryview) -> Jpeg | None:
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(payload)
    except ValueError:
        return None
    return Jpeg(payload, int(width), int(height), 1) if space in ("RGB", "YCbCr", "Gray") else None


def _decode_by_simplejpeg(jpeg: Jpeg, box: Box, scale: int, grey: bool) -> Pixels | None:
    import simplejpeg

    # simplejpeg takes the smallest scale whose image is not below these.
    min_size = {"min_height": -(-jpeg.height // scale), "min_width": -(-jpeg.width // scale)} if scale > 1 else {}
    try:
        whole: Pixels = simplejpeg.decode_jpeg(jpeg.payload, colorspace="GRAY" if grey else "RGB", **min_size)
    except ValueError as error:
        _raise_if_lost(str(error))
        return None
    left, top = box[0] // scale, box[1] // scale
    return whole[top : top + box[3] // scale, left : left + box[2] // scale]
