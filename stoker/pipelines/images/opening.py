"""Opens images: reads their header and leaves their pixels, by Pillow's reader of the format that the bytes are in."""

import ctypes
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import PIL
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from stoker.pipelines.images.containers.heif import open_heif
from stoker.pipelines.images.containers.iso_images import Crop, clean_aperture
from stoker.pipelines.images.containers.jpeg_xl import read_jxl_header
from stoker.pipelines.images.containers.metadata_repair import repaired_tiff, repaired_webp
from stoker.pipelines.images.faults import rejection_for
from stoker.pipelines.images.formats import can_decode, extension_of, missing_library, without_junk
from stoker.pipelines.images.png import header_alone
from stoker.pipelines.rejected import Rejected

MAX_PIXELS = 1 << 26  # 67 megapixels: 192 MiB of RGB


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format, size and mode of an image from its header. Width and height are as stored, before EXIF orientation."""

    extension: str
    width: int
    height: int
    mode: str  # as Pillow calls it


@dataclass(frozen=True, slots=True, eq=False)
class OpenedImage:
    """An image whose header is read.

    ``payload``: its bytes, without junk before them. ``crop``: the part of the decoded image that is the image.
    """

    header: ImageHeader
    payload: bytes
    image: ImageFile.ImageFile
    crop: Crop | None = None


_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "jpg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tif": TiffImagePlugin.TiffImageFile,
    "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "heic": open_heif,
}
if features.check("avif"):
    from PIL import AvifImagePlugin

    _OPENERS["avif"] = AvifImagePlugin.AvifImageFile
_REPAIRS: dict[str, Callable[[bytes], bytes]] = {"webp": repaired_webp, "tif": repaired_tiff}
# Features that Pillow must have been built with, by extension.
_REQUIRED_FEATURES = {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}


def read_header(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageHeader | Rejected:
    """The header of an image, its size within the limit. Of JPEG XL the mode is not read."""
    if extension_of(payload) != "jxl":
        opened = open_image(payload, max_pixels=max_pixels)
        return opened if isinstance(opened, Rejected) else opened.header
    if not can_decode("jxl"):
        return missing_library("jxl")
    header = read_jxl_header(without_junk(payload))
    if isinstance(header, Rejected):
        return header
    if header.width * header.height > max_pixels:
        return Rejected("too_many_pixels", f"{header.width}x{header.height}, at most {max_pixels} pixels are decoded")
    if header.animated:
        return Rejected("unsupported_format", "an animated JPEG XL, whose first frame the decoder does not give")
    return ImageHeader("jxl", header.width, header.height, "RGB")


def open_image(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> OpenedImage | Rejected:
    """The image with its header read, its size within the limit. Of PNG ``image`` is the header alone.

    Image.open is not used: it tries every format it knows, and takes its limit of pixels from a global variable.
    """
    extension = extension_of(payload)
    if isinstance(extension, Rejected):
        return extension
    if not can_decode(extension):
        return missing_library(extension)
    if extension not in _OPENERS or (
        extension in _REQUIRED_FEATURES and not features.check(_REQUIRED_FEATURES[extension])
    ):
        return Rejected("unsupported_format", f"this Pillow was built without {extension}")
    payload = _REPAIRS.get(extension, bytes)(without_junk(payload))
    _silence_decoders()
    try:
        image = _OPENERS[extension](io.BytesIO(header_alone(payload) if extension == "png" else payload))
    except Exception as error:  # noqa: BLE001  # damaged files raise OSError, SyntaxError, ValueError, TypeError, ...
        return rejection_for(error, payload, extension)
    if image.width * image.height > max_pixels:
        return Rejected("too_many_pixels", f"{image.width}x{image.height}, at most {max_pixels} pixels are decoded")
    crop = clean_aperture(payload, image.width, image.height) if extension == "avif" else None
    if isinstance(crop, Rejected):
        return crop
    left, top, right, bottom = crop or (0, 0, image.width, image.height)
    return OpenedImage(ImageHeader(extension, right - left, bottom - top, image.mode), payload, image, crop)


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
