"""Which images are decoded in a process of their own: those of libraries that may crash or hang, and those too large.

Estimates of memory come from measurements with 64 megapixels (tests/pipelines/images/process/test_budget.py).
"""

from PIL import TiffImagePlugin

from stoker.pipelines.images.jpeg import JpegData
from stoker.pipelines.images.opening import OpenedImage
from stoker.pipelines.images.process.pool import MEMORY
from stoker.pipelines.rejected import Rejected

# Formats that are always decoded there. OpenJPEG, libavif's, libheif's and libjxl's decoders are large programs for
# intricate formats; their time and memory do not hang on the size of the image alone.
ALWAYS = frozenset(("jp2", "avif", "heic", "jxl"))
MOST_HERE = 300_000_000  # bytes that decoding may take in this process
# The least bytes a pixel that decoding takes with Pillow's image. WebP: two canvases and Python's copy.
_LEAST = {"webp": 16, "avif": 9}
# Bytes a pixel that Pillow takes, with the image converted: of formats and modes that it decodes as a whole.
_TAKEN = {("webp", mode): _LEAST["webp"] for mode in ("RGB", "RGBA")} | {
    **{("gif", mode): 9 for mode in ("L", "P", "RGB", "RGBA")},  # the frame, its canvas with transparency, and RGB
    **{("bmp", mode): 5 for mode in ("1", "L", "P")},
    ("png", "1"): 5,
}
PIXEL = 4  # bytes of a pixel of most modes in Pillow's memory, and of a component in OpenJPEG's
_ENCODED = 4  # bytes of a pixel in the largest file: one of noise
_NARROW = 6  # bytes of a pixel between the two passes of the filter, when width is reduced and height is not
RESIZED = 7  # bytes of a resized pixel: as NumPy's pixels and in Pillow's image


def is_for_process(opened: OpenedImage) -> bool:
    """Whether the image, of a format that is not always decoded there, is."""
    pixels = opened.image.width * opened.image.height
    if isinstance(opened.image, TiffImagePlugin.TiffImageFile):
        # libtiff's; what is not compressed is read by Pillow itself.
        return bool(getattr(opened.image, "use_load_libtiff", False))
    return pixels * _TAKEN.get((opened.header.extension, opened.image.mode), 0) > MOST_HERE


def fault_of_size(opened: OpenedImage, scale: int, most: int) -> Rejected | None:
    """``too_large`` if decoding the image at 1/``scale`` surely takes more bytes: its decoder may not say so itself."""
    pixels = -(-opened.image.width // scale) * -(-opened.image.height // scale)
    each = _LEAST.get(opened.header.extension, PIXEL)
    if opened.header.extension == "jp2":
        each += PIXEL * len(opened.image.getbands())
    if pixels * each <= most:
        return None
    size = f"{opened.image.width}x{opened.image.height}"
    return Rejected(
        "too_large", f"{size} would take {pixels * each // 10**6} MB to decode, more than {most // 10**6} MB"
    )


def jpeg_is_for_process(jpeg: JpegData, scale: int, *, all_pixels: bool) -> bool:
    """Whether the coefficients of a JPEG of many scans, which libjpeg keeps, and its pixels take too much."""
    pixels = jpeg.width * jpeg.height * (PIXEL if all_pixels else jpeg.components) // scale**2
    return jpeg.coefficients * 2 + pixels > MOST_HERE


def bytes_of_rendering(pixels: int, ratio: float | None) -> int:
    """Bytes that it takes to resize pixels to 1/``ratio`` of width and height (None: not), and to encode them."""
    if ratio is None:
        return pixels * _ENCODED
    return int(pixels * _NARROW / ratio + pixels * (RESIZED + _ENCODED) / ratio**2)


def rendering_is_for_process(taken: int) -> bool:
    """Whether to decode, resize and encode takes too many bytes here.

    Not if it takes more than a decoder process has: a recipe asks for that by ``max_megapixels``.
    """
    return MOST_HERE < taken <= MEMORY
