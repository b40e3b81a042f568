"""The demo's film."""

import subprocess
import sys
from pathlib import Path

import pytest

from stoker.flows.demo import film


def test_the_film_is_h264_and_the_same_every_time(tmp_path: Path) -> None:
    """Made in processes of their own, as the demo does: what tests before it left in this one is not its matter."""
    av = pytest.importorskip("av")
    pytest.importorskip("sklearn")
    make = "import sys; from pathlib import Path; from stoker.flows.demo import film; film.make(Path(sys.argv[1]))"
    for name in ("film.mp4", "again.mp4"):
        subprocess.run([sys.executable, "-c", make, str(tmp_path / name)], check=True)
    assert (tmp_path / "film.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    with av.open(str(tmp_path / "film.mp4")) as made:
        stream = made.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", film.WIDTH, film.HEIGHT)
        assert sum(1 for _ in made.decode(stream)) == 25 * sum(seconds for _, seconds, _, _ in film.SCENES)
