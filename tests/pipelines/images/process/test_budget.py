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

extension, large, small = sys.argv[1:]
steps = [Image(mode="short_side", size=256), Image(reencode="always", max_megapixels=65)]
runs = [measures_of_image, *(lambda payload, step=step: step(Sample("a", {extension: payload})) for step in steps)]
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


def _images(side: int) -> dict[str, tuple[Image.Image, str, dict[str, Any]]]:
    """Format and mode by name: image, Pillow's name of the format and its options."""
    tile = pixels(500, 500)
    rgb = Image.fromarray(np.tile(tile, (side // 500, side // 500, 1)))
    grey, palette = rgb.convert("L"), rgb.quantize(64)
    rgba = rgb.copy()
    rgba.putalpha(grey)
    grey_alpha = Image.merge("LA", (grey, grey))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    floats = Image.fromarray(np.asarray(grey).astype(np.float32))
    cmyk = rgb.convert("CMYK")
    fast = {"compress_level": 1}
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "baseline.jpg": (rgb, "JPEG", {}),
        "progressive.jpg": (rgb, "JPEG", {"progressive": True, "subsampling": "4:4:4"}),
        "cmyk.jpg": (cmyk, "JPEG", {}),
        "cmyk_progressive.jpg": (cmyk, "JPEG", {"progressive": True}),
        "rgb.png": (rgb, "PNG", fast),
        "rgba.png": (rgba, "PNG", fast),
        "grey_alpha.png": (grey_alpha, "PNG", fast),
        "palette.png": (palette, "PNG", fast | {"transparency": 3}),
        "palette.bmp": (palette, "BMP", {}),
        "palette.gif": (palette, "GIF", {}),
        "deep.png": (deep, "PNG", fast),
        "float.tif": (floats, "TIFF", {}),
        "cmyk.tif": (cmyk, "TIFF", {}),
        "one_strip.tif": (rgb, "TIFF", {"compression": "tiff_adobe_deflate", "strip_size": 1 << 30}),
        "rgba_lzw.tif": (rgba, "TIFF", {"compression": "tiff_lzw"}),
        "rgb.bmp": (rgb, "BMP", {}),
        "lossy.webp": (rgb, "WEBP", {"method": 0}),
        "rgb.avif": (rgb, "AVIF", {"speed": 10}),
        "tiled.jp2": (grey, "JPEG2000", {"quality_mode": "rates", "quality_layers": [40], "tile_size": (1000, 1000)}),
    }
    return made


@pytest.mark.parametrize("name", sorted(_images(500)))
def test_64_megapixels_take_less_than_300_mb(name: str, tmp_path: Path) -> None:
    for part, side in (("large", SIDE), ("small", 1500)):
        image, form, options = _images(side)[name]
        image.save(tmp_path / f"{part}-{name}", form, **options)
    command = [sys.executable, "-c", _MEASURED, Path(name).suffix[1:]]
    command += [str(tmp_path / f"{part}-{name}") for part in ("large", "small")]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).resolve().parents[4])
    for reason, here, in_process in json.loads(done.stdout):
        assert reason == ""
        assert here < MOST
        assert in_process < MEMORY + 200_000_000  # of Python and libraries
