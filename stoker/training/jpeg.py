"""Regions of JPEG images as pixels: only what a crop needs is decoded, at a scale near to the one that is wanted.

The engine is libturbojpeg 3, called through ctypes, which gives up the interpreter's lock; it comes with the package
``turbojpeg`` or with the system. Without it simplejpeg decodes whole images, by the same library, to the same pixels.
What neither reads (CMYK, 12 bits, arithmetic coding, damage) is left to the caller: ``open_jpeg`` returns None.
"""

import ctypes
import ctypes.util
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, width, height
MAGIC = b"\xff\xd8\xff"

# From turbojpeg.h of libjpeg-turbo 3.0.
_INIT_DECOMPRESS = 1
_STOP_ON_WARNING, _SUBSAMPLING, _WIDTH, _HEIGHT, _PRECISION, _COLOURSPACE, _SCAN_LIMIT = 0, 4, 5, 6, 7, 8, 13
_RGB, _GREY = 0, 6
_READABLE = (0, 1, 2)  # colour spaces RGB, YCbCr, grey; CMYK and YCCK are not
_BLOCKS = {0: (8, 8), 1: (16, 8), 2: (16, 16), 3: (8, 8), 4: (8, 16), 5: (32, 8), 6: (8, 32)}  # iMCU by subsampling
_MOST_SCANS = 500  # of a progressive image: more is an attack on the reader's time
SCALES = (1, 2, 4, 8)  # 1/n of the size; those that libjpeg-turbo has fast code for


class _Region(ctypes.Structure):
    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [  # Any: as ctypes has it
        ("x", ctypes.c_int),
        ("y", ctypes.c_int),
        ("w", ctypes.c_int),
        ("h", ctypes.c_int),
    ]


class _Factor(ctypes.Structure):
    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        ("num", ctypes.c_int),
        ("denom", ctypes.c_int),
    ]  # Any: as ctypes has it


@dataclass(frozen=True, slots=True, eq=False)
class Jpeg:
    """An image whose header was read."""

    payload: bytes | memoryview
    width: int
    height: int
    block: tuple[int, int]  # width and height of what is decoded together


def engine() -> str:
    """What decodes: ``turbojpeg``, ``simplejpeg`` or ``pillow``."""
    if _library() is not None:
        return "turbojpeg"
    return "simplejpeg" if importlib.util.find_spec("simplejpeg") else "pillow"


def open_jpeg(payload: bytes | memoryview) -> Jpeg | None:
    """The image's header; None for what only Pillow may be able to read."""
    library = _library()
    if library is None:
        return _open_simple(payload) if engine() == "simplejpeg" else None
    handle, data = _handle(library), np.frombuffer(payload, np.uint8)
    _thread.opened = None
    if library.tj3DecompressHeader(handle, data.ctypes.data, data.size) != 0:
        _thread.handle = None
        return None
    block = _BLOCKS.get(library.tj3Get(handle, _SUBSAMPLING))
    if (
        block is None
        or library.tj3Get(handle, _COLOURSPACE) not in _READABLE
        or library.tj3Get(handle, _PRECISION) != 8
    ):
        return None
    _thread.opened = Jpeg(payload, library.tj3Get(handle, _WIDTH), library.tj3Get(handle, _HEIGHT), block)
    return _thread.opened


def scale_for(box: Box, least: tuple[int, int]) -> int:
    """The n of the scale 1/n at which the box still has ``least`` pixels of width and height.

    >>> scale_for((0, 0, 500, 500), (224, 224)), scale_for((0, 0, 300, 500), (224, 224))
    (2, 1)
    """
    return max(n for n in SCALES if n == 1 or (box[2] // n >= least[0] and box[3] // n >= least[1]))


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

    They lie in memory that this thread's next call uses again. A handle that met damage is dropped: it would decode
    the next image to slightly other pixels.
    """
    library = _library()
    if library is None:
        return _decode_simple(jpeg, box, scale, grey)
    handle, data = _handle(library), np.frombuffer(jpeg.payload, np.uint8)
    # The handle keeps one header at a time, and it may be that of another image, or this may be another thread.
    if _thread.opened is not jpeg and library.tj3DecompressHeader(handle, data.ctypes.data, data.size) != 0:
        _thread.handle = None
        return None
    _thread.opened = None  # it holds the payload, which may be a piece of a large map
    left, top, width, height = box[0] // scale, box[1] // scale, box[2] // scale, box[3] // scale
    step = max(1, jpeg.block[0] // scale)
    start = left - left % step
    whole = -(-jpeg.width // scale), -(-jpeg.height // scale)
    # One block more on the right: upsampling at the region's edge would otherwise lack the neighbour's colour.
    stop = min(whole[0], left + width + step)
    channels = 1 if grey else 3
    if library.tj3SetScalingFactor(handle, _Factor(1, scale)) != 0:
        _thread.handle = None
        return None
    region = _Region(start, top, stop - start, min(height, whole[1] - top))
    if library.tj3SetCroppingRegion(handle, region) != 0:
        _thread.handle = None
        return None
    out = _scratch(region.h * region.w * channels)
    form = _GREY if grey else _RGB
    if library.tj3Decompress8(handle, data.ctypes.data, data.size, out.ctypes.data, region.w * channels, form) != 0:
        _thread.handle = None  # a warning too: Pillow decides whether the image is damaged
        return None
    pixels: Pixels = out[: region.h * region.w * channels].reshape(region.h, region.w, channels)
    return pixels[:, left - start : left - start + width]


class _Thread(threading.local):
    """What belongs to one thread."""

    def __init__(self) -> None:
        self.handle: _Handle | None = None
        self.scratch: Pixels = np.empty(0, np.uint8)
        self.opened: Jpeg | None = None  # whose header the handle keeps


class _Handle:
    """A decompressor, freed with its thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.address = library.tj3Init(_INIT_DECOMPRESS)
        if not self.address:
            raise MemoryError("libturbojpeg gives no decompressor")
        library.tj3Set(self.address, _SCAN_LIMIT, _MOST_SCANS)
        library.tj3Set(self.address, _STOP_ON_WARNING, 1)

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self._library.tj3Destroy(self.address)


_thread = _Thread()


def _handle(library: ctypes.CDLL) -> int:
    if _thread.handle is None:
        _thread.handle = _Handle(library)
    address: int = _thread.handle.address
    return address


def _scratch(size: int) -> Pixels:
    if _thread.scratch.size < size:
        _thread.scratch = np.empty(size + size // 4, np.uint8)
    return _thread.scratch


@cache
def _library() -> ctypes.CDLL | None:
    """Libturbojpeg with the interface of version 3, which decodes regions; None where there is none."""
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            _declare(library)
        except (OSError, AttributeError):
            continue  # not loadable here, or version 2
        return library
    return None


def _candidates() -> list[str]:
    found = []
    spec = importlib.util.find_spec("turbojpeg")
    if spec is not None and spec.origin is not None:
        found += [str(path) for path in sorted((Path(spec.origin).parent / "turbojpeg.libs").glob("libturbojpeg*.so*"))]
        found += [str(path) for path in sorted((Path(spec.origin).parent / ".dylibs").glob("libturbojpeg*.dylib"))]
    system = ctypes.util.find_library("turbojpeg")
    return [*found, system] if system else found


def _declare(library: ctypes.CDLL) -> None:
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for name, result, arguments in (
        ("tj3Init", pointer, [number]),
        ("tj3Destroy", None, [pointer]),
        ("tj3Set", number, [pointer, number, number]),
        ("tj3Get", number, [pointer, number]),
        ("tj3DecompressHeader", number, [pointer, pointer, size]),
        ("tj3SetScalingFactor", number, [pointer, _Factor]),
        ("tj3SetCroppingRegion", number, [pointer, _Region]),
        ("tj3Decompress8", number, [pointer, pointer, size, pointer, number, number]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def _open_simple(payload: bytes | memoryview) -> Jpeg | None:
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(payload)
    except ValueError:
        return None
    return Jpeg(payload, int(width), int(height), (1, 1)) if space in ("RGB", "YCbCr", "Gray") else None


def _decode_simple(jpeg: Jpeg, box: Box, scale: int, grey: bool) -> Pixels | None:
    import simplejpeg

    # The least size that only this scale reaches: simplejpeg takes the smallest that is not below it.
    least = {"min_height": -(-jpeg.height // scale), "min_width": -(-jpeg.width // scale)} if scale > 1 else {}
    try:
        whole: Pixels = simplejpeg.decode_jpeg(jpeg.payload, colorspace="GRAY" if grey else "RGB", **least)
    except ValueError:
        return None
    left, top = box[0] // scale, box[1] // scale
    return whole[top : top + box[3] // scale, left : left + box[2] // scale]
