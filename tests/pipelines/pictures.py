"""Images made for tests (noise of several sizes, so that every frequency is there), and what is decoded of them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from stoker.pipelines.images.codec import decode, measures_of_image
from stoker.pipelines.rejected import REASONS, Rejected

# Pillow's name of each format, by extension.
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "jp2": "JPEG2000"}
if features.check("avif"):
    FORMATS["avif"] = "AVIF"


def pixels(width: int, height: int, seed: int = 0, channels: int = 3) -> npt.NDArray[np.uint8]:
    """A cloudy picture, like no other seed's."""
    generator = np.random.default_rng(seed)
    whole = np.zeros((height, width, channels))
    for cells in (3, 6, 12, 24):
        coarse = generator.uniform(0, 255, (cells, cells, channels)).astype(np.uint8)
        for channel in range(channels):
            band = Image.fromarray(coarse[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
            whole[:, :, channel] += np.asarray(band)
    return (whole / 4).astype(np.uint8)


def picture(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    return Image.fromarray(pixels(width, height, seed))


def packed(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of a size that holds no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def decoded(payload: bytes, **options: Any) -> Image.Image:
    result = decode(payload, **options)
    assert isinstance(result, Image.Image), result
    return result


def measured(payload: bytes) -> dict[str, Any]:
    result = measures_of_image(payload)
    assert isinstance(result, dict), result
    return result


def reject_reason(payload: bytes) -> str:
    result = measures_of_image(payload)
    assert isinstance(result, Rejected)
    assert result.reason in REASONS
    return result.reason


def hash_distance(left: dict[str, Any], right: dict[str, Any]) -> int:
    """Bits in which the hashes of two images' measures differ."""
    return (int(left["image_hash"], 16) ^ int(right["image_hash"], 16)).bit_count()
