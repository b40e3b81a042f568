"""Images that crash their decoder are lost alone, with the same reason on every runner."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.flows.conftest import Cli, shards, until
from tests.flows.runners.test_tasks import needs
from tests.pipelines.pictures import packed, picture

pytestmark = pytest.mark.slow
RECIPE = """
corpus = "photos"
[source]
name = "local_files"
files = "photos"
files_per_partition = 3
[[steps]]
name = "image"
"""
# Python imports this module when it starts. No file is known that crashes OpenJPEG, so here the width of a picture says
# how its decoder process ends: by a crash, by its limit of CPU time, which is shortened, or by being killed.
FAULTY = """
import os, resource, signal, sys, time

if "serve_decoding" in " ".join(sys.orig_argv):
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

    decode = Jpeg2KImageFile.load

    def load(image):
        if image.width == 41:
            os.kill(os.getpid(), signal.SIGSEGV)
        if image.width == 42:
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1, resource.RLIM_INFINITY))
            while True:
                pass
        if image.width == 43:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(image)

    Jpeg2KImageFile.load = load
"""
REJECTED = {  # by reason and URL, in the order of their widths
    ("corrupt", "file:crashes.jp2"): "its decoder crashed: SIGSEGV",
    ("timeout", "file:hangs.jp2"): "decoding took more than 60 s of CPU",
    ("too_large", "file:killed.jp2"): "its decoder was killed, perhaps for want of memory",
}


def ingested(cli: Cli, runner: str) -> str:
    """What `stoker show --rejected` prints of a folder of sound pictures and three that end their decoder."""
    photos, faulty = cli.folder / "photos", cli.folder / "faulty"
    photos.mkdir()
    faulty.mkdir()
    (faulty / "sitecustomize.py").write_text(FAULTY)
    cli.variables["PYTHONPATH"] = f"{faulty}:{cli.environment()['PYTHONPATH']}"
    for number in range(6):
        (photos / f"sound{number}.jp2").write_bytes(packed(picture(40, 40, seed=number), "JPEG2000"))
    for width, (_, url) in enumerate(REJECTED, 41):
        (photos / url.removeprefix("file:")).write_bytes(packed(picture(width, 40, seed=width), "JPEG2000"))
    (cli.folder / "photos.toml").write_text(RECIPE)
    done = cli("ingest", "photos.toml", "--runner", runner, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("photos@1: 6 samples")
    return cli("show", "photos", "--rejected").stdout


def processes_with(*words: bytes) -> list[str]:
    """The processes of this machine whose command line holds all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = path.read_bytes()
            found += [path.parent.name] if all(word in command for word in words) else []
    return found


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param("processes", marks=pytest.mark.nightly),
        pytest.param("ray", marks=[needs("prefect_ray"), pytest.mark.nightly]),
        pytest.param("dask", marks=needs("prefect_dask")),
    ],
)
def test_an_image_that_ends_its_decoder_is_rejected_as_on_threads(
    runner: str, served: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = Cli(tmp_path_factory.mktemp("plain"), dict(served.variables))
    rejected = ingested(served, runner)
    found = [line.split("\t") for line in rejected.splitlines() if line]
    assert {(reason, url): detail for reason, _, url, detail in found} == REJECTED
    assert ingested(plain, "threads") == rejected
    assert shards(served) == shards(plain)
    # Their commands hold the path that Python searches for modules.
    assert until(lambda: not processes_with(b"serve_decoding", str(served.folder).encode()))
