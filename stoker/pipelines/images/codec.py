"""Pictures out of bytes and back: bounded, upright, eight bits a channel, in sRGB.

Every fault of an image is a reject with a reason; nothing that the bytes can hold raises. A cap on the number of
pixels is checked against the header, before any memory is asked for.
"""

import ctypes
import io
import math
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from stoker.pipelines.images.colour import SWAPS, Colour, flat, turn_of
from stoker.pipelines.images.faults import fault_of
from stoker.pipelines.images.formats import EXTENSIONS, extension_of
from stoker.pipelines.images.perceptual_hash import SIDE, hash_of
from stoker.pipelines.rejected import Rejected
from stoker.storage.shards.sample import Sample

MAX_PIXELS = 1 << 26  # 67 megapixels: 192 MiB of RGB
_MAX_SCANS = 32  # a progressive JPEG decodes once a scan; encoders write about ten
_CACHED = 1 << 24  # pixels: larger pictures are not kept for the next step
_GREY_SIDE = 256  # pixels: the shorter side that measures are taken at, at least, where the image has as many

Format = Literal["jpg", "png", "webp"]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image says of itself before it is decoded. Width and height are those stored: not turned upright."""

    extension: str
    width: int
    height: int
    mode: str  # Pillow's


def field_of(sample: Sample) -> str | None:
    """The extension of the sample's image, if it has one.

    >>> field_of(Sample("a", {"png": b"", "cls": b"1"}))
    'png'
    """
    return next((extension for extension in EXTENSIONS if extension in sample.fields), None)


def header_of(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageHeader | Rejected:
    """Format and size, from the header alone."""
    image = _opened(payload, max_pixels)
    return image if isinstance(image, Rejected) else _header(image)


def decode(
    payload: bytes, *, colour: Colour = "rgb", at_least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image | Rejected:
    """The picture, upright, in mode RGB (sRGB, transparency on white) or L, without any metadata.

    ``at_least``: the shorter side may come out smaller than stored but not than this, by a power of two (a JPEG
    is decoded at a fraction of its size for a fraction of the work). Of an animation, the first frame.
    The picture may be shared: change a copy.
    """
    found = _decoded_once(payload, colour, at_least, max_pixels)
    return found if isinstance(found, Rejected) else found.image


def encode(picture: Image.Image, extension: Format, *, quality: int = 90) -> bytes:
    """The picture as a file: the same bytes for the same pixels and libraries, nothing in it but the pixels."""
    out = io.BytesIO()
    if extension == "jpg":
        picture.save(out, "JPEG", quality=quality, subsampling="4:2:0", optimize=False, progressive=False)
    elif extension == "png":
        picture.save(out, "PNG", compress_level=6)
    else:
        picture.save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()


def measures_of_image(payload: bytes) -> dict[str, Any] | Rejected:  # Any: Parquet scalars
    """The columns that describe an image, or why it cannot be decoded.

    ``format``, ``mode`` (Pillow's, as stored), ``width`` and ``height`` (upright), ``brightness`` (mean grey) and
    ``contrast`` (its standard deviation), both of 255; ``sharpness`` (standard deviation of the Laplacian of the
    grey picture, shrunk so that its shorter side is near 256 pixels); ``image_hash`` (256 bits in hex) and
    ``image_hash_quality`` (0 to 100: below about 50 a match of hashes says little).
    """
    picture = _decoded_once(payload, "grey", _GREY_SIDE, MAX_PIXELS)
    if isinstance(picture, Rejected):
        return picture
    grey = picture.image
    shrink = max(1, min(grey.size) // _GREY_SIDE)
    small = grey.reduce(shrink) if shrink > 1 else grey
    brightness, contrast = _moments(small.histogram())
    # A box would enlarge a tiny picture to blocks, whose edges are frequencies that are not in it.
    smooth = Image.Resampling.BICUBIC if min(grey.size) < SIDE else Image.Resampling.BOX
    bits, quality = hash_of(np.asarray(grey.resize((SIDE, SIDE), smooth)))
    return {
        "format": picture.header.extension,
        "mode": picture.header.mode,
        "width": picture.width,
        "height": picture.height,
        "brightness": round(brightness, 3),
        "contrast": round(contrast, 3),
        "sharpness": round(_sharpness(small), 3),
        "image_hash": bits,
        "image_hash_quality": quality,
    }


@dataclass(frozen=True, slots=True)
class _Picture:
    """A decoded image; width and height: what they are upright at full size."""

    image: Image.Image
    header: ImageHeader
    width: int
    height: int


_last = threading.local()  # the picture decoded last in this thread: several steps may look at the same bytes

_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "jpg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tif": TiffImagePlugin.TiffImageFile,
    "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile,
}
if features.check("avif"):
    from PIL import AvifImagePlugin

    _OPENERS["avif"] = AvifImagePlugin.AvifImageFile
_EXTENSION = {opener: extension for extension, opener in _OPENERS.items()}
_NEEDED = {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}  # what Pillow must have been built with


def _opened(payload: bytes, max_pixels: int) -> ImageFile.ImageFile | Rejected:
    """An image whose header is read and whose pixels are not. Not through Image.open, which would try every
    format it knows, and judge the size by a global variable."""
    extension = extension_of(payload)
    if isinstance(extension, Rejected):
        return extension
    if extension not in _OPENERS or (extension in _NEEDED and not features.check(_NEEDED[extension])):
        return Rejected("unsupported_format", f"this Pillow was built without {extension}")
    _quieten()
    try:
        image = _OPENERS[extension](io.BytesIO(payload))
    except Exception as error:  # noqa: BLE001  # damaged files raise OSError, SyntaxError, ValueError, TypeError, ...
        return fault_of(error, payload, extension)
    pixels = image.width * image.height
    scans = payload.count(b"\xff\xda") if extension == "jpg" else 1
    if pixels > max_pixels:
        return Rejected("too_many_pixels", f"{image.width}x{image.height}, at most {max_pixels} pixels are decoded")
    if pixels * scans > max_pixels * _MAX_SCANS:
        return Rejected("too_many_pixels", f"{image.width}x{image.height} in {scans} scans")
    return image


def _header(image: ImageFile.ImageFile) -> ImageHeader:
    return ImageHeader(_EXTENSION[type(image)], image.width, image.height, image.mode)


def _decoded_once(payload: bytes, colour: Colour, at_least: int | None, max_pixels: int) -> _Picture | Rejected:
    asked = (colour, at_least, max_pixels)
    kept: tuple[bytes, object, _Picture] | None = getattr(_last, "kept", None)
    if kept is not None and kept[1] == asked and kept[0] == payload:
        return kept[2]
    picture = _decoded(payload, colour, at_least, max_pixels)
    if isinstance(picture, _Picture) and picture.image.width * picture.image.height <= _CACHED:
        _last.kept = (payload, asked, picture)
    return picture


def _decoded(payload: bytes, colour: Colour, at_least: int | None, max_pixels: int) -> _Picture | Rejected:
    image = _opened(payload, max_pixels)
    if isinstance(image, Rejected):
        return image
    header = _header(image)
    try:
        if header.extension == "jpg":
            side = at_least or max(image.size)
            image.draft("L" if colour == "grey" else None, (side, side))
        image.load()
        if image.width * image.height > max_pixels:  # a first frame may be larger than its canvas
            return Rejected("too_many_pixels", f"{image.width}x{image.height}")
        turn = turn_of(image)
        upright = flat(image, colour)
        if turn is not None:
            upright = upright.transpose(turn)
    except Exception as error:  # noqa: BLE001  # as above: what a decoder raises on damaged data is not to be foreseen
        return fault_of(error, payload, header.extension, image)
    bare = upright.copy() if upright is image else upright
    bare.info = {}
    width, height = bare.size
    if header.extension == "jpg":  # the only one decoded at a fraction of its size
        width, height = (header.height, header.width) if turn in SWAPS else (header.width, header.height)
    return _Picture(bare, header, width, height)


def _moments(histogram: list[int]) -> tuple[float, float]:
    """Mean and standard deviation of the values that a histogram counts."""
    pixels = sum(histogram)
    total = sum(value * times for value, times in enumerate(histogram))
    squares = sum(value * value * times for value, times in enumerate(histogram))
    return total / pixels, math.sqrt(max(0, squares * pixels - total * total)) / pixels


def _sharpness(grey: Image.Image) -> float:
    """The standard deviation of the Laplacian: how much a pixel differs from its four neighbours."""
    values = np.asarray(grey).astype(np.int32)
    if min(values.shape) < 3:
        return 0.0
    centre = values[1:-1, 1:-1]
    edges = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * centre
    total, squares = int(edges.sum(dtype=np.int64)), int((edges.astype(np.int64) ** 2).sum())
    return math.sqrt(max(0, squares * edges.size - total * total)) / edges.size


@cache
def _quieten() -> None:
    """No lines on stderr about what is damaged in an image: the reject says it. Once, for Pillow's modules alone."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # libtiff writes to file descriptor 2 by itself. Only the copy that Pillow's wheel brings can be found and told.
    folder = Path(PIL.__file__).parent
    for path in (*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")):
        try:
            library = ctypes.CDLL(str(path))
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
        except (OSError, AttributeError):
            continue
