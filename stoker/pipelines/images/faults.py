"""The reject reason for an exception that an image decoder raised."""

from PIL import Image, TiffImagePlugin

from stoker.pipelines.images.formats import is_complete
from stoker.pipelines.rejected import Rejected


def rejection_for(error: Exception, payload: bytes, extension: str, image: Image.Image | None = None) -> Rejected:
    """``too_many_pixels``, ``too_large``, ``truncated``, ``unsupported_format`` or ``corrupt``, with a message.

    ``image``: what was opened, if its header could be read.
    """
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return Rejected("too_many_pixels", str(error))
    message = f"{type(error).__name__}: {error}".strip()
    if isinstance(error, MemoryError) or "out of memory" in message.lower():
        return Rejected("too_large", f"decoding takes more memory than it may: {message}")
    if "not identified" in message:  # Pillow's word for a width or height of 0
        return Rejected("corrupt", "no width or height")
    if "truncat" in message.lower() or not is_complete(payload, extension):
        return Rejected("truncated", message)
    if extension == "tif" and ("unknown" in message or "not supported" in message):
        return Rejected("unsupported_format", message)
    if extension == "heic" and "ecurity limit" in message:
        return Rejected("too_many_pixels", message)
    if extension == "heic" and "nsupported" in message:
        return Rejected("unsupported_format", message)
    if image is not None and image.info.get("compression") in _RARE_COMPRESSIONS:
        return Rejected("unsupported_format", f"TIFF with {image.info['compression']} inside")
    return Rejected("corrupt", message)


def fault_of_strips(image: Image.Image) -> Rejected | None:
    """``truncated`` if the strips or tiles that a TIFF lists do not cover it: the rest would be black."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or getattr(image, "use_load_libtiff", False):
        return None  # libtiff says so itself
    layers = len(image.getbands()) if image.tag_v2.get(_PLANAR_CONFIGURATION) == 2 else 1
    boxes = [tile.extents for tile in image.tile if tile.extents is not None]
    listed = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if listed >= image.width * image.height * layers:
        return None
    return Rejected("truncated", "its strips or tiles hold fewer pixels than its header says")


_PLANAR_CONFIGURATION = 284
_RARE_COMPRESSIONS = ("webp", "jpeg2000", "lerc")  # most builds of libtiff lack them
