"""Memory of large images that NumPy and Pillow share: four bytes a pixel, converted to RGB in place.

Pillow keeps RGB with a fourth byte. An image of 64 megapixels takes 244 MiB that way, so there must be no second one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

Pixels = npt.NDArray[np.uint8]  # (height, width, 1 or 3)
Memory = npt.NDArray[np.uint8]  # (height, width, 4)
# Bytes a pixel in Pillow's memory; modes that are not named are decoded into memory of Pillow's own.
_BYTES = {"L": 1, "P": 1, "I;16": 2, "LA": 4, "PA": 4, "RGB": 4, "RGBA": 4, "RGBX": 4, "CMYK": 4, "YCbCr": 4}
_BYTES |= {"LAB": 4, "I": 4, "F": 4}


def memory_for(width: int, height: int) -> Memory:
    """Memory for an image: zeros, for rows that a file does not hold. Pages that nobody writes cost nothing."""
    return np.zeros((height, width, 4), np.uint8)


def decode_into(image: ImageFile.ImageFile, memory: Memory) -> bool:
    """Load the image into the memory if its mode and format allow; whether it lies there now.

    A mode of fewer bytes lies at the memory's end: RGB that is written from the top never reaches what was not read.
    """
    if image.mode not in _BYTES or memory.shape[:2] != (image.height, image.width):
        image.load()
        return False
    core = image.im = _core(memory, image.mode, image.size)
    image.load()
    return image.im is core  # some formats put their frames together elsewhere


def image_over(memory: Memory, mode: str = "RGB") -> Image.Image:
    """The memory as an image, without a copy."""
    image = Image.Image()
    size = memory.shape[1], memory.shape[0]
    image.im = _core(memory, mode, size)
    image._mode, image._size = mode, size
    return image


def rgb_of(memory: Memory) -> Pixels:
    """Pixels (height, width, 3) that lie in the memory."""
    return memory[:, :, :3]


def memory_of(pixels: Pixels) -> Memory | None:
    """The memory that ``rgb_of`` made these pixels of, if it did."""
    base, (height, width) = pixels.base, pixels.shape[:2]
    if not isinstance(base, np.ndarray) or base.nbytes != height * width * 4 or pixels.strides != (width * 4, 4, 1):
        return None
    return base.reshape(height, width, 4)


def _core(memory: Memory, mode: str, size: tuple[int, int]) -> Any:  # Any: Pillow's own image, which has no type
    """Pillow's image over the end of the memory, as ``Image.frombuffer`` makes it of other modes."""
    start = size[0] * size[1] * (4 - _BYTES[mode])
    core = Image.core  # type: ignore[attr-defined]  # Pillow does not list it
    return core.map_buffer(memory.reshape(-1), size, "raw", start, (mode, size[0] * _BYTES[mode], 1))
