"""Decoding of images to upright 8-bit sRGB or grey, encoding, and measures of images.

A fault of an image is a reject with a reason; no bytes make a function here raise. The limit on the number of
pixels is checked against the header, before memory for pixels is allocated.
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

from stoker.pipelines.images.colour import SWAPS_SIDES, Colour, convert_colour, exif_transpose
from stoker.pipelines.images.faults import rejection_for
from stoker.pipelines.images.formats import EXTENSIONS, extension_of
from stoker.pipelines.images.perceptual_hash import SIDE, hash_of
from stoker.pipelines.rejected import Rejected
from stoker.storage.shards.sample import Sample

MAX_PIXELS = 1 << 26  # 67 megapixels: 192 MiB of RGB
_MAX_SCANS = 32  # of a progressive JPEG, which is decoded once for each scan; encoders write about ten
_MAX_CACHED_PIXELS = 1 << 24  # larger images are not kept for the next step
_GREY_SIDE = 256  # pixels: images are measured at a shorter side of at least this, or of all that they have

Format = Literal["jpg", "png", "webp"]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format, size and mode of an image from its header. Width and height are as stored, before EXIF orientation."""

    extension: str
    width: int
    height: int
    mode: str  # as Pillow calls it


def field_of(sample: Sample) -> str | None:
    """The extension of the sample's image field; None if it has none.

    >>> field_of(Sample("a", {"png": b"", "cls": b"1"}))
    'png'
    """
    return next((extension for extension in EXTENSIONS if extension in sample.fields), None)


def header_of(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageHeader | Rejected:
    """The header of an image, which is all that is read of it."""
    image = _open(payload, max_pixels)
    return image if isinstance(image, Rejected) else _header(image)


def decode(
    payload: bytes, *, colour: Colour = "rgb", at_least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image | Rejected:
    """The image (of several, the first): upright, in mode RGB (sRGB, transparency on white) or L, without metadata.

    ``at_least``: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, for a fraction of the work, as long as its
    shorter side keeps so many pixels. The image is cached and shared: change a copy.
    """
    decoded = _decode_cached(payload, colour, at_least, max_pixels)
    return decoded if isinstance(decoded, Rejected) else decoded.image


def encode(image: Image.Image, extension: Format, *, quality: int = 90) -> bytes:
    """The image as a file without metadata: the same bytes for the same pixels and versions of the libraries."""
    out = io.BytesIO()
    if extension == "jpg":
        image.save(out, "JPEG", quality=quality, subsampling="4:2:0", optimize=False, progressive=False)
    elif extension == "png":
        image.save(out, "PNG", compress_level=6)
    else:
        image.save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()


def measures_of_image(payload: bytes) -> dict[str, Any] | Rejected:  # Any: Parquet scalars
    """The columns that describe an image, or why it cannot be decoded.

    ``format``, ``mode`` (Pillow's, as stored), ``width`` and ``height`` (upright), ``brightness`` (mean grey) and
    ``contrast`` (its standard deviation), both in [0, 255]; ``sharpness`` (standard deviation of the Laplacian of the
    grey image, shrunk so that its shorter side is near 256 pixels); ``image_hash`` (256 bits in hex) and
    ``image_hash_quality`` (0 to 100: below about 50, equal hashes prove little).
    """
    decoded = _decode_cached(payload, "grey", _GREY_SIDE, MAX_PIXELS)
    if isinstance(decoded, Rejected):
        return decoded
    grey = decoded.image
    shrink = max(1, min(grey.size) // _GREY_SIDE)
    small = grey.reduce(shrink) if shrink > 1 else grey
    brightness, contrast = _moments(small.histogram())
    # A box filter would enlarge a tiny image to blocks, whose edges add frequencies that are not in it.
    resampling = Image.Resampling.BICUBIC if min(grey.size) < SIDE else Image.Resampling.BOX
    bits, quality = hash_of(np.asarray(grey.resize((SIDE, SIDE), resampling)))
    return {
        "format": decoded.header.extension,
        "mode": decoded.header.mode,
        "width": decoded.width,
        "height": decoded.height,
        "brightness": round(brightness, 3),
        "contrast": round(contrast, 3),
        "sharpness": round(_sharpness(small), 3),
        "image_hash": bits,
        "image_hash_quality": quality,
    }


@dataclass(frozen=True, slots=True)
class _DecodedImage:
    """A decoded image, with its width and height at full size, upright."""

    image: Image.Image
    header: ImageHeader
    width: int
    height: int


# The image decoded last in this thread: several steps may decode the same bytes.
_cache = threading.local()

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
_EXTENSION_OF_OPENER = {opener: extension for extension, opener in _OPENERS.items()}
# Features that Pillow must have been built with, by extension.
_REQUIRED_FEATURES = {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}


def _open(payload: bytes, max_pixels: int) -> ImageFile.ImageFile | Rejected:
    """An image whose header is read and whose pixels are not.

    Image.open is not used: it tries every format it knows, and takes its limit of pixels from a global variable.
    """
    extension = extension_of(payload)
    if isinstance(extension, Rejected):
        return extension
    if extension not in _OPENERS or (
        extension in _REQUIRED_FEATURES and not features.check(_REQUIRED_FEATURES[extension])
    ):
        return Rejected("unsupported_format", f"this Pillow was built without {extension}")
    _silence_decoders()
    try:
        image = _OPENERS[extension](io.BytesIO(payload))
    except Exception as error:  # noqa: BLE001  # damaged files raise OSError, SyntaxError, ValueError, TypeError, ...
        return rejection_for(error, payload, extension)
    pixels = image.width * image.height
    scans = payload.count(b"\xff\xda") if extension == "jpg" else 1
    if pixels > max_pixels:
        return Rejected("too_many_pixels", f"{image.width}x{image.height}, at most {max_pixels} pixels are decoded")
    if pixels * scans > max_pixels * _MAX_SCANS:
        return Rejected("too_many_pixels", f"{image.width}x{image.height} in {scans} scans")
    return image


def _header(image: ImageFile.ImageFile) -> ImageHeader:
    return ImageHeader(_EXTENSION_OF_OPENER[type(image)], image.width, image.height, image.mode)


def _decode_cached(payload: bytes, colour: Colour, at_least: int | None, max_pixels: int) -> _DecodedImage | Rejected:
    options = (colour, at_least, max_pixels)
    cached: tuple[bytes, object, _DecodedImage] | None = getattr(_cache, "last", None)
    if cached is not None and cached[1] == options and cached[0] == payload:
        return cached[2]
    decoded = _decode(payload, colour, at_least, max_pixels)
    if isinstance(decoded, _DecodedImage) and decoded.image.width * decoded.image.height <= _MAX_CACHED_PIXELS:
        _cache.last = (payload, options, decoded)
    return decoded


def _decode(payload: bytes, colour: Colour, at_least: int | None, max_pixels: int) -> _DecodedImage | Rejected:
    image = _open(payload, max_pixels)
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
        transpose = exif_transpose(image)
        upright = convert_colour(image, colour)
        if transpose is not None:
            upright = upright.transpose(transpose)
    except Exception as error:  # noqa: BLE001  # as above: decoders raise anything on damaged data
        return rejection_for(error, payload, header.extension, image)
    result = upright.copy() if upright is image else upright
    result.info = {}
    width, height = result.size
    if header.extension == "jpg":  # the only format that is decoded at a fraction of its size
        width, height = (header.height, header.width) if transpose in SWAPS_SIDES else (header.width, header.height)
    return _DecodedImage(result, header, width, height)


def _moments(histogram: list[int]) -> tuple[float, float]:
    """Mean and standard deviation of the values that a histogram counts."""
    pixels = sum(histogram)
    total = sum(value * times for value, times in enumerate(histogram))
    squares = sum(value * value * times for value, times in enumerate(histogram))
    return total / pixels, math.sqrt(max(0, squares * pixels - total * total)) / pixels


def _sharpness(grey: Image.Image) -> float:
    """The standard deviation of the Laplacian, which is how much a pixel differs from its four neighbours."""
    values = np.asarray(grey).astype(np.int32)
    if min(values.shape) < 3:
        return 0.0
    centre = values[1:-1, 1:-1]
    edges = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * centre
    total, squares = int(edges.sum(dtype=np.int64)), int((edges.astype(np.int64) ** 2).sum())
    return math.sqrt(max(0, squares * edges.size - total * total)) / edges.size


@cache
def _silence_decoders() -> None:
    """Stop Pillow and libtiff from writing to stderr about damaged images: the reject holds the message."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # libtiff writes to file descriptor 2 itself. Only the copy in Pillow's wheel can be found and silenced.
    folder = Path(PIL.__file__).parent
    for path in (*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")):
        try:
            library = ctypes.CDLL(str(path))
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
        except (OSError, AttributeError):
            continue
