"""Decoded images are upright, in eight bits, in sRGB and on white."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.pipelines.pictures import decoded, hash_distance, measured, packed, picture

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photograph_is_decoded_and_measured_upright(orientation: int) -> None:
    upright = picture(301, 200)
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        payload = packed(stored, form, exif=exif)
        assert np.abs(np.asarray(decoded(payload)).astype(int) - np.asarray(upright)).mean() < 6
        measures = measured(payload)
        assert (measures["width"], measures["height"]) == (301, 200)
        assert hash_distance(measures, measured(packed(upright))) <= 8


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (8, 1))
    for form in ("PNG", "TIFF"):
        levels = np.asarray(decoded(packed(Image.fromarray(ramp), form)))
        assert np.abs(levels[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    wide = np.asarray(decoded(packed(Image.fromarray(ramp.astype(np.float32) * 1e6), "TIFF")))
    assert np.abs(wide[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_transparency_lies_on_white() -> None:
    clear = Image.fromarray(np.zeros((4, 4, 4), np.uint8))
    half = Image.fromarray(np.full((4, 4, 4), 128, np.uint8))
    indexed = Image.new("P", (4, 4), 0)
    indexed.putpalette([0, 0, 0, 9, 9, 9])
    assert decoded(packed(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert decoded(packed(half, "WEBP", lossless=True, exact=True)).getpixel((0, 0)) == (191, 191, 191)
    assert decoded(packed(indexed, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert decoded(packed(Image.new("L", (4, 4), 7), "PNG", transparency=7)).getpixel((0, 0)) == (255, 255, 255)
    assert decoded(packed(Image.new("LA", (4, 4), (0, 0)), "PNG"), colour="grey").getpixel((0, 0)) == 255


def test_cmyk_palettes_lab_and_bitmaps_become_rgb() -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10))
    for image, form in ((red.convert("CMYK"), "JPEG"), (red.convert("P"), "GIF"), (red.convert("YCbCr"), "TIFF")):
        converted = decoded(packed(image, form))
        assert converted.mode == "RGB"
        colour = converted.getpixel((8, 8))
        assert isinstance(colour, tuple)
        assert colour[0] > 200
        assert max(colour[1:]) < 60
    assert decoded(packed(Image.new("1", (9, 9), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert decoded(packed(red.convert("LAB"), "TIFF")).mode == "RGB"


def test_a_colour_profile_is_applied_and_a_damaged_one_ignored() -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 40))
    plain = decoded(packed(image, "PNG")).getpixel((0, 0))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decoded(packed(image, "PNG", icc_profile=srgb)).getpixel((0, 0)) == plain
    assert decoded(packed(image, "PNG", icc_profile=b"\x07" * 400)).getpixel((0, 0)) == plain
    swapped = bytearray(srgb)  # red's and blue's columns change places
    red, blue = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "XXXX".encode("utf-16-be")).replace(
        b"sRGB built-in", b"XXXX built-in"
    )
    other = decoded(packed(image, "PNG", icc_profile=bytes(swapped))).getpixel((0, 0))
    assert isinstance(other, tuple)
    assert other[2] > other[0]


def _profile(name: bytes, gamma: float, space: bytes) -> bytes:
    """A small ICC profile with sRGB's primaries, or a grey one."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    text = b"desc" + struct.pack(">II", 0, len(name) + 1) + name + bytes(79)
    tags = {b"desc": text, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
        primaries = ((0.43607, 0.2225, 0.01393), (0.38506, 0.71688, 0.0971), (0.14308, 0.06062, 0.71417))
        for letter, values in zip("rgb", primaries, strict=True):
            tags[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + fixed(*values)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    return (head + bytes(28) + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + body


def test_a_linear_profile_is_applied_whatever_its_name_says() -> None:
    image = Image.new("RGB", (16, 16), (100, 50, 10))
    for name, gamma, expected in ((b"GIMP built-in Linear sRGB", 1.0, (168, 122, 56)), (b"sRGB", 2.2, (100, 50, 10))):
        pixel = decoded(packed(image, "PNG", icc_profile=_profile(name, gamma, b"RGB "))).getpixel((0, 0))
        assert pixel == pytest.approx(expected, abs=2), name


def test_a_grey_profile_is_applied_beside_transparency_too() -> None:
    profile = _profile(b"linear grey", 1.0, b"GRAY")
    opaque = decoded(packed(Image.new("L", (16, 16), 50), "PNG", icc_profile=profile)).getpixel((0, 0))
    assert opaque == pytest.approx((122, 122, 122), abs=2)
    assert decoded(packed(Image.new("LA", (16, 16), (50, 255)), "PNG", icc_profile=profile)).getpixel((0, 0)) == opaque
