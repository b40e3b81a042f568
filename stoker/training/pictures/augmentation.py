"""What a classifier sees of an image while it is trained: another part of it in each epoch."""

from functools import partial
from typing import Literal

from stoker.training.pictures.crops import Crop, centre_crop, random_crop, whole_image

CropName = Literal["squeeze", "center", "random"]
BOUNDS = {"crop_area": (0.01, 1)}  # of the options
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
