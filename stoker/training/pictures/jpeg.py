"""Regions of JPEG images as pixels: only what a crop needs is decoded, at a scale near to the one that is wanted.

The engine is libturbojpeg 3, from the package ``turbojpeg`` or the system. Without it simplejpeg decodes whole images,
by the same library, to the same pixels: of an intact image a region is, bit for bit, that part of the whole. What
neither reads (CMYK, 12 bits, arithmetic coding, odd files) is left to the caller: the functions return None.
"""

import importlib.util
import threading
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from stoker.training.pictures import libturbojpeg

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, width, height
MAGIC = b"\xff\xd8\xff"
SCALES = (1, 2, 4, 8)  # 1/n of the size; those that libjpeg-turbo has fast code for
_KEPT = 64 * 2**20  # bytes of scratch that a thread keeps

# What the library says when pixels are lost; it, and Pillow without a word, would make them up. A cut file is not
# among them: Pillow tells one whose image is cut from one that lacks only its end marker.
_LOST = ("premature end of data segment", "bad Huffman code", "instead of RST", "bad arithmetic code")


class Damaged(Exception):  # caught by the maker or model that asked, which knows the sample
    """The image cannot be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Jpeg:
    """An image whose header was read."""

    payload: bytes | memoryview
    width: int
    height: int
    block: int  # width of what is decoded together


def engine() -> str:
    """What decodes: ``turbojpeg``, ``simplejpeg`` or ``pillow``."""
    if libturbojpeg.library() is not None:
        return "turbojpeg"
    return "simplejpeg" if _has_simplejpeg() else "pillow"


def open_jpeg(payload: bytes | memoryview) -> Jpeg | None:
    """The image's header; None for what only Pillow may be able to read."""
    library = libturbojpeg.library()
    if library is None:
        return _open_simple(payload) if engine() == "simplejpeg" else None
    handle, data = _thread.address(), np.frombuffer(payload, np.uint8)
    _thread.opened = None
    if library.tj3DecompressHeader(handle, data.ctypes.data, data.size) != 0:
        _thread.handle = None
        return None
    block = libturbojpeg.BLOCKS.get(library.tj3Get(handle, libturbojpeg.SUBSAMPLING))
    if (
        block is None
        or library.tj3Get(handle, libturbojpeg.COLOURSPACE) not in libturbojpeg.READABLE
        or library.tj3Get(handle, libturbojpeg.PRECISION) != 8
    ):
        return None
    width, height = library.tj3Get(handle, libturbojpeg.WIDTH), library.tj3Get(handle, libturbojpeg.HEIGHT)
    _thread.opened = Jpeg(payload, width, height, block[0])
    return _thread.opened


def scale_for(box: Box, least: tuple[int, int]) -> int:
    """The n of the smallest scale 1/n at which the box, snapped to it, has ``least`` pixels of width and height.

    >>> scale_for((0, 0, 500, 500), (224, 224)), scale_for((1, 0, 448, 500), (224, 224))
    (2, 1)
    """
    for scale in SCALES[:0:-1]:
        if box[2] // scale >= least[0] and box[3] // scale >= least[1]:
            inside = snapped(box, scale)
            if inside[2] // scale >= least[0] and inside[3] // scale >= least[1]:
                return scale
    return 1


def snapped(box: Box, scale: int) -> Box:
    """The box with edges that lie on whole pixels at the scale 1/n: smaller by less than n on each side."""
    if scale == 1:
        return box
    left, top = -(-box[0] // scale), -(-box[1] // scale)
    return (
        left * scale,
        top * scale,
        max(1, (box[0] + box[2]) // scale - left) * scale,
        max(1, (box[1] + box[3]) // scale - top) * scale,
    )


def decode(jpeg: Jpeg, box: Box, *, scale: int = 1, grey: bool = False) -> Pixels | None:
    """The pixels of a box snapped to the scale, (height / n, width / n, 3 or 1), or None for Pillow to read.

    They lie in memory that this thread's next call uses again. What lies below the box is not looked at. Raises
    Damaged where pixels are lost.
    """
    library = libturbojpeg.library()
    if library is None:
        return _decode_simple(jpeg, box, scale, grey)
    handle, data = _thread.address(), np.frombuffer(jpeg.payload, np.uint8)
    address, size = data.ctypes.data, data.size
    # The handle keeps one header at a time, and it may be that of another image, or this may be another thread.
    if _thread.opened is not jpeg and library.tj3DecompressHeader(handle, address, size) != 0:
        _failed()
        return None
    _thread.opened = None  # it holds the payload, which may be a piece of a large map
    left, top, width, height = box[0] // scale, box[1] // scale, box[2] // scale, box[3] // scale
    step = max(1, jpeg.block // scale)
    # A block more on each side, where the box does not lie inside of one: without its neighbours the colour that is
    # upsampled at the region's edge would differ, by up to 40 levels. It costs 1 %.
    start = max(0, (left - 1) // step * step)
    stop = min(-(-jpeg.width // scale), left + width + step)
    region = libturbojpeg.Region(start, top, stop - start, min(height, -(-jpeg.height // scale) - top))
    channels, form = (1, libturbojpeg.GREY) if grey else (3, libturbojpeg.RGB)
    pitch = region.w * channels
    out, to = _thread.scratch_of(region.h * pitch)
    if (
        library.tj3SetScalingFactor(handle, libturbojpeg.Factor(1, scale)) != 0
        or library.tj3SetCroppingRegion(handle, region) != 0
        or library.tj3Decompress8(handle, address, size, to, pitch, form) != 0
    ):
        _failed()
        return None
    pixels: Pixels = out[: region.h * pitch].reshape(region.h, region.w, channels)
    return pixels[:, left - start : left - start + width]


class _Thread(threading.local):
    """What belongs to one thread."""

    def __init__(self) -> None:
        self.handle: libturbojpeg.Decompressor | None = None
        self.opened: Jpeg | None = None  # whose header the handle keeps
        self._scratch: tuple[Pixels, int] = np.empty(0, np.uint8), 0

    def address(self) -> int | None:
        """The decompressor's."""
        if self.handle is None:
            library = libturbojpeg.library()
            assert library is not None  # whoever asks has it
            self.handle = libturbojpeg.Decompressor(library)
        return self.handle.address

    def scratch_of(self, size: int) -> tuple[Pixels, int]:
        """Memory of this many bytes or more, and its address, which lasts as long as the memory is held."""
        if self._scratch[0].size >= size:
            return self._scratch
        memory = np.empty(size + size // 4, np.uint8)
        found = memory, memory.ctypes.data
        if memory.size <= _KEPT:
            self._scratch = found
        return found


_thread = _Thread()


def _failed() -> None:
    """Drop the decompressor: after damage it would decode the next image to slightly other pixels."""
    handle, _thread.handle = _thread.handle, None
    if handle is not None:
        _check_lost(handle.complaint)


def _check_lost(complaint: str) -> None:
    if any(lost in complaint for lost in _LOST):
        raise Damaged(f"its image has lost data ({complaint[:120]})")


@cache
def _has_simplejpeg() -> bool:
    return importlib.util.find_spec("simplejpeg") is not None


def _open_simple(payload: bytes | memoryview) -> Jpeg | None:
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(payload)
    except ValueError:
        return None
    return Jpeg(payload, int(width), int(height), 1) if space in ("RGB", "YCbCr", "Gray") else None


def _decode_simple(jpeg: Jpeg, box: Box, scale: int, grey: bool) -> Pixels | None:
    import simplejpeg

    # The least size that only this scale reaches: simplejpeg takes the smallest that is not below it.
    least = {"min_height": -(-jpeg.height // scale), "min_width": -(-jpeg.width // scale)} if scale > 1 else {}
    try:
        whole: Pixels = simplejpeg.decode_jpeg(jpeg.payload, colorspace="GRAY" if grey else "RGB", **least)
    except ValueError as error:
        _check_lost(str(error))
        return None
    left, top = box[0] // scale, box[1] // scale
    return whole[top : top + box[3] // scale, left : left + box[2] // scale]
