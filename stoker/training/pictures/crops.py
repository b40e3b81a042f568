"""Which part of an image is seen: crops as functions of the image's size and of random bytes."""

import math
import struct
from collections.abc import Callable

Box = tuple[int, int, int, int]  # left, top, width, height
Crop = Callable[[int, int, bytes], Box]  # of width, height, and 32 random bytes
_TRIES = 5  # of three draws each: what 32 bytes have beside the one for mirroring
_DRAWS = struct.Struct("<15H")
_MIRROR = 31  # the byte that decides on mirroring


def whole(width: int, height: int, draws: bytes) -> Box:
    """All of it."""
    return 0, 0, width, height


def centre(width: int, height: int, draws: bytes) -> Box:
    """The greatest square in the middle.

    >>> centre(300, 200, b"")
    (50, 0, 200, 200)
    """
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def mirrored(draws: bytes) -> bool:
    """Whether to mirror the image: true for half of all draws."""
    return bool(draws[_MIRROR] & 1)


def random_crop(
    width: int, height: int, draws: bytes, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A part of the area in ``scale``, of an aspect ratio in ``ratio``, anywhere; drawn from the bytes.

    The area is uniform, the ratio log-uniform; after a few tries that do not fit, the greatest part in the middle whose
    ratio is allowed. Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, as widely implemented.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    numbers = _DRAWS.unpack_from(draws)
    for place in range(0, 3 * _TRIES, 3):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * numbers[place] / 65535)
        aspect = math.exp(low + (high - low) * numbers[place + 1] / 65535)
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            # One draw of 65,536 places both ways: 256 by 256 positions.
            left = (width - across) * (numbers[place + 2] >> 8) // 255
            top = (height - down) * (numbers[place + 2] & 255) // 255
            return left, top, across, down
    if width / height < ratio[0]:
        across, down = width, min(height, round(width / ratio[0]))
    elif width / height > ratio[1]:
        across, down = min(width, round(height * ratio[1])), height
    else:
        across, down = width, height
    return (width - across) // 2, (height - down) // 2, across, down
