"""HEIC and other HEIF images, opened by the optional package pillow-heif, which is imported for the first of them."""

import io
from functools import cache
from typing import Any

from PIL import ImageFile


def can_open_heif() -> bool:
    """Whether the package is installed."""
    return _library() is not None


def open_heif(file: io.BytesIO) -> ImageFile.ImageFile:
    """The primary image with its header read, upright and cropped as it says.

    What EXIF and XMP say of its orientation is removed: HEIF turns images by properties of its own (ISO/IEC 23008-12).
    """
    image: ImageFile.ImageFile = _library().HeifImageFile(file)
    for name in ("exif", "xmp"):
        image.info.pop(name, None)
    return image


@cache
def _library() -> Any:  # Any: a module that may be missing
    try:
        import pillow_heif
    except ImportError:
        return None
    return pillow_heif
