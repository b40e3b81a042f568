"""The example of a plug-in works as its README says: its tests pass, and its recipe makes a version."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.versions.manifest import load_manifest
from tests.test_repository import REPO

PLUGIN = REPO / "examples" / "plugin"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the plug-in, installed into a folder ``installed`` beside it; building writes into the copy alone."""
    copy = tmp_path_factory.mktemp("examples") / "plugin"
    shutil.copytree(PLUGIN, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*"))
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(copy.parent / "installed")]
    run([sys.executable, "-m", "pip", "install", *offline, str(copy)], copy)
    return copy


def run(command: list[str], folder: Path) -> str:
    """What the command prints, with the plug-in beside the folder installed."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    environment = kept | {"PYTHONPATH": str(folder.parent / "installed"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_tests_of_the_plug_in_pass(plugin: Path) -> None:
    shown = run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"], plugin)
    assert " passed" in shown
    assert "skipped" not in shown


@pytest.mark.slow
def test_its_recipe_makes_a_version_with_its_source_its_step_and_its_rule(plugin: Path) -> None:
    run([sys.executable, "-m", "stoker", "ingest", "letters.toml"], plugin)
    store = DirectoryStore(plugin / ".stoker" / "store")
    manifest = load_manifest(store, "letters@1")
    assert (manifest.read, manifest.kept) == (9, 6)
    assert manifest.rejected == {"author_cap": 1, "bad_row": 1, "empty": 1}
    shards = b"".join(store.read(shard.key) for shard in manifest.shards)
    assert shards.count(b"<address>") == 3
    assert b"@example" not in shards
