"""A folder of external tars."""

from pathlib import Path

import pytest

from tests.storage.external_tars import numbered, put, tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tars of training and one of validation."""
    for number in range(3):
        put(tmp_path / "tars" / f"train-{number:03d}.tar", tar(numbered(number * 5, 5)))
    put(tmp_path / "tars" / "val-000.tar", tar(numbered(15, 2)))
    return tmp_path / "tars"
