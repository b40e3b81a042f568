"""Damaged images: always a reason, never an exception or a line on the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.images.codec import measures_of_image
from stoker.pipelines.rejected import REASONS, Rejected
from tests.data import SHARED, needs_shared
from tests.pipelines.pictures import FORMATS, packed, picture

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_no_damaged_image_raises(extension: str, data: st.DataObject) -> None:
    payload = bytearray(packed(picture(48, 40), FORMATS[extension]))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    result = measures_of_image(damaged)
    assert isinstance(result, dict) or result.reason in REASONS


# The real files that are no image, or a damaged one. Every other one decodes.
BROKEN = {
    "pil_badbitcount.bmp": "corrupt",
    "pil_badheadersize.bmp": "corrupt",
    "pil_badpalettesize.bmp": "corrupt",
    "pil_badwidth.bmp": "too_many_pixels",
    "pil_broken.png": "truncated",
    "pil_broken_data_stream.png": "corrupt",
    "pil_decompression_bomb.gif": "too_many_pixels",
    "pil_hopper_bad_exif.jpg": "corrupt",
    "pil_hopper_unknown_pixel_mode.tif": "unsupported_format",
    "pil_hopper_webp.tif": "unsupported_format",
    "pil_reallybig.bmp": "too_many_pixels",
    "pil_shortfile.bmp": "truncated",
    "pil_truncated_end_chunk.png": "truncated",
    "pil_truncated_image.png": "truncated",
    "pil_truncated_jpeg.jpg": "truncated",
    "pil_ultrahdr.jpg": "truncated",
    "pil_zero_width.gif": "corrupt",
    "skimage_multipage_rgb.tif": "unsupported_format",
    "skimage_truncated.jpg": "truncated",
}


@needs_shared
def test_every_real_photograph_decodes_or_has_the_right_reason() -> None:
    assert SHARED is not None
    results = {path.name: measures_of_image(path.read_bytes()) for path in sorted((SHARED / "photos").iterdir())}
    rejected = {name: result.reason for name, result in results.items() if isinstance(result, Rejected)}
    fuzzed = {name for name in rejected if name.startswith("pil_crash-")}
    assert {rejected.pop(name) for name in fuzzed} <= {"corrupt", "truncated"}  # it hangs on the version of libtiff
    assert rejected == BROKEN


@needs_shared
def test_damaged_files_write_nothing_to_the_terminal() -> None:
    script = (
        "import pathlib, sys\n"
        "from stoker.pipelines.images.codec import measures_of_image\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    measures_of_image(path.read_bytes())\n"
    )
    assert SHARED is not None
    command = [sys.executable, "-c", script, str(SHARED / "photos")]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).resolve().parents[3])
    assert (done.stdout, done.stderr) == (b"", b"")
