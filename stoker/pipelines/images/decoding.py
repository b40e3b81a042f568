"""Decoding of images to 8-bit sRGB or grey pixels, at a fraction of their size where fewer pixels are needed.

The pixels are as stored: what uses them resizes first and turns upright last, when they are few.
"""

import contextlib
import pkgutil
import threading
from dataclasses import replace
from typing import Any

from PIL import Image, Jpeg2KImagePlugin, TiffImagePlugin

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
from stoker.pipelines.images.containers.tiff_checksums import deflate_parts
from stoker.pipelines.images.decoded import DecodedImage, Need, image_of
from stoker.pipelines.images.faults import fault_of_strips, rejection_for
from stoker.pipelines.images.formats import can_decode, extension_of, missing_library, without_junk
from stoker.pipelines.images.jpeg import check_jpeg, decode_strictly
from stoker.pipelines.images.memory import Memory, Pixels, decode_into, image_over, memory_for
from stoker.pipelines.images.opening import (
    ImageHeader,
    OpenedImage,
    open_image,
    read_header,
)
from stoker.pipelines.images.png import (
    check_png,
    is_deep_and_transparent,
    open_strict,
    rows_are_complete,
    with_deep_transparency,
)
from stoker.pipelines.images.process import pool
from stoker.pipelines.images.process.budget import (
    ALWAYS,
    MOST_HERE,
    PIXEL,
    fault_of_size,
    is_for_process,
    jpeg_is_for_process,
    rendering_is_for_process,
)
from stoker.pipelines.images.process.child import serve
from stoker.pipelines.images.process.messages import Message, fields_of, message_of
from stoker.pipelines.rejected import Rejected

# The image decoded last in this thread: several steps may decode the same bytes.
_cache = threading.local()
_memory_of_process: int | None = None  # bytes that an image may take here, if this is a decoder process


class NeedsProcess(Exception):
    """The image is to be decoded in a process of its own, where it may take more memory, and may crash the decoder."""


def decode_image(payload: bytes, colour: Colour, *, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    """The image's pixels (of several images, the first's), or why there are none.

    Raises DecoderUnavailable if they need a decoder process and none can be started.
    """
    with contextlib.suppress(NeedsProcess):
        return decode_here(payload, colour, need=need, max_pixels=max_pixels)
    task = {"colour": colour, "need": [need.size, need.decoding, need.of_longer], "max_pixels": max_pixels}
    message = call_in_process("stoker.pipelines.images.decoding:decode_task", task, payload)
    fields = message if isinstance(message, Rejected) else fields_of(message)
    decoded = fields if isinstance(fields, Rejected) else DecodedImage(**fields)
    return _kept(decoded, payload, (colour, need, max_pixels))


def decode_here(payload: bytes, colour: Colour, *, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    """The same if it can be decoded in this process. Raises NeedsProcess, in time, if it is not to be."""
    options = (colour, need, max_pixels)
    cached: tuple[bytes, object, DecodedImage] | None = getattr(_cache, "last", None)
    if cached is not None and cached[1] == options and cached[0] == payload:
        return cached[2]
    extension = extension_of(payload)
    if isinstance(extension, Rejected):
        return extension
    if extension in ALWAYS and _memory_of_process is None:
        if not can_decode(extension):
            return missing_library(extension)
        raise NeedsProcess
    decode = {"jpg": _decode_jpeg, "jxl": _decode_jxl}.get(extension, _decode_other)
    try:
        return _kept(decode(without_junk(payload), colour, need, max_pixels), payload, options)
    except NeedsProcess:
        raise
    except Exception as error:  # noqa: BLE001  # damaged files raise OSError, SyntaxError, ValueError, TypeError, ...
        return rejection_for(error, payload, extension)


def _kept(decoded: DecodedImage | Rejected, payload: bytes, options: object) -> DecodedImage | Rejected:
    """The same, kept for the next step if it is small."""
    if isinstance(decoded, DecodedImage) and not decoded.is_large:
        _cache.last = (payload, options, decoded)
    return decoded


def is_decoder_process() -> bool:
    """Whether this process decodes for another one, so that images may take more memory."""
    return _memory_of_process is not None


def call_in_process(work: str, task: dict[str, Any], payload: bytes) -> pool.Result | Rejected:  # Any: JSON
    """What the function ``work`` ("module:name", of a task and a payload) gives in a decoder process.

    Raises DecoderUnavailable if none can be started.
    """
    return pool.call(task | {"work": work}, without_junk(payload))


def decode_task(task: dict[str, Any], payload: bytes) -> Message:  # Any: JSON
    """In a decoder process: the decoded image, for ``decode_image``."""
    decoded = decode_image(payload, task["colour"], need=Need(*task["need"]), max_pixels=task["max_pixels"])
    return message_of(decoded)


def serve_decoding(*, cpu_s: int, memory: int) -> None:
    """In a decoder process: do what comes. See ``process.child.serve``."""
    global _memory_of_process
    _memory_of_process = memory

    def do(task: dict[str, Any], payload: bytes) -> Message:  # Any: JSON
        try:
            message: Message = pkgutil.resolve_name(task["work"])(task, payload)
            return message
        except MemoryError as error:
            return message_of(rejection_for(error, payload, ""))
        finally:
            _cache.last = None

    serve(do, cpu_s=cpu_s, memory=memory)


def _decode_jpeg(payload: bytes, colour: Colour, need: Need, max_pixels: int) -> DecodedImage | Rejected:
    jpeg = check_jpeg(payload, max_pixels=max_pixels)
    if isinstance(jpeg, Rejected):
        return jpeg
    if not jpeg.strict:
        return _decode_other(payload, colour, need, max_pixels)
    scale = need.scale_of_jpeg(jpeg.width, jpeg.height, size=len(jpeg.payload))
    has_profile = needs_profile(jpeg.info.get("icc_profile"), jpeg.mode)
    memory = None
    is_all = scale == 1 and need.is_all(jpeg.width, jpeg.height)
    if colour == "rgb" and is_all and not (has_profile and jpeg.components == 1):
        memory = memory_for(jpeg.width, jpeg.height)
    if _memory_of_process is None and (
        jpeg_is_for_process(jpeg, scale, all_pixels=memory is not None)
        or (need.encoded and rendering_is_for_process(need.bytes_here(jpeg.width, jpeg.height, colour, scale=scale)))
    ):
        raise NeedsProcess
    # Grey is the luminance as stored, unless a colour profile gives it another meaning.
    pixels = decode_strictly(jpeg, grey=colour == "grey" and not has_profile, scale=scale, memory=memory)
    if pixels is None:
        other = _decode_other(payload, colour, need, max_pixels)
        return replace(other, jpeg=jpeg) if isinstance(other, DecodedImage) else other
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
    decoded = _decoded(source, header, (jpeg.width, jpeg.height), scale, transpose_in(jpeg.info), has_profile)
    return replace(decoded, jpeg=jpeg)


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
    width, height = opened.header.width, opened.header.height
    if _memory_of_process is None and (
        is_for_process(opened) or (need.encoded and rendering_is_for_process(need.bytes_here(width, height, colour)))
    ):
        raise NeedsProcess
    try:
        memory = memory_for(width, height) if colour == "rgb" and need.is_all(width, height) else None
        image, scale, lies_in_memory = _load(opened, need, memory)
        if isinstance(image, Rejected):
            return image
        stored = image.size if scale == 1 else (width, height)
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
    parts = deflate_parts(image, opened.payload) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    lies_in_memory = memory is not None and decode_into(image, memory)
    image.load()
    fault = parts.fault(image) if parts is not None else None
    return image if fault is None else fault, scale, lies_in_memory


def _cropped(image: Image.Image, crop: Crop) -> Image.Image:
    part = image.crop(crop)
    part.info = image.info
    return part


def _load_png(payload: bytes, memory: Memory | None) -> tuple[Image.Image | Rejected, int, bool]:
    png = check_png(payload)
    if isinstance(png, Rejected):
        return png, 1, False
    image = open_strict(png)
    if is_deep_and_transparent(png) and image.width * image.height * 2 * PIXEL > MOST_HERE and not is_decoder_process():
        raise NeedsProcess
    lies_in_memory = memory is not None and decode_into(image, memory)
    image.load()
    if not image.last_row_is_decoded() and not rows_are_complete(png):
        return Rejected("truncated", "its image data hold fewer rows than its header says"), 1, False
    if is_deep_and_transparent(png):
        return with_deep_transparency(image, png), 1, False
    return image, 1, lies_in_memory
