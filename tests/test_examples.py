"""The examples work as they say: the tests and the recipe of the plug-in, and the cells of the notebooks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.versions.manifest import load_manifest
from tests.conftest import HANGS_S
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
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANGS_S, check=False
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
    assert manifest.rejected == {"author_cap": 1, "empty": 1, "ragged_row": 1}
    shards = b"".join(store.read(shard.key) for shard in manifest.shards)
    assert shards.count(b"<address>") == 3
    assert b"@example" not in shards


NOTEBOOKS = sorted((REPO / "examples").glob("*.ipynb"))
TRAINS = "train_your_own_loop"  # imports torch
# The code cells in their order in one namespace, and what a notebook would show of the last expression of each.
RUN_CELLS = """
import ast, json, sys
for _cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if _cell["cell_type"] == "code":
        _tree = ast.parse("".join(_cell["source"]))
        _last = _tree.body.pop() if isinstance(_tree.body[-1], ast.Expr) else None
        exec(compile(_tree, _cell["id"], "exec"))
        if _last is not None:
            _value = eval(compile(ast.Expression(_last.value), _cell["id"], "eval"))
            print(_value._repr_html_() if hasattr(_value, "_repr_html_") else repr(_value))
"""


@pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem == TRAINS), id=path.stem) for path in NOTEBOOKS],
)
def test_the_cells_of_a_notebook_run_in_their_order(notebook: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPO), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", RUN_CELLS, str(notebook)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_there_are_notebooks_and_they_are_kept_without_outputs() -> None:
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
        assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
