"""Decoding of images to upright 8-bit sRGB or grey, encoding, and measures of images.

A fault of an image is a reject with a reason; no bytes make a function here raise. Only a machine that cannot start a
decoder process does: DecoderUnavailable, which is retried. The limit on the number of
pixels is checked against the header, before memory for pixels is allocated.
"""

import hashlib
import io
import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from stoker.pipelines.images.colour import Colour
from stoker.pipelines.images.containers.frames import frames_of
from stoker.pipelines.images.decoded import DecodedImage, Need
from stoker.pipelines.images.decoding import decode_image
from stoker.pipelines.images.formats import EXTENSIONS, without_junk
from stoker.pipelines.images.opening import MAX_PIXELS as MAX_PIXELS
from stoker.pipelines.images.opening import ImageHeader as ImageHeader
from stoker.pipelines.images.opening import read_header
from stoker.pipelines.images.perceptual_hash import GOOD_QUALITY, SIDE, hash_of
from stoker.pipelines.rejected import Rejected
from stoker.storage.shards.sample import Sample

# Pixels of the largest image whose pixels are hashed, for which it is decoded at its full size: where its perceptual
# hash is too poor to find copies, and always, where it costs next to nothing.
_MAX_HASHED, _ALWAYS_HASHED = 1 << 24, 1 << 16
_GREY_SIDE = 256  # pixels: images are measured at a shorter side of at least this, or of all that they have

Format = Literal["jpg", "png", "webp"]


def field_of(sample: Sample) -> str | None:
    """The extension of the sample's image field; None if it has none.

    >>> field_of(Sample("a", {"png": b"", "cls": b"1"}))
    'png'
    """
    return next((extension for extension in EXTENSIONS if extension in sample.fields), None)


def trim_images(sample: Sample) -> Sample:
    """The sample without white space before its images, with which most programs could not read them."""
    trimmed = {
        extension: without_junk(payload)
        for extension, payload in sample.fields.items()
        if extension in EXTENSIONS and len(without_junk(payload)) != len(payload)
    }
    return replace(sample, fields=dict(sample.fields) | trimmed) if trimmed else sample


def header_of(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageHeader | Rejected:
    """The header of an image, which is all that is read of it."""
    return read_header(payload, max_pixels=max_pixels)


def decode(
    payload: bytes, *, colour: Colour = "rgb", at_least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image | Rejected:
    """The image (of several, the first): upright, in mode RGB (sRGB, transparency on white) or L, without metadata.

    ``at_least``: a JPEG or a large image may be decoded at a fraction of its size, for a fraction of the work, as long
    as its shorter side keeps at least so many pixels.
    """
    decoded = decode_image(payload, colour, need=Need(at_least or None), max_pixels=max_pixels)
    return decoded if isinstance(decoded, Rejected) else decoded.image()


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
    ``image_hash_quality`` (0 to 100: below about 50, equal hashes prove little). Of several frames or pages the first
    is measured, and ``frames`` says how many they are. ``pixels_sha256``, of small images and of those whose hash has a
    quality below 50: equal for the same pixels in other files.
    """
    decoded = decode_image(payload, "grey", need=Need(_GREY_SIDE), max_pixels=MAX_PIXELS)
    if isinstance(decoded, Rejected):
        return decoded
    grey = decoded.image()
    shrink = max(1, min(grey.size) // _GREY_SIDE)
    small = grey.reduce(shrink) if shrink > 1 else grey
    brightness, contrast = _moments(small.histogram())
    # A box filter would enlarge a tiny image to blocks, whose edges add frequencies that are not in it.
    resampling = Image.Resampling.BICUBIC if min(grey.size) < SIDE else Image.Resampling.BOX
    bits, quality = hash_of(np.asarray(grey.resize((SIDE, SIDE), resampling)))
    frames = frames_column(payload, decoded.header.extension)
    # Of several frames the first says nothing of the others.
    pixels = {} if frames else _pixels_column(payload, decoded, quality)
    return (
        frames
        | pixels
        | {
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
    )


def frames_column(payload: bytes, extension: str) -> dict[str, int]:
    """The column ``frames`` of an image with several frames or pages; none of a single one."""
    frames = frames_of(without_junk(payload), extension)
    return {"frames": frames} if frames > 1 else {}


def _pixels_column(payload: bytes, decoded: DecodedImage, quality: int) -> dict[str, str]:
    """The column ``pixels_sha256`` of an image that the perceptual hash cannot tell from others, if it can be had.

    Equal for files that differ in compression or metadata alone: the SHA-256 of the size and the pixels, upright, in
    sRGB and on white. Not of more than 8 bits a channel, of which some would not count.
    """
    pixels = decoded.width * decoded.height
    if pixels > (_MAX_HASHED if quality < GOOD_QUALITY else _ALWAYS_HASHED) or decoded.header.mode[0] in "IF":
        return {}
    rgb = decode_image(payload, "rgb", need=Need(), max_pixels=MAX_PIXELS)
    if isinstance(rgb, Rejected):
        return {}
    image = rgb.image()
    return {"pixels_sha256": hashlib.sha256(b"%d %d\n" % image.size + image.tobytes()).hexdigest()}


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
