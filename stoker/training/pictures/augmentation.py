"""What a classifier sees of images while it is trained: another part of each in every epoch, and mixtures of two."""

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from stoker.training.pictures.crops import Crop, centre_crop, random_crop, whole_image
from stoker.training.pictures.jpeg import Pixels

CropName = Literal["squeeze", "center", "random"]
BOUNDS = {"crop_area": (0.01, 1), "mixup": (0, 10), "cutmix": (0, 10)}  # of the options
_RATIO = (3 / 4, 4 / 3)  # of width to height, of random crops


def crop_of(name: CropName, *, area: float, training: bool) -> Crop:
    """The part of an image that is seen: all of it, or the largest square, or a random part in training.

    >>> crop_of("random", area=0.25, training=False)(300, 200, b"")
    (50, 0, 200, 200)

    ``area``: the least share of the image that a random part has.
    """
    if name == "random" and training:
        return partial(random_crop, scale=(area, 1.0), ratio=_RATIO)
    return whole_image if name == "squeeze" else centre_crop


def mix(
    images: Pixels, draws: Sequence[bytes], *, mixup: float, cutmix: float, before: Pixels | None = None
) -> npt.NDArray[np.float32]:
    """Mix each image, in place, with the one before it; the share of each that is still its own, which its class has.

    Mixup is a weighted mean (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018), CutMix a box of the
    other image (Yun et al., "CutMix", ICCV 2019). The share is drawn from Beta(a, a). With both, half of the images are
    mixed in each way. An image's draws decide all of that, whichever images stand around it.

    Args:
        images: (B, H, W, C) of one type.
        draws: random bytes for each image.
        mixup: a of mixup; 0: none.
        cutmix: a of CutMix; 0: none.
        before: the image before the first one; None: the last one.
    """
    shares = np.ones(len(images), np.float32)
    if not len(images):
        return shares
    first = images[-1].copy() if before is None else before
    for index in range(len(images) - 1, -1, -1):  # from the last: the one before an image is not mixed yet
        other = images[index - 1] if index else first
        digest = hashlib.sha256(b"mix" + draws[index]).digest()  # crops have used the draws themselves
        random = np.random.RandomState(np.frombuffer(digest[:8], "<u4"))  # the one whose numbers never change
        cuts = bool(cutmix) and (not mixup or digest[8] & 1 == 1)
        concentration = cutmix if cuts else mixup
        share = random.beta(concentration, concentration)
        shares[index] = _paste(images[index], other, share, random) if cuts else _blend(images[index], other, share)
    return shares


def _blend(image: Pixels, other: Pixels, share: float) -> float:
    """The weighted mean, in whole 256ths: integers are fast, and the same on every machine."""
    weight = round(share * 256)
    mean = image.astype(np.uint16) * np.uint16(weight)
    mean += other.astype(np.uint16) * np.uint16(256 - weight)
    mean += np.uint16(128)
    image[...] = mean >> 8
    return weight / 256


def _paste(image: Pixels, other: Pixels, share: float, random: np.random.RandomState) -> float:
    """A box of the other image; its middle lies anywhere, and what lies outside is cut off."""
    height, width = image.shape[:2]
    side = math.sqrt(1 - share)
    down, across = int(height * side), int(width * side)
    top, left = random.randint(height) - down // 2, random.randint(width) - across // 2
    rows, columns = slice(max(0, top), max(0, top + down)), slice(max(0, left), max(0, left + across))
    image[rows, columns] = other[rows, columns]
    pasted = len(range(height)[rows]) * len(range(width)[columns])
    return float(1 - pasted / (height * width))
