"""Lanczos resizing: equal on every processor, near a float filter, and strip by strip as in one go."""

import cykooz_resizer
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stoker.pipelines.images import resize as module
from stoker.pipelines.images.memory import Pixels
from stoker.pipelines.images.resize import resize
from tests.pipelines.pictures import pixels


def float_lanczos(values: Pixels, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Each channel resized in floats by Pillow's filter."""
    channels = [
        np.asarray(Image.fromarray(values[:, :, channel].astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
        for channel in range(values.shape[2])
    ]
    ideal: npt.NDArray[np.float32] = np.clip(np.stack(channels, axis=2), 0, 255)
    return ideal


def psnr(found: npt.NDArray[np.uint8], ideal: npt.NDArray[np.float32]) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, ((found.astype(np.float64) - ideal) ** 2).mean())))


def noisy(width: int, height: int, channels: int = 3) -> Pixels:
    """A picture with details of one pixel."""
    noise = np.random.default_rng(1).integers(-60, 60, (height, width, channels))
    return (pixels(width, height, channels=channels) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(64, 48), (333, 100), (900, 700)])
def test_pixels_are_near_those_of_a_float_filter(channels: int, size: tuple[int, int]) -> None:
    values = noisy(640, 480, channels)
    ideal = float_lanczos(values, size)
    assert psnr(resize(values, size, (0, 0, 640, 480), exact=True), ideal) > 57
    assert psnr(resize(values, size, (0, 0, 640, 480), exact=False), ideal) > 53


def test_every_processor_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noisy(641, 479)
    results = []
    for instructions in cykooz_resizer.CpuExtensions:
        resizer = cykooz_resizer.Resizer()
        try:
            resizer.cpu_extensions = instructions
        except ValueError:
            continue  # this processor has none of these
        monkeypatch.setattr(module, "_resizer", lambda resizer=resizer: resizer)
        for exact in (True, False):
            results += [
                (exact, size, resize(values, size, (1.5, 2.25, 630, 470), exact=exact).tobytes())
                for size in ((100, 75), (1000, 333))
            ]
    assert len({(exact, size) for exact, size, _ in results}) == len(set(results)) == 4
    assert len(results) >= 8


def test_a_large_image_is_resized_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noisy(640, 480)
    box = (10.5, 20.25, 600.0, 440.0)
    whole = resize(values, (200, 150), box, exact=True)
    monkeypatch.setattr(module, "_LARGE", 640 * 100)
    monkeypatch.setattr(module, "_STRIP", 640 * 100)
    strips = resize(values, (200, 150), box, exact=True)
    assert np.abs(strips.astype(int) - whole).max() <= 1
    assert (strips != whole).mean() < 0.02


def test_the_width_of_a_strip_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noisy(640, 480)
    monkeypatch.setattr(module, "_LARGE", 640 * 479)
    wide = resize(values, (900, 150), (10.5, 20.25, 600.0, 440.0), exact=False)
    monkeypatch.setattr(module, "_STRIP", 640 * 7)
    assert (resize(values, (900, 150), (10.5, 20.25, 600.0, 440.0), exact=False) == wide).all()
