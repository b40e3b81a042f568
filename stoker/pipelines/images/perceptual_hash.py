"""A perceptual hash: pictures that look alike have hashes that differ in few bits."""

from functools import cache

import numpy as np
import numpy.typing as npt

SIDE = 64  # pixels of the square grey picture that is hashed
BITS = 256
_FREQUENCIES = 16
_SCALE = 1 << 12  # of the transform's integers: 2^8 (grey) * 2^24 (both passes) * 2^12 (sums) stays exact in a double
_CLEAR = 2.0  # grey levels of a middling coefficient from which on noise cannot turn many bits


def hash_of(grey: npt.NDArray[np.uint8]) -> tuple[str, int]:
    """The 256-bit hash in hex of a ``SIDE`` x ``SIDE`` picture, and from 0 to 100 how much it can be relied upon.

    A bit tells whether one of the 16 x 16 lowest frequencies (without those constant along a side) is above
    their median, as in Facebook's PDQ ("The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm",
    2019); the quality is PDQ's, the sum of the differences between neighbours, and low also where the frequencies
    hardly differ from their median, so that noise alone decides on the bits: flat pictures, stripes, checks.
    Whole numbers throughout: the same picture has the same hash on every machine.
    """
    transform = _transform()
    frequencies = transform @ grey.astype(np.float64) @ transform.T
    median = float(np.median(frequencies))
    bits = np.packbits((frequencies > median).ravel())
    level = float(np.median(np.abs(frequencies - median))) / (_SCALE * _SCALE)
    return bits.tobytes().hex(), min(_liveliness(grey), int(50 * level / _CLEAR), 100)


def _liveliness(grey: npt.NDArray[np.uint8]) -> int:
    """PDQ's quality: steps between neighbouring pixels in percent of white, summed up, over 90."""
    steps = grey.astype(np.int32) * 100
    down = np.abs(steps[1:] - steps[:-1]) // 255
    along = np.abs(steps[:, 1:] - steps[:, :-1]) // 255
    return int((int(down.sum()) + int(along.sum())) // 90)


@cache
def _transform() -> npt.NDArray[np.float64]:
    """Rows 1 to 16 of the orthonormal cosine transform (DCT-II) of ``SIDE`` values, times ``_SCALE``, whole."""
    row = np.arange(1, _FREQUENCIES + 1)[:, None]
    column = np.arange(SIDE)[None, :]
    rows: npt.NDArray[np.float64] = np.rint(
        _SCALE * np.sqrt(2 / SIDE) * np.cos(np.pi * row * (2 * column + 1) / (2 * SIDE))
    )
    return rows
