"""EXIF orientation: crops are of the upright image, for all eight orientations."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from stoker.training.pictures import jpeg
from stoker.training.pictures.crops import whole_image
from stoker.training.pictures.pictures import decode_crop
from tests.training.pictures.photographs import drawn, encoded, noise


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["turbojpeg", "pillow"])
def test_images_are_upright_whatever_their_exif_says(
    orientation: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "pillow":
        monkeypatch.setattr(jpeg, "open_jpeg", lambda payload: None)
    exif = Image.Exif()
    exif[0x0112] = orientation
    payload = encoded(drawn(64, 48), quality=95, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))
    box = (6, 10, 20, 30)
    out = np.empty((30, 20, 3), np.uint8)
    decode_crop(payload, out, lambda width, height, draws: box, b"")
    assert noise(out, np.asarray(expected.crop((6, 10, 26, 40)))) < 1
    small = np.empty((expected.height // 4, expected.width // 4, 3), np.uint8)
    decode_crop(payload, small, whole_image, b"")
    assert noise(small, np.asarray(expected.resize(small.shape[1::-1], Image.Resampling.BILINEAR))) < 5
