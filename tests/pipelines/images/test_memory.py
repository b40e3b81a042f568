"""Large images are converted in the memory in which they are decoded, and look like small ones."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from stoker.pipelines.images.codec import decode
from stoker.pipelines.images.colour import LARGE
from stoker.pipelines.images.memory import image_over, memory_for, memory_of, rgb_of
from stoker.pipelines.rejected import Rejected
from tests.pipelines.pictures import decoded, packed, picture, pixels, reject_reason

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


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP"])
def test_what_is_drawn_on_an_image_changes_no_other_of_the_same_bytes(form: str) -> None:
    payload = packed(_repeated(_tile("RGB")), form)
    first = decoded(payload)
    expected = first.tobytes()
    ImageDraw.Draw(first).rectangle((0, 0, *first.size), fill="black")
    assert decoded(payload).tobytes() == expected


def test_memory_holds_nothing_of_an_earlier_picture() -> None:
    for _ in range(3):
        memory = memory_for(SIDE * TIMES, SIDE * TIMES)
        assert not memory.any()
        memory[:] = 99
        del memory


ROWS = 64


def _tiff(side: int, strips: int, *, tile: int = 0, planes: int = 1, shift: int = 0) -> bytes:
    """An uncompressed RGB TIFF of as many strips (or tiles), which start ``shift`` bytes late."""
    size = (tile or side) * (tile or ROWS) * 3 // planes
    rows = ((322, 4, 1, tile), (323, 4, 1, tile)) if tile else ((278, 4, 1, ROWS),)
    offsets, counts = (324, 325) if tile else (273, 279)
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, 0), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3)]
    tags += [*rows, (284, 3, 1, 2 if planes == 3 else 1), (offsets, 4, strips, 0), (counts, 4, strips, 0)]
    end = 8 + 2 + 12 * len(tags) + 4
    places = {258: end, offsets: end + 6, counts: end + 6 + 4 * strips}
    start = end + 6 + 8 * strips
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, kind, count, value in sorted(tags):
        head += struct.pack("<HHII", tag, kind, count, places.get(tag, value))
    head += struct.pack("<IHHH", 0, 8, 8, 8)
    head += struct.pack(f"<{strips}I", *(start + shift + size * strip for strip in range(strips)))
    head += struct.pack(f"<{strips}I", *[size] * strips)
    return head + np.resize(pixels(64, 64), size * strips).tobytes()


@pytest.mark.parametrize("side", [256, 2240])
@pytest.mark.parametrize(("tile", "planes"), [(0, 1), (0, 3), (64, 1), (64, 3)])
def test_a_tiff_whose_strips_do_not_cover_it_is_truncated(side: int, tile: int, planes: int) -> None:
    strips = (side // 64) ** (2 if tile else 1) * planes
    whole = decode(_tiff(side, strips, tile=tile, planes=planes))
    assert isinstance(whole, Image.Image)
    for kept in (strips - 1, strips // planes // 4):
        assert reject_reason(_tiff(side, kept, tile=tile, planes=planes)) == "truncated"
        assert isinstance(decode(_tiff(side, kept, tile=tile, planes=planes)), Rejected)
    assert reject_reason(_tiff(side, strips, tile=tile, planes=planes, shift=1 << 30)) == "truncated"
