"""Finds libturbojpeg 3 and declares its functions for ctypes, which releases the GIL during calls."""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

# From turbojpeg.h of libjpeg-turbo 3.0.
_INIT_DECOMPRESS = 1
_STOP_ON_WARNING, _SCAN_LIMIT = 0, 13
SUBSAMPLING, WIDTH, HEIGHT, PRECISION, COLOURSPACE = 4, 5, 6, 7, 8
RGB, GREY = 0, 6  # pixel formats
READABLE_COLOURSPACES = (0, 1, 2)  # RGB, YCbCr, grey; not CMYK and YCCK
# Width and height of an iMCU, by subsampling.
MCU_SIZES = {0: (8, 8), 1: (16, 8), 2: (16, 16), 3: (8, 8), 4: (8, 16), 5: (32, 8), 6: (8, 32)}
MAX_SCANS = 64  # of an image; encoders write about ten, and files with more are made to keep the reader busy


class Region(ctypes.Structure):
    """tjregion: of the scaled image; ``x`` is a multiple of the scaled iMCU's width."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [  # Any: as ctypes has it
        ("x", ctypes.c_int),
        ("y", ctypes.c_int),
        ("w", ctypes.c_int),
        ("h", ctypes.c_int),
    ]


class Factor(ctypes.Structure):
    """tjscalingfactor."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [  # Any: as ctypes has it
        ("num", ctypes.c_int),
        ("denom", ctypes.c_int),
    ]


class Decompressor:
    """A tjhandle for one thread at a time; destroyed with this object."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.address: int | None = library.tj3Init(_INIT_DECOMPRESS)
        if not self.address:
            raise MemoryError("libturbojpeg cannot create a decompressor")
        library.tj3Set(self.address, _SCAN_LIMIT, MAX_SCANS)
        # Truncated data is only a warning to the library, which then fills the rest with grey.
        library.tj3Set(self.address, _STOP_ON_WARNING, 1)

    @property
    def last_error(self) -> str:
        """The message of the last error or warning."""
        message: bytes = self._library.tj3GetErrorStr(self.address)
        return message.decode("ascii", "replace")

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self._library.tj3Destroy(self.address)


@cache
def library() -> ctypes.CDLL | None:
    """The library, if one with the interface of version 3, which decodes regions, can be loaded."""
    for path in _candidates():
        try:
            candidate = ctypes.CDLL(path)
            _declare(candidate)
        except (OSError, AttributeError):
            continue  # cannot be loaded here, or is version 2
        return candidate
    return None


def _candidates() -> list[str]:
    """Paths of the library in the wheel ``turbojpeg``, which is not imported, and in the system."""
    paths = []
    spec = importlib.util.find_spec("turbojpeg")
    if spec is not None and spec.origin is not None:
        paths += [str(path) for path in sorted((Path(spec.origin).parent / "turbojpeg.libs").glob("libturbojpeg*.so*"))]
        paths += [str(path) for path in sorted((Path(spec.origin).parent / ".dylibs").glob("libturbojpeg*.dylib"))]
    system = ctypes.util.find_library("turbojpeg")
    return [*paths, system] if system else paths


def _declare(library: ctypes.CDLL) -> None:
    """Set argument and result types. Raises AttributeError if a function is missing."""
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for name, result, arguments in (
        ("tj3Init", pointer, [number]),
        ("tj3Destroy", None, [pointer]),
        ("tj3Set", number, [pointer, number, number]),
        ("tj3Get", number, [pointer, number]),
        ("tj3DecompressHeader", number, [pointer, pointer, size]),
        ("tj3SetScalingFactor", number, [pointer, Factor]),
        ("tj3SetCroppingRegion", number, [pointer, Region]),
        ("tj3GetErrorStr", ctypes.c_char_p, [pointer]),
        ("tj3Decompress8", number, [pointer, pointer, size, pointer, number, number]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
