"""Large images are converted in the memory in which they are decoded, and look like small ones."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from stoker.pipelines.images.colour import LARGE
from stoker.pipelines.images.memory import image_over, memory_for, memory_of, rgb_of
from tests.pipelines.pictures import decoded, packed, picture

SIDE = 128
TIMES = 17  # as many tiles along each side are a large image
assert (SIDE * TIMES) ** 2 > LARGE


def _tile(mode: str) -> Image.Image:
    photo = picture(SIDE, SIDE)
    grey = photo.convert("L")
    if mode == "I;16":
        return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(np.asarray(grey).astype(np.float32))
    if mode == "LAB":
        return Image.merge("LAB", photo.split())
    if mode in ("LA", "RGBA"):
        alpha = Image.linear_gradient("L").resize((SIDE, SIDE))
        return Image.merge(mode, (*(grey if mode == "LA" else photo).split(), alpha))
    return photo.quantize(64) if mode == "P" else photo.convert(mode)


def _repeated(tile: Image.Image) -> Image.Image:
    large = Image.new(tile.mode, (SIDE * TIMES, SIDE * TIMES))
    if tile.mode == "P":
        palette = tile.getpalette()
        assert palette is not None
        large.putpalette(palette)
    for left in range(0, large.width, SIDE):
        for top in range(0, large.height, SIDE):
            large.paste(tile, (left, top))
    return large


_PLAIN = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "I;16", "I", "F")),
    ("BMP", "RGB"),
    ("GIF", "P"),
]
_PROFILED = [(form, mode) for form in ("PNG", "TIFF") for mode in ("RGB", "RGBA")]


@pytest.mark.parametrize(
    ("form", "mode", "more"),
    [
        *((form, mode, "") for form, mode in _PLAIN),
        *((form, mode, "profile") for form, mode in _PROFILED),
        *(("PNG", mode, "transparency") for mode in ("L", "P", "RGB")),
    ],
)
def test_a_large_image_looks_like_a_small_one(form: str, mode: str, more: str) -> None:
    tile = _tile(mode)
    options: dict[str, Any] = {"icc_profile": _other_profile()} if more == "profile" else {}
    if more == "transparency":
        options["transparency"] = tile.getpixel((3, 3))
    small = decoded(packed(tile, form, **options))
    large = decoded(packed(_repeated(tile), form, **options))
    assert np.array_equal(np.asarray(large), np.tile(np.asarray(small), (TIMES, TIMES, 1)))


def _other_profile() -> bytes:
    """A profile that is not sRGB: sRGB's own under another name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace("sRGB".encode("utf-16-be"), "abcd".encode("utf-16-be")).replace(b"sRGB", b"abcd")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_large_jpeg_looks_like_pillows(mode: str) -> None:
    photo = picture(SIDE * TIMES, SIDE * TIMES)
    payload = packed(photo.convert(mode), quality=95)
    found = np.asarray(decoded(payload)).astype(int)
    with Image.open(io.BytesIO(payload)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert abs(found - expected).max() <= 1


def test_pixels_know_the_memory_that_they_lie_in() -> None:
    memory = memory_for(5, 3)
    memory[:] = 7
    found = memory_of(rgb_of(memory))
    assert found is not None
    assert np.shares_memory(found, memory)
    assert memory_of(np.zeros((3, 5, 3), np.uint8)) is None
    image = image_over(memory)
    memory[1, 2] = 9
    assert (image.getpixel((2, 1)), image.size, image.mode) == ((9, 9, 9), (5, 3), "RGB")
