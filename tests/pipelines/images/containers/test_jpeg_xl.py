"""JPEG XL, and what it has in common with HEIC: decoded upright, in sRGB, strictly and within limits."""

import io
import struct
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.pipelines.images.codec import ImageHeader, header_of, measures_of_image
from stoker.pipelines.images.containers.jpeg_xl import JxlHeader, read_jxl_header
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.rejected import REASONS, Rejected
from tests.pipelines.pictures import decoded, measured, packed, picture, reject_reason

pillow_heif = pytest.importorskip("pillow_heif")
pillow_jxl = pytest.importorskip("pillow_jxl")


def heic(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, **{"quality": 95} | options)
    return out.getvalue()


def jxl(image: Image.Image, **options: Any) -> bytes:
    return packed(image, "JXL", **{"lossless": True} | options)


def jpeg_in_jxl(payload: bytes, width: int, height: int) -> bytes:
    encoder = pillow_jxl.Encoder(mode="RGB", lossless=True, quality=100, num_threads=1)
    return bytes(encoder(payload, width, height, jpeg_encode=True))


def difference(left: Image.Image, right: Image.Image) -> float:
    assert left.size == right.size
    return float(np.abs(np.asarray(left).astype(int) - np.asarray(right.convert(left.mode))).mean())


FILES = {"heic": heic, "jxl": jxl}


@pytest.mark.parametrize("extension", FILES)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_the_images_are_decoded(extension: str, mode: str) -> None:
    photo = picture(90, 60).convert(mode)
    payload = b"\n" + FILES[extension](photo)
    assert extension_of(payload) == extension
    header = header_of(payload)
    assert isinstance(header, ImageHeader)
    assert (header.extension, header.width, header.height) == (extension, 90, 60)
    assert difference(decoded(payload), photo) < (6 if extension == "heic" else 0.01)
    measures = measured(payload)
    assert (measures["format"], measures["mode"], measures["width"], measures["height"]) == (extension, mode, 90, 60)


@pytest.mark.parametrize("extension", FILES)
def test_transparent_pixels_are_blended_with_white(extension: str) -> None:
    assert decoded(FILES[extension](Image.new("RGBA", (16, 16), (200, 0, 0, 0)))).getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_exif_beside_a_jpeg_xl_codestream_does_not_turn_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = picture(96, 64)
    assert difference(decoded(jxl(photo, exif=exif.tobytes())), photo) == 0


def test_a_jpeg_xl_of_16_bits_keeps_the_upper_eight() -> None:
    grey = picture(90, 60).convert("L")
    payload = jxl(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257))
    assert difference(decoded(payload, colour="grey"), grey) == 0


def test_a_jpeg_packed_into_jpeg_xl_is_the_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = packed(picture(96, 64), exif=exif, quality=90)
    inside = jpeg_in_jxl(payload, 96, 64)
    assert decoded(inside).tobytes() == decoded(payload).tobytes()
    assert measured(inside) | {"format": "jpg"} == measured(payload)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_file_that_ends_early_is_rejected(part: float) -> None:
    photo = picture(90, 60)
    for payload in (heic(photo), jxl(photo, use_container=True), jpeg_in_jxl(packed(photo), 90, 60)):
        assert reject_reason(payload[: int(len(payload) * part)]) == "truncated"
    bare = jxl(photo)
    assert reject_reason(bare[: int(len(bare) * part)]) in ("truncated", "corrupt")  # it does not say how long it is


def codestream(*values: tuple[int, int]) -> bytes:
    """The start of a codestream of these (bits, value)."""
    number, shift = 0, 0
    for bits, value in values:
        number |= value << shift
        shift += bits
    return b"\xff\x0a" + number.to_bytes(-(-shift // 8) + 1, "little")


WIDE = ((1, 0), (2, 3), (30, 29_999), (3, 0), (2, 3), (30, 39_999))  # 40,000 x 30,000


def test_more_pixels_than_allowed_are_refused_by_the_header() -> None:
    payload = bytearray(heic(picture(64, 64)))
    start = 0
    while (start := payload.find(b"ispe", start + 1)) > 0:
        struct.pack_into(">II", payload, start + 8, 30_000, 30_000)
    assert reject_reason(bytes(payload)) == "too_many_pixels"
    assert reject_reason(codestream(*WIDE, (1, 1))) == "too_many_pixels"
    assert isinstance(header_of(jxl(picture(90, 60)), max_pixels=5000), Rejected)


@pytest.mark.parametrize(
    "size", [(8, 8), (256, 256), (300, 200), (640, 480), (1920, 1080), (257, 3), (2000, 1000), (5, 9000)]
)
def test_the_size_of_a_jpeg_xl_is_read_in_all_its_forms(size: tuple[int, int]) -> None:
    for container in (True, False):
        payload = jxl(Image.new("L", size), use_container=container)
        assert read_jxl_header(payload) == JxlHeader(*size, animated=False)


def test_an_animated_jpeg_xl_is_refused_and_never_shown_by_another_frame() -> None:
    small = ((1, 1), (5, 7), (3, 1))  # 64 x 64
    flags = (
        (1, 0),
        (1, 1),
        (3, 0),
        (1, 0),
        (1, 0),
    )  # not all defaults; extra fields, upright, no other size, no preview
    preview = ((1, 0), (1, 1), (3, 0), (1, 1), *small, (1, 1), (1, 1), (2, 0), (3, 1))
    for fields in (flags, preview):
        assert read_jxl_header(codestream(*small, *fields, (1, 1))) == JxlHeader(64, 64, animated=True)
        assert read_jxl_header(codestream(*small, *fields, (1, 0))) == JxlHeader(64, 64, animated=False)
    assert reject_reason(codestream(*small, *flags, (1, 1))) == "unsupported_format"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_no_damaged_file_raises(extension: str, data: st.DataObject) -> None:
    payload = bytearray(_INTACT[extension])
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    result = measures_of_image(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    assert isinstance(result, dict) or result.reason in REASONS


_INTACT = {"heic": heic(picture(48, 40)), "jxl": jxl(picture(48, 40), use_container=True)}

_WITHOUT = """
import sys
from stoker.pipelines.images.codec import measures_of_image
from stoker.pipelines.sources.local_files import LocalFiles
assert isinstance(measures_of_image(open(sys.argv[1], "rb").read()), dict)
assert not {"pillow_heif", "_pillow_heif", "pillow_jxl"} & set(sys.modules), "imported without need"
sys.modules["pillow_heif"] = sys.modules["pillow_jxl"] = None  # as if they were not installed
for name in sys.argv[2:]:
    print(measures_of_image(open(name, "rb").read()))
"""


def test_the_packages_are_imported_for_their_formats_alone_and_missing_ones_are_named(tmp_path: Any) -> None:
    files = {"a.png": packed(picture(9, 9), "PNG"), "b.heic": _INTACT["heic"], "c.jxl": _INTACT["jxl"]}
    for name, payload in files.items():
        (tmp_path / name).write_bytes(payload)
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, *(str(tmp_path / name) for name in files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for line, word in zip(done.stdout.splitlines(), ("HEIC", "JPEG XL"), strict=True):
        assert line.startswith("Rejected(reason='unsupported_format'")
        assert f'{word} needs a library: pip install "stoker[formats]"' in line


def test_of_a_codestream_in_thousands_of_parts_only_its_header_is_read() -> None:
    parts = b"".join(
        struct.pack(">I", 4104) + b"jxlp" + struct.pack(">I", number) + b"\xff\x0a" * 2046 for number in range(4000)
    )
    began = time.process_time()
    read_jxl_header(b"\0\0\0\x0cJXL \r\n\x87\n" + parts)
    assert time.process_time() - began < 1  # it was 7 s
