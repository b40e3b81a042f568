"""Image formats are detected by their bytes; what is none has its reason."""

import numpy as np
import pytest

from stoker.pipelines.images.codec import ImageHeader, header_of
from stoker.pipelines.images.formats import extension_of
from tests.pipelines.pictures import FORMATS, decoded, measured, packed, picture, png_header, reject_reason

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_is_detected_by_its_bytes_and_decoded(extension: str) -> None:
    payload = packed(picture(90, 60), FORMATS[extension])
    header = header_of(payload)
    assert isinstance(header, ImageHeader)
    assert (extension_of(payload), header.extension, header.width, header.height) == (extension, extension, 90, 60)
    difference = np.abs(np.asarray(decoded(payload)).astype(int) - np.asarray(picture(90, 60)))
    assert difference.mean() < 12
    assert measured(payload)["format"] == extension


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "empty"),
        (b"<!doctype html><html><svg>no</svg>", "not_an_image"),
        (b"BMW is a car maker", "not_an_image"),
        (b"plain words", "not_an_image"),
        (b"<?xml version='1.0'?>\n<!-- a drawing -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "not_an_image"),
        (b"P6\n2 2\n255\n" + b"\0" * 12, "unsupported_format"),
        (b"8BPS\0\1", "unsupported_format"),
        (png_header(1 << 20, 1 << 20), "too_many_pixels"),
        (png_header(100, 100), "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40 + b"IEND\xaeB`\x82", "corrupt"),
    ],
)
def test_bytes_that_are_no_supported_image_have_their_reason(payload: bytes, expected: str) -> None:
    assert reject_reason(payload) == expected


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9])
def test_an_image_that_ends_early_is_truncated(extension: str, part: float) -> None:
    payload = packed(picture(90, 60), FORMATS[extension])
    assert reject_reason(payload[: int(len(payload) * part)]) == "truncated"
