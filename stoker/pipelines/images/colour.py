"""One picture of eight bits a channel out of whatever a decoder gives: deep, indexed, transparent, profiled, turned."""

import io
from functools import cache
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms

Colour = Literal["rgb", "grey"]
_MAX_ICC = 4 << 20  # bytes; profiles of printers reach 2 MiB

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What brings the picture upright, by its EXIF orientation; damaged EXIF says nothing."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001  # Pillow parses EXIF of any shape, and stumbles in many ways
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def flat(image: Image.Image, colour: Colour) -> Image.Image:
    """The picture in RGB or L: deep values scaled, profiles applied, transparency laid on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode == "L" and colour == "grey" and "transparency" not in image.info:
        return image
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        profile = image.info.get("icc_profile")
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.info["icc_profile"] = profile
    image = _in_srgb(image)
    if image.mode in ("LA", "RGBA"):
        shown = image.convert("RGBA")
        white = Image.new("RGBA", shown.size, "white")
        white.alpha_composite(shown)
        image = white
    return image.convert("RGB" if colour == "rgb" else "L")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits by their upper eight; of other depths, between the least and the greatest there is."""
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


_SPACES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",), "Lab ": ("LAB",)}


def _in_srgb(image: Image.Image) -> Image.Image:
    """The picture in sRGB where it carries a colour profile that fits it; a damaged or strange one is ignored."""
    icc = image.info.get("icc_profile")
    if not isinstance(icc, bytes) or not 128 < len(icc) <= _MAX_ICC:
        return (
            ImageCms.profileToProfile(image, _lab(), _srgb(), outputMode="RGB") or image
            if image.mode == "LAB"
            else image
        )
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if image.mode not in _SPACES.get(profile.profile.xcolor_space, ()):
            return image
        if "sRGB" in (profile.profile.profile_description or ""):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        found = ImageCms.profileToProfile(image, profile, _srgb(), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return found if found is not None else image


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
