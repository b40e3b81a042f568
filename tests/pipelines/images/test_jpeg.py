"""JPEG: what lacks image data is a fault, odd metadata are none, and lossless images decode at any size."""

import io

import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.steps.image import Image as ImageStep
from stoker.storage.shards.sample import Sample
from tests.data import SHARED
from tests.pipelines.pictures import decoded, measured, packed, picture, reject_reason

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_half_its_data_is_no_image_with_a_grey_half(progressive: bool) -> None:
    payload = packed(picture(640, 480), progressive=progressive)
    assert reject_reason(payload[: len(payload) // 2] + b"\xff\xd9") == "truncated"
    assert reject_reason(payload[: len(payload) // 2]) == "truncated"


def test_random_bytes_in_the_data_and_a_wrong_height_are_noticed() -> None:
    payload = packed(picture(640, 480), quality=90)
    middle = len(payload) // 2
    random = np.random.default_rng(0).bytes(600)
    assert reject_reason(payload[:middle] + random + payload[middle + 600 :]) in ("corrupt", "truncated")
    frame = payload.index(b"\xff\xc0") + 5
    doubled = payload[:frame] + (960).to_bytes(2, "big") + payload[frame + 2 :]
    halved = payload[:frame] + (240).to_bytes(2, "big") + payload[frame + 2 :]
    assert (reject_reason(doubled), reject_reason(halved)) == ("truncated", "corrupt")


def test_a_progressive_jpeg_without_its_last_scans_is_truncated() -> None:
    payload = packed(picture(200, 150), quality=90, progressive=True)
    last = payload.rindex(b"\xff\xda")
    tables = payload.rfind(b"\xff\xc4", 0, last)
    assert reject_reason(payload[:tables] + b"\xff\xd9") == "truncated"


def test_a_jpeg_that_lacks_only_its_end_marker_is_whole() -> None:
    payload = packed(picture(200, 150))
    assert decoded(payload[:-2]).tobytes() == decoded(payload).tobytes()


def test_odd_metadata_cost_no_pixels() -> None:
    payload = packed(picture(200, 150), comment=b"made by hand")
    after_comment = payload.index(b"made by hand") + 12
    assert decoded(payload[:after_comment] + b"junk" + payload[after_comment:]).tobytes() == decoded(payload).tobytes()
    profile = b"\xff\xe2\0\x14ICC_PROFILE\0\7\1oops"
    assert decoded(payload[:2] + profile + payload[2:]).tobytes() == decoded(payload).tobytes()
    newer = payload.replace(b"JFIF\0\1\1", b"JFIF\0\2\1")
    assert decoded(newer).tobytes() == decoded(payload).tobytes()
    scan = payload.index(b"\xff\xda\0\x0c")
    spectral = payload[: scan + 11] + b"\0\0\0" + payload[scan + 14 :]
    assert decoded(spectral).tobytes() == decoded(payload).tobytes()


def test_junk_in_a_table_is_a_fault() -> None:
    payload = packed(picture(200, 150))
    for marker in (b"\xff\xdb", b"\xff\xc4", b"\xff\xc0"):
        inside = payload.index(marker) + 9
        assert reject_reason(payload[:inside] + b"\7" + payload[inside:]) in ("corrupt", "truncated", "too_many_pixels")


@pytest.mark.parametrize("junk", [b"\n", b"\r\n\r\n", b"\xef\xbb\xbf\n", b"  \t"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
def test_white_space_before_an_image_is_skipped(junk: bytes, form: str) -> None:
    payload = packed(picture(60, 40), form)
    assert measured(junk + payload) == measured(payload)


def test_a_newline_before_a_text_does_not_make_it_an_image() -> None:
    assert reject_reason(b"\n<html>") == "not_an_image"


def test_measures_of_a_jpeg_follow_its_profile_as_those_of_a_png_do() -> None:
    image = Image.new("RGB", (64, 64), (220, 30, 30))
    profile = wide_gamut()
    brightness = [
        measured(packed(image, "JPEG", icc_profile=profile, quality=95))["brightness"],
        measured(packed(image, "PNG", icc_profile=profile))["brightness"],
        np.asarray(decoded(packed(image, "PNG", icc_profile=profile)).convert("L")).mean(),
    ]
    plain = measured(packed(image, "PNG"))["brightness"]
    assert max(brightness) - min(brightness) < 1.5
    assert abs(brightness[0] - plain) > 5


def wide_gamut() -> bytes:
    """sRGB's profile with red and green exchanged, under another name."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return (
        bytes(profile)
        .replace("sRGB".encode("utf-16-be"), "XXXX".encode("utf-16-be"))
        .replace(b"sRGB built-in", b"XXXX built-in")
    )


@pytest.mark.skipif(SHARED is None, reason="no folder shared/data beside the repository")
def test_a_lossless_jpeg_decodes_whatever_the_size_that_is_asked_for() -> None:
    assert SHARED is not None
    payload = (SHARED.parent / "cases" / "images" / "testimgl.jpg").read_bytes()
    assert measured(payload)["width"] == 227
    for size in (8, 16, 32, 64, 500):
        result = ImageStep(mode="short_side", size=size)(Sample("a", {"jpg": payload}))
        assert not isinstance(result, Rejected), result
        assert min(Image.open(io.BytesIO(result.fields["jpg"])).size) == size


def lossless_grey(width: int, height: int) -> bytes:
    """A lossless JPEG (process 14, predictor 1) of one level: every difference is 0, whose code is one bit."""
    bits = "0" * (width * height)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = b"\xff\xc3\0\x0b\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\1\1\x11\0"
    table = b"\xff\xc4\0\x15\0\1\1" + bytes(14) + b"\0\1"
    return b"\xff\xd8" + frame + table + b"\xff\xda\0\x08\1\1\0\1\0\0" + data + b"\xff\xd9"


@pytest.mark.parametrize("size", [8, 32, 64])
def test_a_made_lossless_jpeg_decodes_at_every_size(size: int) -> None:
    payload = lossless_grey(300, 200)
    assert decoded(payload, colour="grey", at_least=size).getpixel((5, 5)) == 128
    assert isinstance(ImageStep(mode="short_side", size=size)(Sample("a", {"jpg": payload})), Sample)
    assert measured(payload)["brightness"] == 128
