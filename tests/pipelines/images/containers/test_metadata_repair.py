"""Damaged EXIF, XMP, profiles, comments and texts cost no pixels, in all formats that have them."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from stoker.pipelines.images.codec import decode
from stoker.pipelines.images.containers.metadata_repair import find_png_chunk, repaired_tiff, repaired_webp
from stoker.pipelines.rejected import Rejected
from tests.pipelines.pictures import decoded, packed, picture, reject_reason

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"y" * 200
Spans = list[tuple[int, int]]


def metadata() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x010E] = "a house " * 20
    return {"exif": exif, "icc_profile": PROFILE, "xmp": XMP}


def webp_spans(payload: bytes) -> Iterator[tuple[bytes, int, int]]:
    offset = 12
    while offset + 8 <= len(payload):
        size = int.from_bytes(payload[offset + 4 : offset + 8], "little")
        yield payload[offset : offset + 4], offset, offset + 8 + size
        offset += 8 + size + size % 2


def png_spans(payload: bytes) -> Iterator[tuple[bytes, int, int]]:
    offset = 8
    while offset + 12 <= len(payload):
        size = int.from_bytes(payload[offset : offset + 4], "big")
        yield payload[offset + 4 : offset + 8], offset, offset + 12 + size
        offset += 12 + size


def jpeg_spans(payload: bytes) -> Iterator[tuple[bytes, int, int]]:
    offset = 2
    while payload[offset + 1] != 0xDA:
        size = int.from_bytes(payload[offset + 2 : offset + 4], "big")
        yield payload[offset + 1 : offset + 2], offset, offset + 2 + size
        offset += 2 + size


def tiff_entries(payload: bytes) -> Iterator[tuple[int, int]]:
    """Tag and place of each entry of the first directory."""
    (start,) = struct.unpack_from("<I", payload, 4)
    (entries,) = struct.unpack_from("<H", payload, start)
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        yield struct.unpack_from("<H", payload, place)[0], place


def files() -> dict[str, tuple[bytes, Spans, Spans]]:
    """Files, where the content of their metadata lies, and where its lengths and places lie."""
    photo, found = picture(120, 90), {}
    for name in ("baseline", "progressive"):
        payload = packed(photo, comment=b"hello " * 9, progressive=name == "progressive", **metadata())
        spans = [span[1:] for span in jpeg_spans(payload) if 0xE1 <= span[0][0] <= 0xEF or span[0][0] == 0xFE]
        found[name] = (payload, [(at + 4, stop) for at, stop in spans], [(at + 2, at + 4) for at, _ in spans])
    payload = packed(photo, "PNG", **metadata())
    spans = [span[1:] for span in png_spans(payload) if span[0] in (b"eXIf", b"iCCP", b"iTXt")]
    found["png"] = (payload, [(at + 8, stop) for at, stop in spans], [(at, at + 4) for at, _ in spans])
    for name in ("lossless", "lossy"):
        payload = packed(photo, "WEBP", lossless=name == "lossless", **metadata())
        spans = [span[1:] for span in webp_spans(payload) if span[0] in (b"EXIF", b"ICCP", b"XMP ")]
        assert len(spans) == 3
        found[f"webp {name}"] = (payload, [(at + 8, stop) for at, stop in spans], [(at + 4, at + 8) for at, _ in spans])
    for compression in (None, "tiff_lzw", "jpeg"):
        payload = packed(
            photo, "TIFF", compression=compression, description="a house " * 20, software="s" * 90, icc_profile=PROFILE
        )
        places = [place for tag, place in tiff_entries(payload) if tag in (270, 305, 34675)]
        assert len(places) == 3
        content = [(at, at + 100) for at in (struct.unpack_from("<I", payload, place + 8)[0] for place in places[:1])]
        found[f"tiff {compression}"] = (payload, content, [(place + 2, place + 12) for place in places])
    return found


FILES = files()


def damaged(payload: bytes, spans: Spans, times: int) -> Iterator[bytes]:
    random = np.random.default_rng(5)
    for number in range(times):
        start, stop = spans[number % len(spans)]
        changed = bytearray(payload)
        kind = random.integers(4)
        if kind == 0:
            changed[start:stop] = random.bytes(stop - start)
        elif kind == 1:
            changed[random.integers(start, stop)] ^= 1 << random.integers(8)
        else:
            changed[start:stop] = (b"\0" if kind == 2 else b"\xff") * (stop - start)
        yield bytes(changed)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["content", "length"])
def test_damaged_metadata_cost_no_pixels(name: str, where: str) -> None:
    payload, content, lengths = FILES[name]
    intact = decoded(payload).tobytes()
    for number, changed in enumerate(damaged(payload, content if where == "content" else lengths, 60)):
        result = decode(changed)
        assert not isinstance(result, Rejected), (number, result)
        assert result.tobytes() == intact, number


def test_a_thumbnail_in_damaged_exif_is_never_taken_for_the_image() -> None:
    thumbnail = packed(picture(40, 30, 1), quality=70)
    head = b"Exif\0\0II*\0\x08\0\0\0\0\0" + b"\0" * 40 + thumbnail + b"\0" * 9
    photo = packed(picture(160, 120), quality=90)
    for length in (0, 1, 2, 20, 70, 200, len(head), 0xFFFF):
        payload = photo[:2] + b"\xff\xe1" + struct.pack(">H", length) + head + photo[2:]
        assert decoded(payload).tobytes() == decoded(photo).tobytes(), length


def test_an_orientation_is_read_behind_a_wrong_length() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = bytearray(packed(picture(120, 90), exif=exif))
    at = payload.index(b"\xff\xe1")
    payload[at + 2 : at + 4] = b"\xff\xff"
    assert decoded(bytes(payload)).size == (90, 120)


def test_what_says_how_colours_are_stored_is_not_skipped() -> None:
    payload = packed(picture(120, 90).convert("CMYK"))
    at = payload.index(b"\xff\xee")
    comment = b"\xff\xfe\0\x09hello!!"
    assert decoded(payload[:at] + comment + payload[at:]).tobytes() == decoded(payload).tobytes()
    swallowing = comment[:3] + b"\x0b" + comment[4:]  # two bytes of the next segment
    assert decoded(payload[:at] + swallowing + payload[at:]).tobytes() == decoded(payload).tobytes()
    assert reject_reason(payload[:at] + comment + b"\0\0" + payload[at + 2 :]) == "corrupt"


def test_intact_files_are_returned_as_they_are() -> None:
    for name, (payload, _, _) in FILES.items():
        if name.startswith("webp"):
            assert repaired_webp(payload) is payload
        if name.startswith("tiff"):
            assert repaired_tiff(payload) is payload


@pytest.mark.parametrize("name", ["webp lossless", "png", "tiff tiff_lzw"])
def test_a_file_that_ends_within_its_pixels_is_still_truncated(name: str) -> None:
    payload = FILES[name][0]
    assert reject_reason(payload[: len(payload) // 2]) in ("truncated", "corrupt")


def test_a_search_for_chunks_ends_in_a_file_of_false_ones() -> None:
    false = b"".join(struct.pack(">I", 1 << 20) + b"IDAT" + b"\0" * 20 for _ in range(100_000))
    assert find_png_chunk(false, 0) is None


@pytest.mark.parametrize("name", [b"XYZ ", b"jumb", b"C2PA", b"abc1"])
def test_metadata_before_a_chunk_of_any_name_are_sound(name: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = packed(picture(40, 20), "WEBP", exif=exif, icc_profile=PROFILE)
    for content in (b"", b"1234", b"123"):
        longer = payload + name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        longer = longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]
        assert repaired_webp(longer) is longer
        assert decoded(longer).size == (20, 40)
