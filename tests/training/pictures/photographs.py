"""Images like photographs, as JPEGs, and the difference of two images."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image


@lru_cache(maxsize=64)
def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth shapes with some noise: what a photograph is made of."""
    generator = np.random.default_rng([width, height, seed])
    small = generator.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + generator.integers(-8, 9, smooth.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **({"quality": 90} | options))
    return file.getvalue()


def noise(a: np.ndarray, b: np.ndarray) -> float:
    """The mean absolute difference, in levels of 255."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())
