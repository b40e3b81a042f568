"""A folder of external tars; each kind of store."""

from pathlib import Path

import pytest

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from tests.storage.external_tars import numbered, put, tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tars of training and one of validation."""
    for number in range(3):
        put(tmp_path / "tars" / f"train-{number:03d}.tar", tar(numbered(number * 5, 5)))
    put(tmp_path / "tars" / "val-000.tar", tar(numbered(15, 2)))
    return tmp_path / "tars"


@pytest.fixture(params=["directory", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "store")
    found: Store = MemoryStore() if request.param == "memory" else request.getfixturevalue("s3_store")
    return found
