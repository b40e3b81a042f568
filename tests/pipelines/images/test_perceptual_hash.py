"""Perceptual hashes: near for copies of an image, far for others."""

import numpy as np
import pytest
from PIL import Image

from tests.pipelines.pictures import hash_distance, measured, packed, picture

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_hashes_of_edited_copies_are_near_and_of_other_pictures_far() -> None:
    original = picture(640, 480, seed=1)
    first = measured(packed(original, quality=95))
    assert first["image_hash_quality"] == 100
    edited = (
        packed(original, quality=20),
        packed(original.resize((320, 240)), "WEBP"),
        packed(original.point(lambda value: min(255, value + 20)), "PNG"),
        packed(original.convert("L")),
    )
    assert all(hash_distance(first, measured(payload)) <= 16 for payload in edited)
    for seed in range(2, 12):
        assert hash_distance(first, measured(packed(picture(640, 480, seed)))) > 80


def test_flat_and_regular_images_have_hashes_of_low_quality() -> None:
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::16] = 255
    checks = (np.indices((128, 128)) // 16).sum(axis=0) % 2 * 255
    noise = np.random.default_rng(0).integers(126, 129, (128, 128))
    slope = np.tile(np.arange(128), (128, 1))
    for values in (np.full((128, 128), 200), stripes, checks, noise, slope):
        assert measured(packed(Image.fromarray(values.astype(np.uint8)), "PNG"))["image_hash_quality"] < 50
