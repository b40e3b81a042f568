"""Conversion of decoded images to 8-bit sRGB or grey: bit depth, palettes, transparency, profiles, EXIF orientation."""

import io
from functools import cache, lru_cache
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms

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
    """The transposition that the EXIF orientation asks for; None if there is none, or if the EXIF is damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001  # Pillow parses EXIF of any shape, and stumbles in many ways
        return None
    return _TRANSPOSE_OF_ORIENTATION.get(orientation) if isinstance(orientation, int) else None


def convert_colour(image: Image.Image, colour: Colour) -> Image.Image:
    """The image in mode RGB or L: scaled to eight bits, colour profile applied, transparency on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_eight_bits(image)
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


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """The grey image in mode L: the upper eight of 16 bits; other depths are scaled between minimum and maximum."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(258, (16,))  # BitsPerSample: TIFF may hold 12 bits in 16
        depth = bits[0] if isinstance(bits, tuple) else bits
        return Image.fromarray((values >> (max(8, min(16, depth)) - 8)).clip(0, 255).astype(np.uint8))
    finite = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    scaled = (finite - low) * (255 / (high - low)) if high > low else np.zeros_like(finite)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


# The modes of Pillow that a profile of a colour space fits.
_MODES_OF_SPACE = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",), "Lab ": ("LAB",)}


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
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        return "" if "sRGB" in (profile.profile_description or "") else profile.xcolor_space
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return ""


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
        converted = ImageCms.profileToProfile(image, profile, _srgb(), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted if converted is not None else image


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
