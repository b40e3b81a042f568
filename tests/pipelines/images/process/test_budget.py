"""Peak memory of 64 megapixels in each format: under 300 MB in the worker, and bounded in its decoder process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stoker.pipelines.images.process.pool import MEMORY
from stoker.pipelines.steps.image import _MEMORY_TIMES
from tests.pipelines.pictures import pixels

pytestmark = pytest.mark.nightly
SIDE = 8000
MOST = 300_000_000
_MEASURED = """
import json, os, sys
from stoker.pipelines.images.codec import measures_of_image
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.steps.image import Image
from stoker.storage.shards.sample import Sample

def resident(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()

extension, options, large, small = sys.argv[1:]
steps = [Image(**step) for step in json.loads(options)]
runs = [lambda payload, step=step: step(Sample("a", {extension: payload})) for step in steps]
if len(steps) > 1:
    runs.insert(0, measures_of_image)
payload = open(large, "rb").read()
found = []
for run in runs:
    assert not isinstance(run(open(small, "rb").read()), Rejected)
    before = resident("self", "VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    result = run(payload)
    theirs = max([resident(pid, "VmHWM") for pid in children()], default=0)
    rejected = result.reason if isinstance(result, Rejected) else ""
    found.append([rejected, resident("self", "VmHWM") - before, theirs])
print(json.dumps(found))
"""


FAST = {"compress_level": 1}
TILES = {"quality_mode": "rates", "quality_layers": [40], "tile_size": (1000, 1000)}
# Mode, Pillow's name of the format and its options.
FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "baseline.jpg": ("RGB", "JPEG", {}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True, "subsampling": "4:4:4"}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "cmyk_progressive.jpg": ("CMYK", "JPEG", {"progressive": True}),
    "rgb.png": ("RGB", "PNG", FAST),
    "noise.png": ("noise", "PNG", FAST),
    "rgba.png": ("RGBA", "PNG", FAST),
    "grey_alpha.png": ("LA", "PNG", FAST),
    "palette.png": ("P", "PNG", FAST | {"transparency": 3}),
    "palette.bmp": ("P", "BMP", {}),
    "palette.gif": ("P", "GIF", {}),
    "bits.png": ("1", "PNG", FAST),
    "deep.png": ("I;16", "PNG", FAST),
    "float.tif": ("F", "TIFF", {}),
    "cmyk.tif": ("CMYK", "TIFF", {}),
    "one_strip.tif": ("RGB", "TIFF", {"compression": "tiff_adobe_deflate", "strip_size": 1 << 30}),
    "rgba_lzw.tif": ("RGBA", "TIFF", {"compression": "tiff_lzw"}),
    "rgb.bmp": ("RGB", "BMP", {}),
    "lossy.webp": ("RGB", "WEBP", {"method": 0}),
    "rgb.avif": ("RGB", "AVIF", {"speed": 10}),
    "tiled.jp2": ("L", "JPEG2000", TILES),
}


def _image(mode: str, side: int) -> Image.Image:
    if mode == "noise":
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
    rgb = Image.fromarray(np.tile(pixels(500, 500), (side // 500, side // 500, 1)))
    if mode == "P":
        return rgb.quantize(64)
    grey = rgb.convert("L")
    if mode == "LA":
        return Image.merge("LA", (grey, grey))
    if mode == "RGBA":
        rgb.putalpha(grey)
        return rgb
    if mode in ("I;16", "F"):
        return Image.fromarray(np.asarray(grey).astype(np.uint16 if mode == "I;16" else np.float32) * 257)
    return rgb.convert(mode)


STEPS = [{"mode": "short_side", "size": 256}, {"reencode": "always", "max_megapixels": 65}]
LARGE_RESULTS: list[dict[str, Any]] = [
    {"mode": "short_side", "size": 7900, "decoding": "exact", "format": "png"},
    {"mode": "pad", "size": 8100, "format": "webp", "max_megapixels": 66},
    {"mode": "center_crop", "size": 3800},
    {"mode": "short_side", "size": 1100},
    {"mode": "short_side", "size": 520, "colour": "grey"},
    {"format": "webp", "reencode": "always", "max_megapixels": 65},
]


@pytest.mark.parametrize("name", sorted(FORMS))
def test_64_megapixels_take_less_than_300_mb(name: str, tmp_path: Path) -> None:
    _check(name, STEPS, tmp_path)


@pytest.mark.parametrize("step", LARGE_RESULTS)
@pytest.mark.parametrize("name", ["baseline.jpg", "noise.png", "float.tif"])
def test_large_results_take_less_than_300_mb(name: str, step: dict[str, Any], tmp_path: Path) -> None:
    _check(name, [step], tmp_path)


def _check(name: str, steps: list[dict[str, Any]], tmp_path: Path) -> None:
    for part, side in (("large", SIDE), ("small", 1500)):
        mode, form, options = FORMS[name]
        _image(mode, side).save(tmp_path / f"{part}-{name}", form, **options)
    command = [sys.executable, "-c", _MEASURED, Path(name).suffix[1:], json.dumps(steps)]
    command += [str(tmp_path / f"{part}-{name}") for part in ("large", "small")]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).resolve().parents[4])
    for reason, here, in_process in json.loads(done.stdout):
        assert reason == ""
        assert here < MOST
        times = max(_MEMORY_TIMES.get(step.get("format", "jpg"), 1) for step in steps)
        assert in_process < MEMORY * times + 200_000_000  # of Python and libraries
