"""Pictures out of bytes: whatever the bytes are, a picture or a reason."""

import io
import resource
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from stoker.pipelines.images.codec import MAX_PIXELS, ImageHeader, decode, encode, header_of, measures_of_image
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.rejected import REASONS, Rejected
from tests.data import SHARED, needs_shared
from tests.pipelines.pictures import packed, picture, pixels

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "jp2": "JPEG2000"}
if features.check("avif"):
    FORMATS["avif"] = "AVIF"


def shown(payload: bytes, **options: Any) -> Image.Image:
    found = decode(payload, **options)
    assert isinstance(found, Image.Image), found
    return found


def measured(payload: bytes) -> dict[str, Any]:
    found = measures_of_image(payload)
    assert isinstance(found, dict), found
    return found


def reason(payload: bytes) -> str:
    found = measures_of_image(payload)
    assert isinstance(found, Rejected)
    assert found.reason in REASONS
    return found.reason


def distance(one: dict[str, Any], other: dict[str, Any]) -> int:
    return (int(one["image_hash"], 16) ^ int(other["image_hash"], 16)).bit_count()


def png(width: int, height: int) -> bytes:
    """A PNG's header, and no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_is_told_by_its_bytes_and_decoded(extension: str) -> None:
    payload = packed(picture(90, 60), FORMATS[extension])
    header = header_of(payload)
    assert isinstance(header, ImageHeader)
    assert (extension_of(payload), header.extension, header.width, header.height) == (extension, extension, 90, 60)
    difference = np.abs(np.asarray(shown(payload)).astype(int) - np.asarray(picture(90, 60)))
    assert difference.mean() < 12
    assert measured(payload)["format"] == extension


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9])
def test_an_image_that_ends_early_is_truncated(extension: str, part: float) -> None:
    payload = packed(picture(90, 60), FORMATS[extension])
    assert reason(payload[: int(len(payload) * part)]) == "truncated"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "empty"),
        (b"<!doctype html><html><svg>no</svg>", "not_an_image"),
        (b"BMW is a car maker", "not_an_image"),
        (b"plain words", "not_an_image"),
        (b"<?xml version='1.0'?>\n<!-- a drawing -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"\xff\x0a\xfa\x7f", "unsupported_format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported_format"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "not_an_image"),
        (b"P6\n2 2\n255\n" + b"\0" * 12, "unsupported_format"),
        (b"8BPS\0\1", "unsupported_format"),
        (png(1 << 20, 1 << 20), "too_many_pixels"),
        (png(100, 100), "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40 + b"IEND\xaeB`\x82", "corrupt"),
    ],
)
def test_what_is_no_picture_has_its_reason(payload: bytes, expected: str) -> None:
    assert reason(payload) == expected


def test_a_bomb_costs_no_memory_and_changes_no_global() -> None:
    limit, filters = Image.MAX_IMAGE_PIXELS, len(warnings.filters)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    jpeg = bytearray(packed(picture(64, 64)))
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5 : place + 9] = struct.pack(">HH", 30000, 30000)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + packed(picture(64, 64), "GIF")[13:]
    for payload in (bytes(jpeg), png(60000, 60000), gif):
        assert reason(payload) == "too_many_pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    assert limit == Image.MAX_IMAGE_PIXELS
    assert len(warnings.filters) <= filters + 1


def test_a_jpeg_of_very_many_scans_is_not_decoded() -> None:
    payload = packed(picture(200, 150).resize((3600, 3000)), progressive=True)
    assert isinstance(header_of(payload), ImageHeader)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    assert reason(payload[:-2] + scan * 200 + payload[-2:]) == "too_many_pixels"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_shown_upright_and_measured_so(orientation: int) -> None:
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
        assert np.abs(np.asarray(shown(payload)).astype(int) - np.asarray(upright)).mean() < 6
        found = measured(payload)
        assert (found["width"], found["height"]) == (301, 200)
        assert distance(found, measured(packed(upright))) <= 8


def test_a_fraction_is_decoded_where_less_is_needed() -> None:
    payload = packed(picture(1600, 1200))
    assert shown(payload, at_least=200).size == (400, 300)
    assert shown(payload, at_least=1200).size == (1600, 1200)
    assert shown(payload).size == (1600, 1200)


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (8, 1))
    for form in ("PNG", "TIFF"):
        levels = np.asarray(shown(packed(Image.fromarray(ramp), form)))
        assert np.abs(levels[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    wide = np.asarray(shown(packed(Image.fromarray(ramp.astype(np.float32) * 1e6), "TIFF")))
    assert np.abs(wide[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_transparency_lies_on_white() -> None:
    clear = Image.fromarray(np.zeros((4, 4, 4), np.uint8))
    half = Image.fromarray(np.full((4, 4, 4), 128, np.uint8))
    indexed = Image.new("P", (4, 4), 0)
    indexed.putpalette([0, 0, 0, 9, 9, 9])
    assert shown(packed(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert shown(packed(half, "WEBP", lossless=True, exact=True)).getpixel((0, 0)) == (191, 191, 191)
    assert shown(packed(indexed, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert shown(packed(Image.new("L", (4, 4), 7), "PNG", transparency=7)).getpixel((0, 0)) == (255, 255, 255)
    assert shown(packed(Image.new("LA", (4, 4), (0, 0)), "PNG"), colour="grey").getpixel((0, 0)) == 255


def test_print_colours_palettes_and_bitmaps_become_rgb() -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10))
    for image, form in ((red.convert("CMYK"), "JPEG"), (red.convert("P"), "GIF"), (red.convert("YCbCr"), "TIFF")):
        found = shown(packed(image, form))
        assert found.mode == "RGB"
        colour = found.getpixel((8, 8))
        assert isinstance(colour, tuple)
        assert colour[0] > 200
        assert max(colour[1:]) < 60
    assert shown(packed(Image.new("1", (9, 9), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert shown(packed(red.convert("LAB"), "TIFF")).mode == "RGB"


def test_a_colour_profile_is_applied_and_a_damaged_one_ignored() -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 40))
    plain = shown(packed(image, "PNG")).getpixel((0, 0))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert shown(packed(image, "PNG", icc_profile=srgb)).getpixel((0, 0)) == plain
    assert shown(packed(image, "PNG", icc_profile=b"\x07" * 400)).getpixel((0, 0)) == plain
    swapped = bytearray(srgb)  # red's and blue's columns change places
    red, blue = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "XXXX".encode("utf-16-be")).replace(
        b"sRGB built-in", b"XXXX built-in"
    )
    other = shown(packed(image, "PNG", icc_profile=bytes(swapped))).getpixel((0, 0))
    assert isinstance(other, tuple)
    assert other[2] > other[0]


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("blue", "red", "lime")]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        payload = packed(
            frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
        )
        assert shown(payload).getpixel((5, 5)) == (0, 0, 255)


def test_writing_keeps_nothing_but_pixels_and_is_repeatable() -> None:
    exif = Image.Exif()
    exif[0x010E] = "my house"
    payload = packed(picture(), exif=exif, comment=b"my house", dpi=(72, 72))
    for extension in ("jpg", "png", "webp"):
        written = encode(shown(payload), extension)
        assert b"my house" not in written
        assert written == encode(shown(bytes(bytearray(payload))), extension)
        assert Image.open(io.BytesIO(written)).size == (320, 240)


def test_hashes_of_edited_copies_are_near_and_of_other_pictures_far() -> None:
    original = picture(640, 480, seed=1)
    first = measured(packed(original, quality=95))
    assert first["image_hash_quality"] == 100
    edited = (
        packed(original, quality=20),
        packed(original.resize((320, 240)), "WEBP"),
        packed(original.point(lambda value: min(255, value + 20)), "PNG"),
        packed(original.convert("L")),
    )
    assert all(distance(first, measured(payload)) <= 16 for payload in edited)
    for seed in range(2, 12):
        assert distance(first, measured(packed(picture(640, 480, seed)))) > 80


def test_pictures_that_say_little_have_hashes_of_low_quality() -> None:
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::16] = 255
    checks = (np.indices((128, 128)) // 16).sum(axis=0) % 2 * 255
    noise = np.random.default_rng(0).integers(126, 129, (128, 128))
    slope = np.tile(np.arange(128), (128, 1))
    for values in (np.full((128, 128), 200), stripes, checks, noise, slope):
        assert measured(packed(Image.fromarray(values.astype(np.uint8)), "PNG"))["image_hash_quality"] < 50


def test_measures_are_those_of_the_pixels() -> None:
    values = pixels(200, 100, channels=1)[:, :, 0]
    found = measured(packed(Image.fromarray(values), "PNG"))
    assert found["brightness"] == pytest.approx(values.mean(), abs=0.001)
    assert found["contrast"] == pytest.approx(values.std(), abs=0.001)
    blurred = measured(
        packed(Image.fromarray(values).resize((25, 12)).resize((200, 100), Image.Resampling.BICUBIC), "PNG")
    )
    assert blurred["sharpness"] < found["sharpness"] / 2
    assert (found["mode"], found["width"], found["height"]) == ("L", 200, 100)
    assert measured(packed(Image.new("L", (1, 1)), "PNG"))["sharpness"] == 0


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_no_damage_raises(extension: str, data: st.DataObject) -> None:
    payload = bytearray(packed(picture(48, 40), FORMATS[extension]))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    found = measures_of_image(damaged)
    assert isinstance(found, dict) or found.reason in REASONS


# What is not a picture among the real files. Every other one decodes.
BROKEN = {
    "imageio_chelsea.jxl": "unsupported_format",
    "pil_badbitcount.bmp": "corrupt",
    "pil_badheadersize.bmp": "corrupt",
    "pil_badpalettesize.bmp": "corrupt",
    "pil_badwidth.bmp": "too_many_pixels",
    "pil_broken.png": "truncated",
    "pil_broken_data_stream.png": "truncated",
    "pil_decompression_bomb.gif": "too_many_pixels",
    "pil_hopper_unknown_pixel_mode.tif": "unsupported_format",
    "pil_hopper_webp.tif": "unsupported_format",
    "pil_png_decompression_dos.png": "corrupt",
    "pil_reallybig.bmp": "too_many_pixels",
    "pil_shortfile.bmp": "truncated",
    "pil_truncated_end_chunk.png": "truncated",
    "pil_truncated_image.png": "truncated",
    "pil_truncated_jpeg.jpg": "truncated",
    "pil_ultrahdr.jpg": "truncated",
    "pil_unknown_compression_method.png": "corrupt",
    "pil_zero_width.gif": "corrupt",
    "skimage_multipage_rgb.tif": "unsupported_format",
    "skimage_truncated.jpg": "truncated",
}


@needs_shared
def test_every_real_photograph_decodes_or_has_the_right_reason() -> None:
    assert SHARED is not None
    found = {path.name: measures_of_image(path.read_bytes()) for path in sorted((SHARED / "photos").iterdir())}
    rejected = {name: one.reason for name, one in found.items() if isinstance(one, Rejected)}
    fuzzed = {name for name in rejected if name.startswith("pil_crash-")}
    assert {rejected.pop(name) for name in fuzzed} <= {"corrupt", "truncated"}  # it hangs on the version of libtiff
    assert rejected == BROKEN


@needs_shared
def test_damaged_files_write_nothing_to_the_terminal() -> None:
    script = (
        "import pathlib, sys\n"
        "from stoker.pipelines.images.codec import measures_of_image\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    measures_of_image(path.read_bytes())\n"
    )
    assert SHARED is not None
    command = [sys.executable, "-c", script, str(SHARED / "photos")]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).resolve().parents[3])
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_limit_is_what_is_said() -> None:
    side = int(MAX_PIXELS**0.5)
    assert isinstance(header_of(png(side, side)), ImageHeader)
    assert header_of(png(side + 1, side)) == Rejected(
        "too_many_pixels", f"{side + 1}x{side}, at most {MAX_PIXELS} pixels are decoded"
    )
