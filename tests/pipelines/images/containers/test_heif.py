"""HEIC is upright by its own properties, and in sRGB. What it has in common with JPEG XL is tested there."""

import pytest
from PIL import Image, ImageCms, ImageOps

from tests.pipelines.images.containers.test_jpeg_xl import difference, heic
from tests.pipelines.pictures import decoded, packed, picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_upright_by_its_own_properties(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = picture(96, 64)
    payload = heic(photo.copy(), exif=exif.tobytes())
    photo.info["exif"] = exif.tobytes()
    assert difference(decoded(payload), ImageOps.exif_transpose(photo)) < 6


def test_colours_of_heic_are_converted_by_its_profile_as_those_of_png() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be"))
    photo = Image.new("RGB", (32, 32), (180, 90, 60))
    photo.info["icc_profile"] = swapped
    expected = decoded(packed(photo, "PNG", icc_profile=swapped))
    assert difference(expected, photo) > 20
    assert difference(decoded(heic(photo)), expected) < 4
