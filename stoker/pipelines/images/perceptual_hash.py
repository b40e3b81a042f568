"""A perceptual hash: images that look alike have hashes that differ in few bits.

The method of Facebook's PDQ: the lowest 16 x 16 frequencies of a 64 x 64 grey image, each compared with their median.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

SIDE = 64  # pixels of the square grey image that is hashed
BITS = 256
GOOD_QUALITY = 50  # of a hash; below, equal hashes prove little
_FREQUENCIES = 16
_SCALE = 1 << 12  # of the transform's integers: 2^8 (grey) * 2^24 (both passes) * 2^12 (sums) stays exact in a double
_CLEAR_LEVEL = 2.0  # grey levels: where the median coefficient is larger, noise cannot flip many bits


def hash_of(grey: npt.NDArray[np.uint8]) -> tuple[str, int]:
    """The 256-bit hash in hex of a ``SIDE`` x ``SIDE`` image, and its quality from 0 to 100.

    A bit is set where one of the 16 x 16 lowest frequencies (without those constant along a side) is above their
    median, as in PDQ ("The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", Facebook, 2019).
    The quality is PDQ's, from the differences between neighbouring pixels. It is also low where the frequencies
    hardly differ from their median, because noise alone then decides the bits: flat images, stripes, checks.
    All sums are of whole numbers: the same image has the same hash on every machine.
    """
    transform = _transform()
    frequencies = transform @ grey.astype(np.float64) @ transform.T
    median = float(np.median(frequencies))
    bits = np.packbits((frequencies > median).ravel())
    level = float(np.median(np.abs(frequencies - median))) / (_SCALE * _SCALE)
    return bits.tobytes().hex(), min(_gradient_quality(grey), int(50 * level / _CLEAR_LEVEL), 100)


def _gradient_quality(grey: npt.NDArray[np.uint8]) -> int:
    """PDQ's quality: the differences between neighbouring pixels in percent of white, summed up and divided by 90."""
    steps = grey.astype(np.int32) * 100
    down = np.abs(steps[1:] - steps[:-1]) // 255
    along = np.abs(steps[:, 1:] - steps[:, :-1]) // 255
    return int((int(down.sum()) + int(along.sum())) // 90)


@cache
def _transform() -> npt.NDArray[np.float64]:
    """Rows 1 to 16 of the orthonormal cosine transform (DCT-II) of ``SIDE`` values, times ``_SCALE``, rounded."""
    row = np.arange(1, _FREQUENCIES + 1)[:, None]
    column = np.arange(SIDE)[None, :]
    rows: npt.NDArray[np.float64] = np.rint(
        _SCALE * np.sqrt(2 / SIDE) * np.cos(np.pi * row * (2 * column + 1) / (2 * SIDE))
    )
    return rows
