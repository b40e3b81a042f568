"""Decoding of images to 8-bit sRGB or grey pixels, at a fraction of their size where fewer pixels are needed.

The pixels are as stored: what uses them resizes first and turns upright last, when they are few.
"""

import threading
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image, Jpeg2KImagePlugin

from stoker.pipelines.errors import DecoderUnavailable
from stoker.pipelines.images.colour import (
    LARGE,
    SWAPS_SIDES,
    Colour,
    convert_colour,
    convert_into,
    exif_transpose,
    needs_profile,
    transpose_in,
)
from stoker.pipelines.images.containers.gif_canvas import load_on_canvas
from stoker.pipelines.images.containers.iso_images import Crop
from stoker.pipelines.images.containers.jpeg_xl import decode_jxl
from stoker.pipelines.images.faults import fault_of_strips, rejection_for
from stoker.pipelines.images.formats import can_decode, extension_of, missing_library, without_junk
from stoker.pipelines.images.jpeg import check_jpeg, decode_strictly
from stoker.pipelines.images.memory import Memory, Pixels, decode_into, image_over, memory_for, memory_of
from stoker.pipelines.images.opening import (
    ImageHeader,
    OpenedImage,
    open_image,
    read_header,
)
from stoker.pipelines.images.png import check_png, open_strict, rows_are_complete
from stoker.pipelines.images.process import pool
from stoker.pipelines.images.process.budget import ALWAYS, fault_of_size, is_for_process, jpeg_is_for_process
from stoker.pipelines.images.process.child import serve
from stoker.pipelines.images.process.messages import Message, fields_of, message_of
from stoker.pipelines.images.resize import Box
from stoker.pipelines.rejected import Rejected

# The least multiple of the final size at which a JPEG is decoded for it ("fast"), and the one where it holds many bits
# a pixel, which means details that scaled decoding would blur. Measured: at least 47 dB from float Lanczos.
_OVERSAMPLING, _OVERSAMPLING_OF_DETAILS = 2, 3
_DETAILED = 1.0  # bits a pixel
_REDUCED_TO = 8  # the multiple of the final size to which large images are reduced by means before they are resized
_MAX_CACHED_PIXELS = 1 << 24  # larger images are not kept for the next step

Decoding = Literal["fast", "exact"]


@dataclass(frozen=True, slots=True)
class Need:
    """How many pixels the shorter (``of_longer``: the longer) side needs, and for what.

    ``decoding``: they are to be resized to ``size``, "fast" or "exact"; None: so many are enough. ``size`` None: all.
    """

    size: int | None = None
    decoding: Decoding | None = None
    of_longer: bool = False

    def scale_of_jpeg(self, width: int, height: int, *, detailed: bool) -> int:
        """The greatest n of 8, 4, 2 and 1 for which 1/n of the size is enough of a JPEG."""
        times = 1 if self.decoding is None else _OVERSAMPLING_OF_DETAILS if detailed else _OVERSAMPLING
        enough = 1.0 if self.decoding == "exact" else self._ratio(width, height) / times
        return next((n for n in (8, 4, 2) if enough >= n), 1)

    def factor_of_means(self, width: int, height: int) -> int:
        """By how much a large image may be reduced by means of squares of pixels."""
        ratio = self._ratio(width, height)
        return max(1, int(ratio if self.decoding is None else ratio / _REDUCED_TO))

    def is_all(self, width: int, height: int) -> bool:
        """Whether a large image is needed at its full size."""
        return width * height > LARGE and self.factor_of_means(width, height) == 1

    def _ratio(self, width: int, height: int) -> float:
        """How many times the pixels that are needed there are."""
        return (max if self.of_longer else min)(width, height) / self.size if self.size else 1.0


_MODES = {1: "L", 3: "RGB", 4: "CMYK"}


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image, perhaps at 1/``scale`` of its size, in its stored orientation.

    ``width`` and ``height`` are those of the whole image upright. ``transpose`` makes it upright.
    """

    source: Pixels | Image.Image
    header: ImageHeader
    width: int
    height: int
    scale: int
    transpose: Image.Transpose | None
    has_profile: bool = False  # its colours were converted by one

    def pixels(self) -> Pixels:
        """(height, width, 1 or 3), as stored."""
        if isinstance(self.source, np.ndarray):
            return self.source
        pixels = np.asarray(self.source)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def image(self) -> Image.Image:
        """The image upright, in mode RGB or L, without metadata."""
        image = image_of(self.source) if isinstance(self.source, np.ndarray) else self.source
        if self.transpose is not None:
            image = image.transpose(self.transpose)
        elif not self.is_large and self._lies_in(image):  # it may be decoded for the next step too
            image = image.copy()
        image.info = {}
        return image

    def _lies_in(self, image: Image.Image) -> bool:
        """Whether what is drawn on the image changes this one."""
        return image is self.source or (isinstance(self.source, np.ndarray) and memory_of(self.source) is not None)

    def stored_box(self, box: Box) -> Box:
        """Where a box of the whole upright image lies in ``pixels``."""
        left, top, width, height = box
        right, bottom = self.width - left - width, self.height - top - height
        left, top, width, height = {
            None: (left, top, width, height),
            Image.Transpose.FLIP_LEFT_RIGHT: (right, top, width, height),
            Image.Transpose.ROTATE_180: (right, bottom, width, height),
            Image.Transpose.FLIP_TOP_BOTTOM: (left, bottom, width, height),
            Image.Transpose.TRANSPOSE: (top, left, height, width),
            Image.Transpose.ROTATE_270: (top, right, height, width),
            Image.Transpose.TRANSVERSE: (bottom, right, height, width),
            Image.Transpose.ROTATE_90: (bottom, left, height, width),
        }[self.transpose]
        return left / self.scale, top / self.scale, width / self.scale, height / self.scale

    @property
    def is_large(self) -> bool:
        """Whether it is not kept for the next step."""
        return self.width * self.height > _MAX_CACHED_PIXELS * self.scale**2

    @property
    def is_as_stored(self) -> bool:
        """Whether it is upright and in sRGB as it is stored."""
        return self.transpose is None and not self.has_profile

    @property
    def is_turned(self) -> bool:
        """Whether width and height change places when it is made upright."""
        return self.transpose in SWAPS_SIDES


def image_of(pixels: Pixels) -> Image.Image:
    """Pixels (height, width, 1, 3 or 4) as an image in mode L, RGB or CMYK."""
    memory = memory_of(pixels)
    if memory is not None:
        return image_over(memory)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, _MODES[pixels.shape[2]])


# The image decoded last in this thread: several steps may decode the same bytes.
_cache = threading.local()


def decode_image(payload: bytes, colour: Colour, *, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    """The image's pixels (of several images, the first's), or why there are none.

    Raises DecoderUnavailable if they need a decoder process and none can be started.
    """
    options = (colour, need, max_pixels)
    cached: tuple[bytes, object, DecodedImage] | None = getattr(_cache, "last", None)
    if cached is not None and cached[1] == options and cached[0] == payload:
        return cached[2]
    extension = extension_of(payload)
    if isinstance(extension, Rejected):
        return extension
    decode = {"jpg": _decode_jpeg, "jxl": _decode_jxl}.get(extension, _decode_other)
    if extension in ALWAYS and _memory_of_process is None:
        if not can_decode(extension):
            return missing_library(extension)
        decode = _decode_in_process
    try:
        decoded = decode(without_junk(payload), colour, need, max_pixels)
    except DecoderUnavailable:  # no fault of the image
        raise
    except Exception as error:  # noqa: BLE001  # damaged files raise OSError, SyntaxError, ValueError, TypeError, ...
        return rejection_for(error, payload, extension)
    if isinstance(decoded, DecodedImage) and not decoded.is_large:
        _cache.last = (payload, options, decoded)
    return decoded


_memory_of_process: int | None = None  # bytes that an image may take here, if this is a decoder process


def _decode_in_process(payload: bytes, colour: Colour, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    """The same from a decoder process, where the image may take more memory, and may crash the decoder."""
    task = {"colour": colour, "need": [need.size, need.decoding, need.of_longer], "max_pixels": max_pixels}
    message = pool.call(task, payload)
    fields = message if isinstance(message, Rejected) else fields_of(message)
    return fields if isinstance(fields, Rejected) else DecodedImage(**fields)


def serve_decoding(*, cpu_s: int, memory: int) -> None:
    """In a decoder process: decode what comes. See ``process.child.serve``."""
    global _memory_of_process
    _memory_of_process = memory

    def decode(task: dict[str, Any], payload: bytes) -> Message:  # Any: JSON
        need = Need(*task["need"])
        try:
            decoded = decode_image(payload, task["colour"], need=need, max_pixels=task["max_pixels"])
            _cache.last = None
            return message_of(decoded)
        except MemoryError as error:
            return message_of(rejection_for(error, payload, ""))

    serve(decode, cpu_s=cpu_s, memory=memory)


def _decode_jpeg(payload: bytes, colour: Colour, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    jpeg = check_jpeg(payload, max_pixels=max_pixels)
    if isinstance(jpeg, Rejected):
        return jpeg
    if not jpeg.strict:
        return _decode_other(payload, colour, need, max_pixels)
    detailed = len(jpeg.payload) * 8 > jpeg.width * jpeg.height * _DETAILED
    scale = need.scale_of_jpeg(jpeg.width, jpeg.height, detailed=detailed)
    has_profile = needs_profile(jpeg.info.get("icc_profile"), jpeg.mode)
    memory = None
    is_all = scale == 1 and need.is_all(jpeg.width, jpeg.height)
    if colour == "rgb" and is_all and not (has_profile and jpeg.components == 1):
        memory = memory_for(jpeg.width, jpeg.height)
    if _memory_of_process is None and jpeg_is_for_process(jpeg, scale, all_pixels=memory is not None):
        return _decode_in_process(payload, colour, need, max_pixels)
    # Grey is the luminance as stored, unless a colour profile gives it another meaning.
    pixels = decode_strictly(jpeg, grey=colour == "grey" and not has_profile, scale=scale, memory=memory)
    if pixels is None:
        return _decode_other(payload, colour, need, max_pixels)
    if isinstance(pixels, Rejected):
        return pixels
    source: Pixels | Image.Image = pixels
    if memory is not None:
        source = image_over(memory, "CMYK" if jpeg.components == 4 else "RGB")
        source.info["icc_profile"] = jpeg.info.get("icc_profile")
        source = convert_into(memory, source, lies_in_it=True)
    elif has_profile or pixels.shape[2] != (3 if colour == "rgb" else 1):
        source = image_of(pixels)
        source.info["icc_profile"] = jpeg.info.get("icc_profile")
        source = convert_colour(source, colour)
    header = ImageHeader("jpg", jpeg.width, jpeg.height, jpeg.mode)
    return _decoded(source, header, (jpeg.width, jpeg.height), scale, transpose_in(jpeg.info), has_profile)


def _decode_jxl(payload: bytes, colour: Colour, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    header = read_header(payload, max_pixels=max_pixels)
    if isinstance(header, Rejected):
        return header
    image = decode_jxl(payload)
    if isinstance(image, Rejected):
        return image
    if isinstance(image, bytes):
        jpeg = _decode_jpeg(image, colour, need, max_pixels)
        return replace(jpeg, header=replace(jpeg.header, extension="jxl")) if isinstance(jpeg, DecodedImage) else jpeg
    header, has_profile = replace(header, mode=image.mode), needs_profile(image.info.get("icc_profile"), image.mode)
    reduce = need.factor_of_means(*image.size) if image.width * image.height > LARGE else 1
    return _decoded(convert_colour(image, colour, reduce=reduce), header, image.size, reduce, None, has_profile)


def _decoded(
    source: Pixels | Image.Image,
    header: ImageHeader,
    stored: tuple[int, int],
    scale: int,
    transpose: Image.Transpose | None,
    has_profile: bool,
) -> DecodedImage:
    width, height = stored[::-1] if transpose in SWAPS_SIDES else stored
    return DecodedImage(source, header, width, height, scale, transpose, has_profile)


def _decode_other(payload: bytes, colour: Colour, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    opened = open_image(payload, max_pixels=max_pixels)
    if isinstance(opened, Rejected):
        return opened
    if _memory_of_process is None and is_for_process(opened):
        return _decode_in_process(payload, colour, need, max_pixels)
    try:
        memory = None
        if colour == "rgb" and need.is_all(opened.header.width, opened.header.height):
            memory = memory_for(opened.header.width, opened.header.height)
        image, scale, lies_in_memory = _load(opened, need, memory)
        if isinstance(image, Rejected):
            return image
        stored = image.size if scale == 1 else (opened.header.width, opened.header.height)
        if stored[0] * stored[1] > max_pixels:  # a first frame may be larger than its canvas
            return Rejected("too_many_pixels", f"{stored[0]}x{stored[1]}")
        transpose = exif_transpose(image)
        has_profile = needs_profile(image.info.get("icc_profile"), image.mode)
        is_large = image.width * image.height > LARGE
        reduce = max(1, need.factor_of_means(*stored) // scale) if is_large else 1
        if memory is not None and image.size == memory.shape[1::-1]:
            converted: Pixels | Image.Image = convert_into(memory, image, lies_in_it=lies_in_memory)
        else:
            converted = convert_colour(image, colour, reduce=reduce)
    except Exception as error:  # noqa: BLE001  # as above
        return rejection_for(error, opened.payload, opened.header.extension, opened.image)
    return _decoded(converted, opened.header, stored, scale * reduce, transpose, has_profile)


def _load(opened: OpenedImage, need: Need, memory: Memory | None) -> tuple[Image.Image | Rejected, int, bool]:
    """The image as stored, the n of the scale 1/n, and whether it lies in the memory."""
    image = opened.image
    if opened.header.extension == "png":
        return _load_png(opened.payload, memory)
    if opened.header.extension == "gif":
        return load_on_canvas(image), 1, False
    scale = 1
    if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile) and image.width * image.height > LARGE:
        factor = need.factor_of_means(image.width, image.height)
        scale = next((n for n in (8, 4, 2) if factor >= n), 1)
        image.reduce = scale.bit_length() - 1
    fault = fault_of_strips(image)
    if fault is None and _memory_of_process is not None:
        fault = fault_of_size(opened, scale, _memory_of_process)
    if fault is not None:
        return fault, scale, False
    if opened.crop is not None:
        image.load()
        return _cropped(image, opened.crop), scale, False
    lies_in_memory = memory is not None and decode_into(image, memory)
    image.load()
    return image, scale, lies_in_memory


def _cropped(image: Image.Image, crop: Crop) -> Image.Image:
    part = image.crop(crop)
    part.info = image.info
    return part


def _load_png(payload: bytes, memory: Memory | None) -> tuple[Image.Image | Rejected, int, bool]:
    png = check_png(payload)
    if isinstance(png, Rejected):
        return png, 1, False
    image = open_strict(png)
    lies_in_memory = memory is not None and decode_into(image, memory)
    image.load()
    if not image.last_row_is_decoded() and not rows_are_complete(png):
        return Rejected("truncated", "its image data hold fewer rows than its header says"), 1, False
    return image, 1, lies_in_memory
