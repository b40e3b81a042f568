"""Decoding and encoding of images: within limits of memory, repeatable, and measured."""

import io
import resource
import struct
import warnings

import pytest
from PIL import Image

from stoker.pipelines.images.codec import MAX_PIXELS, ImageHeader, encode, header_of
from stoker.pipelines.rejected import Rejected
from tests.pipelines.pictures import (
    decoded,
    measured,
    packed,
    picture,
    pixels,
    png_header,
    reject_reason,
)

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_jpeg_of_very_many_scans_is_not_decoded() -> None:
    payload = packed(picture(200, 150).resize((3600, 3000)), progressive=True)
    assert isinstance(header_of(payload), ImageHeader)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    assert reject_reason(payload[:-2] + scan * 200 + payload[-2:]) == "too_many_pixels"


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("blue", "red", "lime")]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        payload = packed(
            frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
        )
        assert decoded(payload).getpixel((5, 5)) == (0, 0, 255)


def test_measures_are_those_of_the_pixels() -> None:
    values = pixels(200, 100, channels=1)[:, :, 0]
    measures = measured(packed(Image.fromarray(values), "PNG"))
    assert measures["brightness"] == pytest.approx(values.mean(), abs=0.001)
    assert measures["contrast"] == pytest.approx(values.std(), abs=0.001)
    blurred = measured(
        packed(Image.fromarray(values).resize((25, 12)).resize((200, 100), Image.Resampling.BICUBIC), "PNG")
    )
    assert blurred["sharpness"] < measures["sharpness"] / 2
    assert (measures["mode"], measures["width"], measures["height"]) == ("L", 200, 100)
    assert measured(packed(Image.new("L", (1, 1)), "PNG"))["sharpness"] == 0


def test_a_decompression_bomb_costs_no_memory_and_changes_no_global() -> None:
    limit, filters = Image.MAX_IMAGE_PIXELS, len(warnings.filters)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    jpeg = bytearray(packed(picture(64, 64)))
    offset = jpeg.index(b"\xff\xc0")
    jpeg[offset + 5 : offset + 9] = struct.pack(">HH", 30000, 30000)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + packed(picture(64, 64), "GIF")[13:]
    for payload in (bytes(jpeg), png_header(60000, 60000), gif):
        assert reject_reason(payload) == "too_many_pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    assert limit == Image.MAX_IMAGE_PIXELS
    assert len(warnings.filters) <= filters + 1


def test_a_jpeg_is_decoded_at_a_fraction_of_its_size_where_fewer_pixels_are_needed() -> None:
    payload = packed(picture(1600, 1200))
    assert decoded(payload, at_least=200).size == (400, 300)
    assert decoded(payload, at_least=1200).size == (1600, 1200)
    assert decoded(payload).size == (1600, 1200)


def test_encoding_keeps_nothing_but_pixels_and_is_repeatable() -> None:
    exif = Image.Exif()
    exif[0x010E] = "my house"
    payload = packed(picture(), exif=exif, comment=b"my house", dpi=(72, 72))
    for extension in ("jpg", "png", "webp"):
        written = encode(decoded(payload), extension)
        assert b"my house" not in written
        assert written == encode(decoded(bytes(bytearray(payload))), extension)
        assert Image.open(io.BytesIO(written)).size == (320, 240)


def test_the_limit_of_pixels_is_exact_and_in_the_message() -> None:
    side = int(MAX_PIXELS**0.5)
    assert isinstance(header_of(png_header(side, side)), ImageHeader)
    assert header_of(png_header(side + 1, side)) == Rejected(
        "too_many_pixels", f"{side + 1}x{side}, at most {MAX_PIXELS} pixels are decoded"
    )
