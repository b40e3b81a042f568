"""A GIF whose first frame is smaller than its canvas is shown as browsers show it."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.pipelines.pictures import decoded, measured, packed, reject_reason

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
BOX = (5, 6, 10, 9)  # left, top, width, height


def gif(
    frame: Image.Image, *, canvas: tuple[int, int] = (20, 22), transparent: int | None = None, index: int = 0
) -> bytes:
    """The frame at ``BOX`` on a canvas whose background is the colour of this index."""
    source = packed(frame, "GIF", optimize=False)
    table = 3 << (source[10] & 7) + 1
    descriptor = source.index(b",", 13 + table)
    head = source[:6] + struct.pack("<HH", *canvas) + bytes((source[10], index, 0)) + source[13 : 13 + table]
    control = b"" if transparent is None else b"!\xf9\4\1\0\0" + bytes((transparent, 0))
    return head + control + b"," + struct.pack("<HHHH", *BOX) + source[descriptor + 9 :]


def palette_frame(values: np.ndarray | int, palette: bytes) -> Image.Image:
    frame = Image.fromarray(np.broadcast_to(np.uint8(values), (BOX[3], BOX[2])).copy(), "P")
    frame.putpalette(palette)
    return frame


@pytest.mark.parametrize("index", [0, 1, 3])
@pytest.mark.parametrize("transparent", [None, 0, 1, 3])
def test_the_canvas_beside_the_first_frame_is_transparent(index: int, transparent: int | None) -> None:
    frame = palette_frame(2, bytes((*RED, *GREEN, *BLUE, 9, 9, 9)))
    image = decoded(gif(frame, index=index, transparent=transparent))
    assert image.size == (20, 22)
    assert {image.getpixel(place) for place in ((0, 0), (19, 21), (4, 9), (15, 9), (9, 5), (9, 15))} == {WHITE}
    assert {image.getpixel(place) for place in ((5, 6), (14, 14), (5, 14), (14, 6))} == {BLUE}


def test_transparent_pixels_within_the_frame_are_transparent_too() -> None:
    frame = palette_frame(2, bytes((*RED, *GREEN, *BLUE, 9, 9, 9)))
    assert decoded(gif(frame, transparent=2)).getcolors() == [(20 * 22, WHITE)]


@pytest.mark.parametrize("grey", [True, False])
def test_a_frame_that_uses_every_index_of_its_palette_is_whole(grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.pipelines.images.containers.test_gif_canvas.BOX", (2, 2, 16, 16))
    ramp = [bytes((value, value, value)) if grey else bytes((value, 0, 255 - value)) for value in range(256)]
    image = decoded(gif(palette_frame(np.arange(256).reshape(16, 16), b"".join(ramp))))
    assert image.getpixel((0, 0)) == image.getpixel((19, 21)) == WHITE
    assert image.crop((2, 2, 18, 18)).tobytes() == b"".join(ramp)


def test_a_grey_frame_lies_on_white() -> None:
    frame = palette_frame(1, bytes(value for value in range(4) for _ in range(3)))
    image = decoded(gif(frame))
    assert (image.getpixel((0, 0)), image.getpixel((9, 9))) == (WHITE, (1, 1, 1))


def test_a_frame_that_covers_its_canvas_stays_as_it_is() -> None:
    frame = palette_frame(0, bytes((*RED, *GREEN)))
    payload = packed(frame, "GIF", optimize=False)
    assert decoded(payload).getcolors() == [(BOX[2] * BOX[3], RED)]
    assert measured(payload)["mode"] == "P"


@pytest.mark.parametrize(("canvas", "size"), [((4, 4), (15, 15)), ((8, 30), (15, 30)), ((40, 7), (40, 15))])
def test_the_canvas_grows_to_hold_a_first_frame_that_is_larger(canvas: tuple[int, int], size: tuple[int, int]) -> None:
    """As in Chromium, by Wuffs' test/c/std/gif.c, test_wuffs_gif_decode_frame_out_of_bounds."""
    payload = gif(palette_frame(2, bytes((*RED, *GREEN, *BLUE, 9, 9, 9))), canvas=canvas)
    image = decoded(payload)
    assert image.size == size == (measured(payload)["width"], measured(payload)["height"])
    assert image.crop((5, 6, 15, 15)).getcolors() == [(BOX[2] * BOX[3], BLUE)]
    assert image.getpixel((0, 0)) == WHITE


def test_a_canvas_that_grows_is_within_the_limit_of_pixels() -> None:
    frame = palette_frame(2, bytes((*RED, *GREEN, *BLUE, 9, 9, 9)))
    payload = gif(frame, canvas=(4, 4)).replace(struct.pack("<HH", *BOX[:2]), struct.pack("<HH", 65_000, 60_000))
    assert reject_reason(payload) == "too_many_pixels"
