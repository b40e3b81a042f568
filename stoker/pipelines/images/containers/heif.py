"""HEIC and other HEIF images, opened by the optional package pillow-heif, which is imported for the first of them."""

import io

from PIL import ImageFile

from stoker.pipelines.images.formats import library_of


def open_heif(file: io.BytesIO) -> ImageFile.ImageFile:
    """The primary image with its header read, upright and cropped as it says.

    What EXIF and XMP say of its orientation is removed: HEIF turns images by properties of its own (ISO/IEC 23008-12).
    """
    image: ImageFile.ImageFile = library_of("heic").HeifImageFile(file)
    for name in ("exif", "xmp"):
        image.info.pop(name, None)
    return image
