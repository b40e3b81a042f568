"""Conversion of decoded images to 8-bit sRGB or grey: bit depth, palettes, transparency, profiles, EXIF orientation."""

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from stoker.pipelines.images.memory import Memory, Pixels, rgb_of

Colour = Literal["rgb", "grey"]
MAX_PROFILE = 4 << 20  # bytes of an ICC profile; those of printers reach 2 MiB

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Transpositions that exchange width and height.
SWAPS_SIDES = tuple(_TRANSPOSE_OF_ORIENTATION[orientation] for orientation in (5, 6, 7, 8))


def exif_transpose(image: Image.Image) -> Image.Transpose | None:
    """The transposition that the EXIF orientation asks for; None if it asks for none."""
    return _TRANSPOSE_OF_ORIENTATION.get(_orientation_of(image))


def transpose_in(info: Mapping[str, bytes]) -> Image.Transpose | None:
    """The same for EXIF and XMP that were read from a file, under Pillow's names."""
    return _TRANSPOSE_OF_ORIENTATION.get(orientation_in(info))


def orientation_in(info: Mapping[Any, object]) -> int:  # Any: Pillow's names of metadata are mostly text
    """The EXIF orientation, 1 to 8, in metadata under Pillow's names; 1 if there is none."""
    if not any(name in info for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")):
        return 1
    image = Image.Image()
    image.info.update(info)
    return _orientation_of(image)


def _orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none, or if the EXIF is damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001  # Pillow parses EXIF of any shape, and stumbles in many ways
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def convert_colour(image: Image.Image, colour: Colour, *, reduce: int = 1) -> Image.Image:
    """The image in mode RGB or L: scaled to eight bits, colour profile applied, transparency on white.

    ``reduce``: each pixel is the mean of so many times so many. Large images are converted in strips, so that little
    memory is needed beside the image itself.
    """
    depth = _Depth.of(image)
    if image.width * image.height <= LARGE:
        return _reduced(_convert(image, colour, depth), reduce)
    mode = "RGB" if colour == "rgb" else "L"
    if reduce == 1 and _is_converted(image, mode):
        return image
    result = Image.new(mode, (-(-image.width // reduce), -(-image.height // reduce)))
    for top, strip in _strips(image, colour, depth, reduce):
        result.paste(_reduced(strip, reduce), (0, top // reduce))
    return result


def convert_into(memory: Memory, image: Image.Image, *, lies_in_it: bool) -> Pixels:
    """The large image's pixels in sRGB, written into the memory. ``lies_in_it``: the image was decoded there."""
    if not lies_in_it or not _is_converted(image, "RGB"):
        for top, strip in _strips(image, "rgb", _Depth.of(image), 1):
            memory[top : top + strip.height, :, :3] = np.asarray(strip)
    return rgb_of(memory)


def _is_converted(image: Image.Image, mode: str) -> bool:
    """Whether it is in this mode, sRGB and opaque."""
    return (
        image.mode == mode
        and "transparency" not in image.info
        and not needs_profile(image.info.get("icc_profile"), mode)
    )


def _strips(
    image: Image.Image, colour: Colour, depth: "_Depth | None", multiple: int
) -> Iterator[tuple[int, Image.Image]]:
    """The converted image in strips with their top rows, multiples of ``multiple``."""
    rows = max(1, (_STRIP // image.width) // multiple) * multiple
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip.info = image.info
        yield top, _convert(strip, colour, depth)


LARGE = 1 << 22  # pixels: larger images are converted in strips, reduced where fewer pixels are needed
_STRIP = 1 << 18  # pixels


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    return image.reduce(factor) if factor > 1 else image


def _convert(image: Image.Image, colour: Colour, depth: "_Depth | None") -> Image.Image:
    if depth is not None:
        image = depth.to_eight_bits(image)
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        profile = image.info.get("icc_profile")
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.info["icc_profile"] = profile
    image = _to_srgb(image)
    if image.mode in ("LA", "RGBA"):
        transparent = image.convert("RGBA")
        image = Image.new("RGBA", transparent.size, "white")
        image.alpha_composite(transparent)
    return image.convert("RGB" if colour == "rgb" else "L")


@dataclass(frozen=True, slots=True)
class _Depth:
    """How grey values of more than eight bits become eight: the upper ones, or scaled between two values."""

    shift: int
    low: float
    high: float

    @classmethod
    def of(cls, image: Image.Image) -> "_Depth | None":
        """Of 16 bits the upper eight are taken; values of other depths are scaled between minimum and maximum."""
        if image.mode.startswith("I;16"):
            tags = getattr(image, "tag_v2", {})
            bits = tags.get(258, (16,))  # BitsPerSample: TIFF may hold 12 bits in 16
            depth = bits[0] if isinstance(bits, tuple) else bits
            return cls(max(8, min(16, depth)) - 8, 0, 0)
        if image.mode not in ("I", "F"):
            return None
        low, high, rows = math.inf, -math.inf, max(1, _STRIP // image.width)
        for top in range(0, image.height, rows):
            values = _finite(image.crop((0, top, image.width, min(top + rows, image.height))))
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        return cls(0, low, high)

    def to_eight_bits(self, image: Image.Image) -> Image.Image:
        """The grey image in mode L."""
        if image.mode.startswith("I;16"):
            return Image.fromarray((np.asarray(image) >> self.shift).clip(0, 255).astype(np.uint8))
        values, span = _finite(image), self.high - self.low
        scaled = (values - self.low) * (255 / span) if span > 0 else np.zeros_like(values)
        return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _finite(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)


_SAME_COLOUR = (
    16  # levels: more than the variants of sRGB that programs write differ by, and a fifth of what linear ones do
)
# The modes of Pillow that a profile of a colour space fits.
_MODES_OF_SPACE = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L", "LA"), "CMYK": ("CMYK",), "Lab ": ("LAB",)}


def needs_profile(icc: object, mode: str) -> bool:
    """Whether colours of this mode change with the ICC profile: it fits the mode, is intact and not sRGB."""
    if not isinstance(icc, bytes) or not 128 < len(icc) <= MAX_PROFILE:
        return False
    space = _space_of(icc)
    return mode in _MODES_OF_SPACE.get(space, ())


@lru_cache(maxsize=16)
def _space_of(icc: bytes) -> str:
    """The colour space that the profile is for; empty if it is sRGB or damaged."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space: str = profile.profile.xcolor_space
        is_named = "sRGB" in (profile.profile.profile_description or "")
        return "" if is_named and space == "RGB " and _is_srgb(profile) else space
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return ""


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether colours hardly change with it. "GIMP built-in Linear sRGB" is a name, too, of another curve."""
    probe = Image.fromarray(np.array([[(60, 60, 60), (128, 128, 128), (200, 90, 60), (60, 90, 200)]], np.uint8))
    converted = ImageCms.profileToProfile(probe, profile, _srgb(), outputMode="RGB")
    change = np.abs(np.asarray(converted, np.int16) - np.asarray(probe, np.int16))
    return int(change.max()) <= _SAME_COLOUR


def _to_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB if it has a colour profile that fits its mode; a damaged or unknown profile is ignored."""
    icc = image.info.get("icc_profile")
    if not isinstance(icc, bytes) or not needs_profile(icc, image.mode):
        if image.mode == "LAB":
            return ImageCms.profileToProfile(image, _lab(), _srgb(), outputMode="RGB") or image
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        source = image.getchannel("L") if image.mode == "LA" else image
        converted = ImageCms.profileToProfile(source, profile, _srgb(), outputMode=mode)
        if converted is not None and image.mode == "LA":
            converted.putalpha(image.getchannel("A"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted if converted is not None else image


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
