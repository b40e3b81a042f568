"""A folder whose store has two corpora of digits and a run on one of them, made without Prefect."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.storage import open_store
from tests.flows.conftest import Cli
from tests.training import corpora

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """`digits@1` with run cnn-0001, and `others@1`, some of whose classes the run does not know."""
    from stoker.training.run.train import train

    folder = tmp_path_factory.mktemp("trained")
    store = open_store(str(folder / ".stoker" / "store"))
    samples = corpora.digits()
    splits = {"train": samples[:150], "validation": samples[150:200]}
    manifest = corpora.version(store, folder, splits, corpus="digits")
    strange = [replace(one, record={"label": f"x{one.record['label']}"}) for one in samples[220:230]]
    corpora.version(store, folder, {"test": [*samples[200:220], *strange]}, corpus="others")
    options = {"width": 4, "pixels": 16, "epochs": 1, "batch_size": 16, "threads": 1, "device": "cpu"}
    train(store, manifest, "cnn", options, folder=Path(folder, "runs"), cache=Path(folder, "cache"))
    return Cli(folder)
