"""The page in a real browser: it renders, hostile data stays text, and it asks nobody else for anything."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stoker.flows.page.web import make_app
from stoker.storage.stores.memory import MemoryStore
from tests.conftest import HANGS_S
from tests.flows.inspected_corpus import make_all
from tests.flows.page.serving import TOKEN, serve
from tests.system.chromium import COMMON_FLAGS, PROGRAM

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no chromium on this machine (Debian: apt-get install chromium)")
FLAGS = ("--headless", *COMMON_FLAGS, "--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=5000")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = MemoryStore()
    make_all(store, tmp_path_factory.mktemp("made"))
    with serve(make_app(store, token=TOKEN)) as found:
        yield found


def browse(url: str, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *FLAGS, f"--user-data-dir={profile}", *flags, url],
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=True,
    )


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/", "Corpora · Stoker"),
        ("/c/shapes", "shapes@2 · Stoker"),
        ("/c/shapes/sample/shape-3", "shape-3 in shapes@2 · Stoker"),
        ("/c/pages/sample/page-5", "page-5 in pages@1 · Stoker"),
        ("/c/shapes/rejects", "Rejected in shapes@2 · Stoker"),
        ("/c/shapes/diff/1/2", "shapes@1 → shapes@2 · Stoker"),
    ],
)
def test_a_page_keeps_its_title_whatever_the_data_says_and_breaks_no_policy(
    address: str, tmp_path: Path, path: str, title: str
) -> None:
    found = browse(f"{address}/login#{TOKEN}&to={path}", tmp_path, "--dump-dom")
    assert f"<title>{title}</title>" in found.stdout
    assert "<script" not in found.stdout
    assert "owned</title>" not in found.stdout
    for complaint in ("Content Security Policy", "Refused to", "Failed to load", "Uncaught"):
        assert complaint not in found.stderr


@pytest.mark.parametrize("width", [1280, 500])
def test_a_page_is_painted_with_its_pictures_and_colours(address: str, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    browse(
        f"{address}/login#{TOKEN}&to=/c/shapes",
        tmp_path / "profile",
        f"--window-size={width},2600",
        f"--screenshot={picture}",
    )
    image = Image.open(picture).convert("RGB")
    assert image.width == width
    pixels = np.asarray(image).reshape(-1, 3).astype(int)
    red, green, blue = pixels.T
    ember = int(((red > 200) & (green > 90) & (green < 140) & (blue < 80)).sum())
    assert ember > 2000  # the bars: the stylesheet was loaded, and SVG needs no style of its own
    assert len(np.unique(pixels, axis=0)) > 500  # the samples
