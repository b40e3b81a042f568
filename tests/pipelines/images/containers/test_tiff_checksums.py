"""Damage within strips and tiles of Deflate is noticed by their checksums; what is intact has its pixels."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from stoker.pipelines.images.codec import decode
from stoker.pipelines.images.containers.tiff_checksums import deflate_parts
from stoker.pipelines.rejected import Rejected
from tests.pipelines.pictures import decoded, pixels

WIDTH, HEIGHT = 150, 110
RGB = pixels(WIDTH, HEIGHT)
IMAGES = {
    "rgb": Image.fromarray(RGB),
    "grey": Image.fromarray(RGB[:, :, 0]),
    "rgba": Image.fromarray(np.dstack([RGB, RGB[:, :, :1] | 128])),
    "palette": Image.fromarray(RGB).quantize(32),
    "cmyk": Image.fromarray(RGB).convert("CMYK"),
    "bits": Image.fromarray(RGB).convert("1"),
    "16 bits": Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 255),
    "float": Image.fromarray(RGB[:, :, 0].astype(np.float32)),
}


def saved(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "TIFF", compression="tiff_adobe_deflate", **options)
    return out.getvalue()


def places(payload: bytes) -> list[tuple[int, int]]:
    """Offset and size of each strip or tile of the first page."""
    tags = TiffImagePlugin.TiffImageFile(io.BytesIO(payload)).tag_v2
    return list(zip(tags.get(273) or tags[324], tags.get(279) or tags[325], strict=True))


def tiled(array: np.ndarray[Any, Any], side: int, *, big: bool, predictor: int = 1, planes: int = 1) -> bytes:
    """A TIFF of 8 bits in tiles, which Pillow does not write."""
    height, width, channels = array.shape
    tiles, each = [], channels if planes == 1 else 1
    padded = np.pad(array, ((0, -height % side), (0, -width % side), (0, 0)), constant_values=77)
    for plane in range(channels // each):
        for top in range(0, height, side):
            for left in range(0, width, side):
                tile = padded[top : top + side, left : left + side, plane * each : (plane + 1) * each].copy()
                if predictor == 2:
                    tile[:, 1:] -= tile[:, :-1].copy()
                tiles.append(zlib.compress(tile.tobytes()))
    number, long = ("Q", 16) if big else ("I", 4)
    head = 16 if big else 8
    offsets = [head + sum(map(len, tiles[:index])) for index in range(len(tiles))]
    lists = head + sum(map(len, tiles))
    listed = struct.pack(f"<{len(tiles)}{number}", *offsets) + struct.pack(f"<{len(tiles)}{number}", *map(len, tiles))
    bits = lists + len(listed)
    shorts = {256: width, 257: height, 259: 8, 262: 2 if channels == 3 else 1, 277: channels, 284: planes}
    shorts |= {317: predictor, 322: side, 323: side}
    entries = {tag: (3, 1, value) for tag, value in shorts.items()}
    entries[258] = (3, channels, bits if channels * 2 > struct.calcsize(number) else 0x0008_0008_0008_0008)
    if channels == 1:
        entries[258] = (3, 1, 8)
    elif big:
        entries[258] = (3, channels, 0x0008_0008_0008)
    entries[324] = (long, len(tiles), lists)
    entries[325] = (long, len(tiles), lists + len(listed) // 2)
    start = bits + 2 * channels
    directory = struct.pack("<Q" if big else "<H", len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        directory += struct.pack(f"<HH{number}{number}", tag, kind, count, value)
    first = b"II+\0\x08\0\0\0" + struct.pack("<Q", start) if big else b"II*\0" + struct.pack("<I", start)
    body = b"".join(tiles) + listed + struct.pack(f"<{channels}H", *[8] * channels)
    return first + body + directory + struct.pack(f"<{number}", 0)


def big_endian() -> bytes:
    """A TIFF of a strip of 16 bits in the order of Motorola."""
    strip = zlib.compress((RGB[:, :, 0].astype(">u2") * 255).tobytes())
    tags = {256: WIDTH, 257: HEIGHT, 258: 16, 259: 8, 262: 1, 273: 8, 277: 1, 278: HEIGHT, 279: len(strip)}
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"MM\0*" + struct.pack(">I", 8 + len(strip)) + strip + struct.pack(">H", len(tags)) + entries + bytes(4)


FILES = {
    **{f"{name} in strips": saved(image, strip_size=4096) for name, image in IMAGES.items()},
    "a single strip": saved(IMAGES["rgb"], strip_size=1 << 20),
    "strips with predictor": saved(IMAGES["rgb"], strip_size=4096, tiffinfo={317: 2}),
    "16 bits with predictor": saved(IMAGES["16 bits"], strip_size=4096, tiffinfo={317: 2}),
    "16 bits of Motorola": big_endian(),
    "turned": saved(IMAGES["rgb"], strip_size=4096, tiffinfo={274: 6}),
    "BigTIFF": saved(IMAGES["rgb"], strip_size=4096, big_tiff=True),
    "pages": saved(IMAGES["rgb"], strip_size=4096, save_all=True, append_images=[IMAGES["grey"]]),
    "tiles": tiled(RGB, 64, big=False),
    "tiles with predictor": tiled(RGB, 32, big=False, predictor=2),
    "tiles of BigTIFF": tiled(RGB, 64, big=True),
    "grey tiles": tiled(RGB[:, :, :1], 48, big=False, predictor=2),
    "tiles of planes": tiled(RGB, 64, big=False, planes=2),
}


def flips(payload: bytes, count: int) -> list[bytes]:
    """The file with one wrong bit within its strips or tiles, at many places; each one's last bits among them."""
    random, damaged = np.random.default_rng(3), []
    for _ in range(count):
        offset, size = places(payload)[int(random.integers(len(places(payload))))]
        bit = int(random.integers(8 * size))
        damaged.append((offset + bit // 8, bit % 8))
    damaged += [(offset + size - 1, 0) for offset, size in places(payload)]
    found = []
    for place, bit in damaged:
        copy = bytearray(payload)
        copy[place] ^= 1 << bit
        found.append(bytes(copy))
    return found


@pytest.mark.parametrize("name", FILES)
def test_intact_files_have_the_pixels_that_pillow_decodes(name: str) -> None:
    whole = Image.open(io.BytesIO(FILES[name]))
    expected = decoded(FILES[name])
    assert expected.size == whole.size if name != "turned" else (HEIGHT, WIDTH)
    if name.startswith(("rgb in", "a single", "strips", "BigTIFF", "pages", "tiles")):
        assert (np.asarray(expected) == RGB).all()


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_bit_in_a_strip_or_tile_is_noticed(name: str) -> None:
    for damaged in flips(FILES[name], 30):
        found = decode(damaged)
        assert isinstance(found, Rejected)
        assert found.reason in ("corrupt", "truncated")


@pytest.mark.parametrize("name", ["rgb in strips", "strips with predictor", "tiles", "16 bits in strips", "BigTIFF"])
@pytest.mark.parametrize("missing", [1, 4])
def test_a_strip_without_its_last_bytes_is_truncated(name: str, missing: int) -> None:
    payload = bytearray(FILES[name])
    number = 2
    offset, size = places(FILES[name])[number]
    tags = TiffImagePlugin.TiffImageFile(io.BytesIO(payload)).tag_v2
    sizes = tags.get(279) or tags[325]
    for form in "QIH":  # the list of sizes, wherever and as whatever it stands
        listed = struct.pack(f"<{len(sizes)}{form}", *sizes)
        if listed in payload:
            place = payload.index(listed) + number * struct.calcsize(form)
            struct.pack_into(f"<{form}", payload, place, size - missing)
            break
    assert places(bytes(payload))[number] == (offset, size - missing)
    assert decode(bytes(payload)) == Rejected("truncated", "a strip or tile ends early")


def test_of_several_pages_the_first_is_decoded_and_checked() -> None:
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(FILES["pages"]))
    image.seek(1)
    payload = bytearray(FILES["pages"])
    payload[image.tag_v2[273][1] + 40] ^= 1
    assert (np.asarray(decoded(bytes(payload))) == RGB).all()


@pytest.mark.parametrize(
    "name", ["rgb in strips", "strips with predictor", "16 bits of Motorola", "16 bits with predictor"]
)
def test_intact_strips_are_not_decompressed_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(FILES[name]))
    parts = deflate_parts(image, FILES[name])
    assert parts is not None
    image.load()
    monkeypatch.setattr("zlib.decompressobj", None)  # calling it raises TypeError
    assert parts.fault(image) is None


def test_of_tiles_only_those_at_the_right_and_lower_edge_are_decompressed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payload = FILES["tiles with predictor"]
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(payload))
    parts = deflate_parts(image, payload)
    assert parts is not None
    image.load()
    again = iter([zlib.decompressobj() for _ in range(8)])
    monkeypatch.setattr("zlib.decompressobj", lambda: next(again))  # for one more it raises StopIteration
    assert parts.fault(image) is None
    assert (next(again, None), len(parts.parts)) == (None, 20)


def test_strips_that_libtiff_does_not_read_may_hold_anything() -> None:
    intact = FILES["rgb in strips"]
    payload, strips = bytearray(intact), len(places(intact))
    place = payload.index(struct.pack("<HHIH", 257, 3, 1, HEIGHT)) + 8
    rows = TiffImagePlugin.TiffImageFile(io.BytesIO(intact)).tag_v2[278]
    struct.pack_into("<H", payload, place, rows * 2)
    payload[places(intact)[strips - 1][0] + 30] ^= 1
    assert (np.asarray(decoded(bytes(payload))) == RGB[: rows * 2]).all()


def test_a_strip_that_holds_far_more_than_its_pixels_is_corrupt() -> None:
    raw = RGB.tobytes() + bytes(1 << 22)
    payload = bytearray(FILES["a single strip"])
    ((offset, size),) = places(FILES["a single strip"])
    strip = zlib.compress(raw)
    payload += strip
    for old, new in ((offset, len(FILES["a single strip"])), (size, len(strip))):
        place = payload.index(struct.pack("<HI", 4, 1) + struct.pack("<I", old)) + 6
        struct.pack_into("<I", payload, place, new)
    assert decode(bytes(payload)) == Rejected("corrupt", "a strip or tile holds far more than its pixels")


def test_strips_of_more_rows_than_the_image_has_are_sound() -> None:
    array = np.concatenate([RGB[:, :, :1], RGB[:18, :, :1]])
    whole = bytearray(saved(Image.fromarray(array[:, :, 0]), strip_size=64 * WIDTH))
    place = whole.index(struct.pack("<HHIH", 257, 3, 1, HEIGHT + 18)) + 8
    struct.pack_into("<H", whole, place, HEIGHT)
    assert (np.asarray(decoded(bytes(whole), colour="grey")) == RGB[:, :, 0]).all()
