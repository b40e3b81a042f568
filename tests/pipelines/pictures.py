"""Pictures made for tests: noise of several sizes, so that every frequency is there."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def pixels(width: int, height: int, seed: int = 0, channels: int = 3) -> npt.NDArray[np.uint8]:
    """A cloudy picture, like no other seed's."""
    generator = np.random.default_rng(seed)
    whole = np.zeros((height, width, channels))
    for cells in (3, 6, 12, 24):
        coarse = generator.uniform(0, 255, (cells, cells, channels)).astype(np.uint8)
        for channel in range(channels):
            band = Image.fromarray(coarse[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
            whole[:, :, channel] += np.asarray(band)
    return (whole / 4).astype(np.uint8)


def picture(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    return Image.fromarray(pixels(width, height, seed))


def packed(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
