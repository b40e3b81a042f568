"""What importing loads: little, and in no case what another layer owns."""

import graphlib
import os
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import stoker

REPO = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "prefect",
    "pyarrow",
    "numpy",
    "boto3",
    "av",
    "datasets",
    "PIL",
    "httpx",
    "fastapi",
    "ray",
    "webdataset",
    "duckdb",
)


def loaded(code: str) -> set[str]:
    """The top-level modules that are loaded after the code ran in a process of its own."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", script]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_importing_stoker_loads_nothing_heavy() -> None:
    assert loaded("import stoker").isdisjoint(HEAVY)


def test_every_public_name_is_there() -> None:
    assert sorted(stoker.__all__) == sorted(name for name in stoker.__all__ if getattr(stoker, name) is not None)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Shards'"):
        _ = stoker.Shards


def test_storage_loads_neither_torch_nor_what_fetches_and_decodes() -> None:
    forbidden = {"torch", "prefect", "av", "datasets", "PIL", "httpx", "fastapi", "webdataset"}
    assert loaded(
        "import stoker.storage, stoker.storage.versions.manifest, stoker.storage.verification.verify"
    ).isdisjoint(forbidden)


def test_a_recipe_is_checked_without_torch_and_prefect() -> None:
    assert loaded("import stoker.pipelines.recipe").isdisjoint({"torch", "prefect", "fastapi", "webdataset", "ray"})


def test_duckdb_is_imported_by_the_first_query_alone() -> None:
    """Whoever ingests, shows or trains without a rule that asks in SQL does not wait for it."""
    flow = "import stoker.flows.ingest, stoker.pipelines.stages.curate, stoker.testing.deciding, stoker.training"
    assert "duckdb" not in loaded(flow)
    query = "SELECT key FROM t ORDER BY key', {'t': pa.table({'key': ['a']})}, {}, folder=pathlib.Path()"
    asks = f"import pathlib, pyarrow as pa; from stoker.pipelines.tables.deciding.sql import select; select('{query})"
    assert "duckdb" in loaded(asks)


def test_the_command_line_starts_light_and_at_once() -> None:
    stoker_ = [sys.executable, "-m", "stoker.flows.cli.cli", "--help"]
    times = []
    for _ in range(3):
        begun = os.times()
        found = subprocess.run(stoker_, capture_output=True, text=True, check=True)
        ended = os.times()  # of the CPU: a busy machine makes others wait
        times.append(ended.children_user + ended.children_system - begun.children_user - begun.children_system)
    assert "ingest" in found.stdout
    assert min(times) < 0.5
    assert loaded("import stoker.flows.cli.cli").isdisjoint({"torch", "prefect", "pyarrow", "boto3", "fastapi", "av"})


def test_the_layers_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    found = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Lazy imports count too: whoever reads the modules meets the circle all the same."""
    graph = grimp.build_graph("stoker", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    sorter = graphlib.TopologicalSorter(imports)
    sorter.prepare()  # raises CycleError, which names the modules
    assert sorter.is_active()


def test_nothing_unpacks_an_archive() -> None:
    """Members of tars are read from memory by their offsets: a member's name is never the name of a file."""
    unpackers = ("import tarfile", "import zipfile", "from tarfile", "from zipfile", "extractall", "unpack_archive")
    texts = {path: path.read_text(encoding="utf-8") for path in (REPO / "stoker").rglob("*.py")}
    assert [str(path) for path, text in texts.items() if any(unpacker in text for unpacker in unpackers)] == []
