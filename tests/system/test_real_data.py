"""The same commands on real photographs, films and Wikipedia pages: nothing lost, nothing hangs, every reason right."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stoker.storage import open_store
from stoker.storage.shards import records
from stoker.storage.versions.manifest import load_manifest
from tests.conftest import HANGS_S
from tests.data import SHARED, needs_shared
from tests.flows.conftest import Cli

pytestmark = [pytest.mark.slow, needs_shared]

RECIPE = """
corpus = "real"
[source]
{source}
{steps}
[[rules]]
name = "exact_duplicates"
[[rules]]
name = "{near}"
[[rules]]
name = "leak_free_split"
[provenance]
licence = "CC-BY-SA-4.0"
"""
IMAGES = '[[steps]]\nname = "image"\nmode = "long_side"\nsize = 256\nonly_if_larger = true\n'
TEXTS = '[[steps]]\nname = "text_normalise"\n[[steps]]\nname = "text_length"\nmin_characters = 100\n'


def ingest(cli: Cli, source: str, steps: str, near: str) -> tuple[dict[str, Any], Counter[str], Counter[str]]:
    """What `show --json` says, and the fates of all candidates by the name in their URL: "" is kept."""
    (cli.folder / "real.toml").write_text(RECIPE.format(source=source, steps=steps, near=near))
    done = cli("ingest", "real.toml", "--trust", timeout=HANGS_S)  # the files lie outside of the recipe's folder
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    store = open_store(str(cli.folder / ".stoker" / "store"))
    manifest = load_manifest(store, "real")
    assert all(part.read == part.kept + sum(part.rejected.values()) for part in manifest.parts)
    assert manifest.read == manifest.kept + sum(manifest.rejected.values())
    assert manifest.kept == manifest.samples
    reasons: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for part in manifest.parts:
        for row in records.decode(store.read(part.records)).to_pylist():
            name = Path((row.get("url") or row["key"]).removeprefix("file:")).name
            names[name] += 1
            reasons[f"{name}:{row['reason'] or 'kept'}"] += 1
    assert cli("verify", "real").returncode == 0
    shown = cli("show", "real", "--json")
    assert shown.returncode == 0
    found: dict[str, Any] = json.loads(shown.stdout)
    return found, reasons, names


def test_every_photograph_is_kept_or_refused_with_its_reason(served: Cli) -> None:
    assert SHARED is not None
    source = f'name = "local_files"\nfiles = "{SHARED}/photos/*"'
    _, reasons, names = ingest(served, source, IMAGES, "near_duplicate_images")
    files = [path.name for path in (SHARED / "photos").iterdir() if path.is_file()]
    assert sum(names.values()) == len(files)
    kept = sum(count for name, count in reasons.items() if name.endswith(":kept"))
    assert kept > 100
    assert reasons["imageio_chelsea.jpg:kept"] == 1
    assert reasons["imageio_chelsea.jxl:kept"] == 1


def test_every_video_gives_frames_or_a_reason(served: Cli) -> None:
    assert SHARED is not None
    source = f'name = "video_frames"\nvideos = "{SHARED}/videos/*"\nframes_per_second = 1\nshort_side = 128'
    _, reasons, names = ingest(served, source, "", "near_duplicate_images")
    videos = {path.name for path in (SHARED / "videos").iterdir() if path.is_file()}
    assert videos <= set(names)
    assert reasons["bad_zero_byte.mp4:empty"] == 1
    assert reasons["bad_text_as.mp4:not_a_video"] == 1
    assert reasons["mdn_rabbit.mp4:kept"] > 3


def test_wikipedia_pages_become_texts(served: Cli) -> None:
    assert SHARED is not None
    source = f'name = "wikipedia_dump"\ndump = "{SHARED}/wiki/enwiki-latest-*.bz2"'
    found, reasons, names = ingest(served, source, TEXTS, "near_duplicate_texts")
    assert sum(names.values()) == 206
    fates = Counter(name.rpartition(":")[2] for name in reasons.elements())
    assert fates == {"kept": 106, "redirect": 99, "namespace": 1}  # one of the 100 redirects is no article's
    assert json.dumps(found).count("CC-BY-SA") >= 1


@pytest.mark.nightly
def test_an_lstm_predicts_wikipedia_better_than_n_grams_of_any_length(served: Cli) -> None:
    assert SHARED is not None
    source = f'name = "wikipedia_dump"\ndump = "{SHARED}/wiki/enwiki-latest-*.bz2"'
    ingest(served, source, TEXTS + "[splits]\ntrain = 85\nvalidation = 15\n", "near_duplicate_texts")
    done = served("study", "real", "--only", "counts", "--seeds", "1", "--workers", "1", "--json", timeout=3600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["about"]["data"]["copied"] < 0.02
    assert {claim["name"]: claim["verdict"] for claim in found["claims"]}["counts"] == "held"
