"""Random crops: inside the image, of the allowed area and shape, evenly spread."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stoker.training.pictures.crops import is_mirrored, random_crop


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), draws=st.binary(min_size=32, max_size=32))
def test_a_random_crop_lies_inside_and_has_the_area_and_shape_that_it_may(
    width: int, height: int, draws: bytes
) -> None:
    left, top, across, down = random_crop(width, height, draws, scale=(0.25, 1), ratio=(3 / 4, 4 / 3))
    assert 0 <= left <= left + across <= width
    assert 0 <= top <= top + down <= height
    assert min(across, down) >= 1
    if min(width, height) > 100 and 0.8 < width / height < 1.25:
        assert across * down >= 0.24 * width * height
        assert 0.7 < across / down < 1.4


def test_random_crops_are_spread_evenly() -> None:
    generator = np.random.default_rng(1)
    crops = [random_crop(256, 256, generator.bytes(32), scale=(0.08, 1), ratio=(3 / 4, 4 / 3)) for _ in range(4000)]
    areas = np.array([width * height / 65536 for _, _, width, height in crops])
    assert 0.44 < areas.mean() < 0.54  # uniform in 0.08 to 1, of which some of the largest do not fit
    free = [
        (left / (256 - width), top / (256 - height)) for left, top, width, height in crops if max(width, height) < 200
    ]
    assert np.allclose(np.array(free).mean(axis=0), 0.5, atol=0.03)


def test_half_of_all_draws_mirror() -> None:
    assert sum(is_mirrored(bytes([number]) * 32) for number in range(64)) == 32
