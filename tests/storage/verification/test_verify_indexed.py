"""Verifying an indexed version reports tars and indexes that changed."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from stoker.storage import open_store
from stoker.storage.verification.verify import verify
from tests.storage.external_tars import indexed, put


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"train-000\.tar: is missing"),
        (lambda path: put(path, path.read_bytes()[:-512]), r"train-000\.tar: has \d+ bytes, but the manifest says"),
        (
            lambda path: put(path, path.read_bytes().replace(b"number 2", b"number 9")),
            r"train-000\.tar: sha256 .*it was written again or altered; `stoker index .*/tars --as theirs --again` m",
        ),
    ],
)
def test_verify_reports_a_tar_that_changed(folder: Path, damage: Any, message: str) -> None:
    manifest = indexed(folder).manifest
    damage(folder / "train-000.tar")
    (problem,) = verify(open_store(str(folder.parent / "store")), manifest).problems
    assert re.search(message, problem), problem


def test_verify_reports_an_index_of_another_tar(folder: Path) -> None:
    manifest = indexed(folder).manifest
    first, second, *rest = manifest.shards
    names = ("index", "index_size", "index_sha256")
    crossed = dataclasses.replace(first, **{name: getattr(second, name) for name in names})
    found = verify(
        open_store(str(folder.parent / "store")), dataclasses.replace(manifest, shards=(crossed, second, *rest))
    )
    assert any("says '000005' of the first sample, but the tar has '000000'" in one for one in found.problems)
