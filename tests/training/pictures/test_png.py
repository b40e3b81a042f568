"""A PNG gives the pixels that Pillow gives, whoever decodes it, and is refused where Pillow refuses it."""

import io
import math
import random
import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from stoker.training.pictures import pictures, png
from stoker.training.pictures.crops import whole_image
from stoker.training.pictures.jpeg import DamagedImage, Pixels
from stoker.training.pictures.pictures import decode_crop

SIDE = (13, 9)
Chunks = list[tuple[bytes, bytes]]


def by(
    payload: bytes | memoryview, *, channels: int, pillow: bool, box: tuple[int, int, int, int] | None = None
) -> Pixels | None:
    """The pixels, None where they are refused."""
    width, height = (box[2], box[3]) if box else struct.unpack_from(">II", payload, 16)
    out = np.zeros((min(height, 64), min(width, 64), channels), np.uint8)
    crop = whole_image if box is None else lambda width, height, draws: box
    kept = pictures._decode_png
    try:
        if pillow:
            pictures._decode_png = lambda *_: None
        decode_crop(payload, out, crop, b"")
    except DamagedImage:
        return None
    finally:
        pictures._decode_png = kept
    return out


def write(mode: str, **options: object) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (SIDE[1], SIDE[0], 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA")
    if mode == "I;16":
        image = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    elif mode == "P":
        image = image.convert("RGB").quantize(11)
    else:
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def raw(bits: int, colour: int, *, interlace: int = 0, extra: Chunks | None = None) -> bytes:
    """A PNG of any kind, of random filters, without an encoder."""
    generator = np.random.default_rng(bits * 10 + colour)
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]

    def rows(width: int, height: int) -> bytes:
        size = -(-width * bits * samples // 8)
        lines = generator.integers(0, 256, (height, size + 1), dtype=np.uint8)
        lines[:, 0] = generator.integers(0, 5, height)
        return lines.tobytes() if width and height else b""

    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    across, down = SIDE
    parts = [(-(-(across - x) // dx), -(-(down - y) // dy)) for x, y, dx, dy in passes] if interlace else [SIDE]
    content = zlib.compress(b"".join(rows(*part) for part in parts))
    palette = [(b"PLTE", generator.integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes())] if colour == 3 else []
    header = struct.pack(">IIBBBBB", *SIDE, bits, colour, 0, 0, interlace)
    return build([(b"IHDR", header), *(extra or []), *palette, (b"IDAT", content), (b"IEND", b"")])


def build(chunks: Chunks) -> bytes:
    written = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def chunks_of(payload: bytes) -> Chunks:
    chunks, at = [], 8
    while at < len(payload):
        size, kind = struct.unpack_from(">I4s", payload, at)
        chunks.append((kind, payload[at + 8 : at + 8 + size]))
        at += size + 12
    return chunks


KINDS: dict[str, Callable[[], bytes]] = {
    **{
        f"{bits} bits, colour {colour}, interlace {interlace}": partial(raw, bits, colour, interlace=interlace)
        for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items()
        for bits in depths
        for interlace in (0, 1)
    },
    **{mode: partial(write, mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "grey with a transparent value": partial(write, "L", transparency=7),
    "a colour is transparent": partial(write, "RGB", transparency=(1, 2, 3)),
    "palette with a transparent entry": partial(write, "P", transparency=2),
    "gamma": partial(raw, 8, 0, extra=[(b"gAMA", struct.pack(">I", 220_000))]),
    "gamma of colours": partial(raw, 8, 2, extra=[(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", b"\0\0\1\0" * 8)]),
    "significant bits": partial(raw, 8, 0, extra=[(b"sBIT", b"\3")]),
    "background": partial(raw, 8, 2, extra=[(b"bKGD", b"\0\1\0\2\0\3")]),
    "profile": partial(write, "RGB", icc_profile=b"x" * 200),
    "turned": partial(write, "RGB", exif=b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
}
FAST = {
    "1", "L", "RGB", "RGBA", "gamma", "gamma of colours",
    *(f"{bits} bits, colour 0, interlace {n}" for bits in (1, 2, 4, 8) for n in (0, 1)),
    *(f"8 bits, colour {colour}, interlace {n}" for colour in (2, 6) for n in (0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_kind_has_the_pixels_of_pillow(kind: str, channels: int) -> None:
    payload = KINDS[kind]()
    expected = by(payload, channels=channels, pillow=True)
    assert expected is not None
    found = by(memoryview(payload), channels=channels, pillow=False)
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    box = (2, 3, 7, 5)
    np.testing.assert_array_equal(
        by(payload, channels=channels, pillow=False, box=box), by(payload, channels=channels, pillow=True, box=box)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_of_digits_and_photographs_do_not_wait_for_pillow(kind: str) -> None:
    assert (png.size_of(KINDS[kind](), 3) == SIDE) == (kind in FAST)


def damage(payload: bytes, draw: random.Random) -> bytes:
    chunks = chunks_of(payload)
    number = next(index for index, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    content = bytearray(chunks[number][1])
    way = draw.randrange(7)
    if way == 0:
        altered = bytearray(payload)
        altered[draw.randrange(8, len(payload))] ^= 1 << draw.randrange(8)
        return bytes(altered)
    if way == 1:
        return payload[: draw.randrange(24, len(payload))]
    if way == 2:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif way == 3:
        del content[draw.randrange(len(content)) :]
    elif way == 4:  # rows are missing, or there are more; the stream is whole
        rows = zlib.decompress(bytes(content))
        content = bytearray(zlib.compress(rows[: draw.randrange(len(rows))] + b"\0" * draw.randrange(40)))
    elif way == 5:
        header = bytearray(chunks[0][1])
        header[draw.randrange(13)] ^= 1 << draw.randrange(8)
        chunks[0] = b"IHDR", bytes(header)
    else:
        chunks.insert(draw.randrange(len(chunks) + 1), draw.choice(chunks))
    chunks[number if way != 6 else -1] = (b"IDAT", bytes(content)) if way != 6 else chunks[-1]
    return build(chunks)


def _check_damage(seeds: range) -> None:
    sound = [KINDS[kind]() for kind in sorted(FAST)]
    for seed in seeds:
        draw = random.Random(seed)
        payload, channels = damage(draw.choice(sound), draw), draw.choice([1, 3])
        if math.prod(struct.unpack_from(">II", payload, 16)) > 10**6:
            continue  # of so many pixels only the time is tested
        found, expected = (by(payload, channels=channels, pillow=pillow) for pillow in (False, True))
        assert (found is None) == (expected is None), (seed, payload)
        if found is not None:
            assert (found == expected).all(), (seed, payload)


def test_what_pillow_refuses_is_refused_and_what_it_mends_has_its_pixels() -> None:
    _check_damage(range(700))


@pytest.mark.nightly
def test_ten_thousand_damages_are_judged_as_by_pillow() -> None:
    _check_damage(range(700, 11_000))
