"""Decoded images, perhaps at a fraction of their size, and how many pixels of an image are needed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from stoker.pipelines.images.colour import LARGE, SWAPS_SIDES, Colour
from stoker.pipelines.images.jpeg import JpegData
from stoker.pipelines.images.memory import Pixels, image_over, memory_of
from stoker.pipelines.images.opening import ImageHeader
from stoker.pipelines.images.process.budget import PIXEL, RESIZED, bytes_of_rendering
from stoker.pipelines.images.resize import Box

# The least multiple of the final size at which a JPEG is decoded for it ("fast"), and the one where it holds many bits
# a pixel, which means details that scaled decoding would blur. Measured: at least 47 dB from float Lanczos.
_OVERSAMPLING, _OVERSAMPLING_OF_DETAILS = 2, 3
_DETAILED = 1.0  # bits a pixel
_REDUCED_TO = 8  # the multiple of the final size to which large images are reduced by means before they are resized
_MAX_CACHED_PIXELS = 1 << 24  # larger images are not kept for the next step

Decoding = Literal["fast", "exact"]


@dataclass(frozen=True, slots=True)
class Need:
    """How many pixels the shorter (``of_longer``: the longer) side needs, and for what.

    ``decoding``: they are to be resized to ``size``, "fast" or "exact"; None: so many are enough. ``size`` None: all.
    ``encoded``: they become a file, which takes memory beside them.
    """

    size: int | None = None
    decoding: Decoding | None = None
    of_longer: bool = False
    encoded: bool = False

    def scale_of_jpeg(self, width: int, height: int, *, size: int) -> int:
        """The greatest n of 8, 4, 2 and 1 for which 1/n of the size is enough of a JPEG of ``size`` bytes."""
        detailed = size * 8 > width * height * _DETAILED
        times = 1 if self.decoding is None else _OVERSAMPLING_OF_DETAILS if detailed else _OVERSAMPLING
        enough = 1.0 if self.decoding == "exact" else self._ratio(width, height) / times
        return next((n for n in (8, 4, 2) if enough >= n), 1)

    def factor_of_means(self, width: int, height: int) -> int:
        """By how much a large image may be reduced by means of squares of pixels."""
        ratio = self._ratio(width, height)
        return max(1, int(ratio if self.decoding is None else ratio / _REDUCED_TO))

    def is_all(self, width: int, height: int) -> bool:
        """Whether a large image is needed at its full size."""
        return width * height > LARGE and self.factor_of_means(width, height) == 1

    def bytes_here(self, width: int, height: int, colour: Colour, *, scale: int = 1) -> int:
        """Bytes that an image takes at most when it is decoded (a JPEG at 1/``scale``), made smaller and encoded."""
        pixels = width * height // scale**2
        taken = pixels * PIXEL
        factor = self.factor_of_means(width, height) if width * height > LARGE and scale == 1 else 1
        if factor > 1:
            pixels //= factor**2
            taken += pixels * RESIZED
        elif colour == "grey":  # beside the colours that it is made of
            taken += pixels
        ratio = max(1.0, self._ratio(width, height) / scale / factor)  # a larger result: see ``steps.image``
        return taken + bytes_of_rendering(pixels, ratio if self.size else None)

    def _ratio(self, width: int, height: int) -> float:
        """How many times the pixels that are needed there are."""
        return (max if self.of_longer else min)(width, height) / self.size if self.size else 1.0


_MODES = {1: "L", 3: "RGB", 4: "CMYK"}


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image, perhaps at 1/``scale`` of its size, in its stored orientation.

    ``width`` and ``height`` are those of the whole image upright. ``transpose`` makes it upright.
    """

    source: Pixels | Image.Image
    header: ImageHeader
    width: int
    height: int
    scale: int
    transpose: Image.Transpose | None
    has_profile: bool = False  # its colours were converted by one
    jpeg: JpegData | None = None  # what was decoded, if it is a JPEG and was decoded in this process

    def pixels(self) -> Pixels:
        """(height, width, 1 or 3), as stored."""
        if isinstance(self.source, np.ndarray):
            return self.source
        pixels = np.asarray(self.source)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def image(self) -> Image.Image:
        """The image upright, in mode RGB or L, without metadata."""
        image = image_of(self.source) if isinstance(self.source, np.ndarray) else self.source
        if self.transpose is not None:
            image = image.transpose(self.transpose)
        elif not self.is_large and self._lies_in(image):  # it may be decoded for the next step too
            image = image.copy()
        image.info = {}
        return image

    def _lies_in(self, image: Image.Image) -> bool:
        """Whether what is drawn on the image changes this one."""
        return image is self.source or (isinstance(self.source, np.ndarray) and memory_of(self.source) is not None)

    def stored_box(self, box: Box) -> Box:
        """Where a box of the whole upright image lies in ``pixels``."""
        left, top, width, height = box
        right, bottom = self.width - left - width, self.height - top - height
        left, top, width, height = {
            None: (left, top, width, height),
            Image.Transpose.FLIP_LEFT_RIGHT: (right, top, width, height),
            Image.Transpose.ROTATE_180: (right, bottom, width, height),
            Image.Transpose.FLIP_TOP_BOTTOM: (left, bottom, width, height),
            Image.Transpose.TRANSPOSE: (top, left, height, width),
            Image.Transpose.ROTATE_270: (top, right, height, width),
            Image.Transpose.TRANSVERSE: (bottom, right, height, width),
            Image.Transpose.ROTATE_90: (bottom, left, height, width),
        }[self.transpose]
        return left / self.scale, top / self.scale, width / self.scale, height / self.scale

    @property
    def is_large(self) -> bool:
        """Whether it is not kept for the next step."""
        return self.width * self.height > _MAX_CACHED_PIXELS * self.scale**2

    @property
    def is_as_stored(self) -> bool:
        """Whether it is upright and in sRGB as it is stored."""
        return self.transpose is None and not self.has_profile

    @property
    def is_turned(self) -> bool:
        """Whether width and height change places when it is made upright."""
        return self.transpose in SWAPS_SIDES


def image_of(pixels: Pixels) -> Image.Image:
    """Pixels (height, width, 1, 3 or 4) as an image in mode L, RGB or CMYK."""
    memory = memory_of(pixels)
    if memory is not None:
        return image_over(memory)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, _MODES[pixels.shape[2]])
