"""Crops: the part of an image that a batch shows, as a function of the image's size and of random bytes."""

import math
import struct
from collections.abc import Callable

Box = tuple[int, int, int, int]  # left, top, width, height
Crop = Callable[[int, int, bytes], Box]  # of width, height, and 32 random bytes
_TRIES = 5  # of three 16-bit draws each: 30 of the 32 bytes; the last one decides on mirroring
_DRAWS = struct.Struct("<15H")
_MIRROR_BYTE = 31


def whole_image(width: int, height: int, draws: bytes) -> Box:
    """All of the image."""
    return 0, 0, width, height


def centre_crop(width: int, height: int, draws: bytes) -> Box:
    """The largest square in the middle.

    >>> centre_crop(300, 200, b"")
    (50, 0, 200, 200)
    """
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def is_mirrored(draws: bytes) -> bool:
    """Whether to mirror the image: for half of all draws."""
    return bool(draws[_MIRROR_BYTE] & 1)


def random_crop(
    width: int, height: int, draws: bytes, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A box at a random position, its share of the area in ``scale`` and its aspect ratio in ``ratio``.

    The area is uniform, the ratio log-uniform. If no try fits into the image: the largest box in the middle whose ratio
    is allowed. Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, as widely implemented.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    numbers = _DRAWS.unpack_from(draws)
    for first in range(0, 3 * _TRIES, 3):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * numbers[first] / 65535)
        aspect = math.exp(low + (high - low) * numbers[first + 1] / 65535)
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            # One draw of 16 bits gives both coordinates: 256 by 256 positions.
            left = (width - across) * (numbers[first + 2] >> 8) // 255
            top = (height - down) * (numbers[first + 2] & 255) // 255
            return left, top, across, down
    if width / height < ratio[0]:
        across, down = width, min(height, round(width / ratio[0]))
    elif width / height > ratio[1]:
        across, down = min(width, round(height * ratio[1])), height
    else:
        across, down = width, height
    return (width - across) // 2, (height - down) // 2, across, down
