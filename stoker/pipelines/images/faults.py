"""Which reason fits what a decoder raised."""

from PIL import Image

from stoker.pipelines.images.formats import is_complete
from stoker.pipelines.rejected import Rejected


def fault_of(error: Exception, payload: bytes, extension: str, image: Image.Image | None = None) -> Rejected:
    """The reason that fits what a decoder raised."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning | MemoryError):
        return Rejected("too_many_pixels", str(error))
    said = f"{type(error).__name__}: {error}"
    if "not identified" in said:  # Pillow's word for a width or height of nothing
        return Rejected("corrupt", "no width or height")
    if "truncat" in said.lower() or not is_complete(payload, extension) or _ends_early(image, payload):
        return Rejected("truncated", said)
    if extension == "tif" and ("unknown" in said or "not supported" in said):
        return Rejected("unsupported_format", said)
    if image is not None and image.info.get("compression") in _RARE:
        return Rejected("unsupported_format", f"TIFF with {image.info['compression']} inside")
    return Rejected("corrupt", said)


_RARE = ("webp", "jpeg2000", "lerc")  # compressions that most builds of libtiff lack


def _ends_early(image: Image.Image | None, payload: bytes) -> bool:
    """Whether a TIFF's directory says that pixels lie behind its end."""
    tags = getattr(image, "tag_v2", {})
    for offsets, sizes in ((273, 279), (324, 325)):  # of strips, of tiles
        starts, counts = tags.get(offsets, ()), tags.get(sizes, ())
        known = isinstance(starts, tuple) and isinstance(counts, tuple)
        if known and any(start + count > len(payload) for start, count in zip(starts, counts, strict=False)):
            return True
    return False
