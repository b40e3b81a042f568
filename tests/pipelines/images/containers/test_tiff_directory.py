"""A TIFF that ends before what it announces is told from one that is damaged otherwise."""

import io
import struct
import time

import pytest
from PIL import Image

from stoker.pipelines.images.containers.tiff_directory import tiff_ends_early
from tests.pipelines.pictures import pixels, reject_reason

COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4", "zstd")


def tiff(compression: str | None, *, big: bool = False) -> bytes:
    image, out = Image.fromarray(pixels(200, 160)), io.BytesIO()
    if compression == "group4":
        image = image.convert("1")
    image.save(out, "TIFF", compression=compression, strip_size=1 << 12 if compression == "jpeg" else 512, big_tiff=big)
    return out.getvalue()


def entries(payload: bytes | bytearray) -> dict[int, int]:
    """Where the directory's entries are, by tag."""
    (start,) = struct.unpack_from("<I", payload, 4)
    (count,) = struct.unpack_from("<H", payload, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    return {struct.unpack_from("<H", payload, place)[0]: place for place in places}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
def test_a_cut_file_is_truncated_wherever_its_directory_lies(compression: str | None, big: bool) -> None:
    payload = tiff(compression, big=big)
    assert not tiff_ends_early(payload)
    for size in (9, 17, len(payload) // 3, len(payload) - 300, len(payload) - 90):
        assert reject_reason(payload[:size]) == "truncated"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_without_some_of_its_strips_is_truncated(compression: str) -> None:
    payload = bytearray(tiff(compression))
    places = entries(payload)
    _, strips = struct.unpack_from("<HI", payload, places[279] + 2)
    assert strips > 2
    for tag in (273, 279):
        struct.pack_into("<I", payload, places[tag] + 4, strips - 1)
    assert reject_reason(bytes(payload)) == "truncated"


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_strip_of_no_bytes_is_missing(compression: str) -> None:
    payload = bytearray(tiff(compression))
    place = entries(payload)[279]
    kind, _, sizes = struct.unpack_from("<HII", payload, place + 2)
    payload[sizes : sizes + (2 if kind == 3 else 4)] = bytes(2 if kind == 3 else 4)
    assert reject_reason(bytes(payload)) == "truncated"


def test_damage_within_strips_is_no_cut() -> None:
    payload = bytearray(tiff("tiff_lzw"))
    payload[5000:5200] = b"\xff" * 200
    assert reject_reason(bytes(payload)) == "corrupt"
    assert not tiff_ends_early(bytes(payload))


@pytest.mark.parametrize("start", [b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"])
def test_any_bytes_give_an_answer(start: bytes) -> None:
    for rest in (b"", b"\0" * 40, b"\xff" * 40, bytes(range(256)), b"\x08\0\0\0" + b"\xff" * 200):
        assert tiff_ends_early(start + rest) in (True, False)
        assert isinstance(reject_reason(start + rest), str)


def test_a_directory_of_overlapping_lists_takes_little_time() -> None:
    numbers = 1 << 20
    listed = struct.pack("<HHII", 273, 4, numbers, 8) * 65_535
    payload = b"II*\0" + struct.pack("<I", 4 * numbers) + bytes(4 * numbers - 8) + struct.pack("<H", 65_535) + listed
    started = time.process_time()
    tiff_ends_early(payload)
    assert time.process_time() - started < 20  # usually 0.2 s; minutes if each list is read
