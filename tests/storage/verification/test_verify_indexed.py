"""Verifying an indexed version reports tars and indexes that changed."""

import dataclasses
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.storage import open_store
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import load_manifest, publish
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


def flip(payload: bytes) -> bytes:
    return payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]


def older(payload: bytes) -> bytes:
    """A marker of a release that gave it no checksum, of another tar."""
    content = json.loads(payload)
    del content["checksum"]
    content["shard"]["sha256"] = "0" * 64
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (flip, "is no(t its tar's marker| JSON)"),
        (lambda payload: b"[]", "is no JSON object"),
        (lambda payload: payload[:-9], "is no JSON"),
        (older, "does not say of its tar what the manifest says"),
    ],
)
def test_verify_reports_a_tars_marker(folder: Path, harm: Any, message: str) -> None:
    store, manifest = open_store(str(folder.parent / "store")), indexed(folder).manifest
    markers = [layout.group("theirs", shard.group) for shard in manifest.shards]
    store.write(markers[1], harm(store.read(markers[1])))
    (problem,) = verify(store, manifest).problems
    assert re.match(f"{markers[1]}: {message}", problem), problem
    store.delete(markers[1])
    store.write(markers[1], store.read(markers[2]))
    (problem,) = verify(store, manifest).problems
    assert problem == f"{markers[1]}: is not its tar's marker (it is of another tar)"
    assert (indexed(folder).new, verify(store, manifest).problems) == (False, ())  # it is written again


def test_verify_reports_decisions(folder: Path) -> None:
    store, manifest = open_store(str(folder.parent / "store")), indexed(folder).manifest
    key = manifest.decisions.key
    whole = store.read(key)
    store.write(key, flip(whole))
    assert [problem.partition(" sha256")[0] for problem in verify(store, manifest).problems] == [f"{key}:"]
    store.delete(key)
    assert verify(store, manifest).problems == (f"{key}: is missing",)


def test_verify_reports_a_manifest_that_cannot_be(folder: Path) -> None:
    store, manifest = open_store(str(folder.parent / "store")), indexed(folder).manifest
    altered = dataclasses.replace(manifest, created_at="2999-01-01T00:00:00+00:00", parent=7)
    problems = verify(store, altered).problems
    assert {problem.partition(":")[0] for problem in problems} == {"theirs@1"}
    assert any("which cannot be" in problem for problem in problems)


def test_verify_reports_a_recipe_that_is_not_of_its_digest(folder: Path) -> None:
    store = MemoryStore()
    manifest = indexed(folder, store).manifest
    assert verify(store, manifest).problems == ()
    other = replace(manifest, version=2, parent=1, recipe={"corpus": "theirs", "source": {"name": "mine"}})
    publish(store, other)
    found = verify(store, load_manifest(store, "theirs", 2))
    assert "theirs@2: its recipe is another one than its recipe_digest says" in found.problems


def test_an_older_version_may_have_the_marker_of_a_tar_that_was_read_again(folder: Path) -> None:
    store, first = open_store(str(folder.parent / "store")), indexed(folder).manifest
    path = folder / "train-000.tar"
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b"number 2", b"number 9"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = indexed(folder, again=True).manifest
    assert second.version == 2
    assert {problem.partition(":")[0] for problem in verify(store, first).problems} == {"train-000.tar"}
    assert verify(store, second).problems == ()


def test_verify_reports_an_index_of_another_tar(folder: Path) -> None:
    manifest = indexed(folder).manifest
    first, second, *rest = manifest.shards
    names = ("index", "index_size", "index_sha256")
    crossed = dataclasses.replace(first, **{name: getattr(second, name) for name in names})
    found = verify(
        open_store(str(folder.parent / "store")), dataclasses.replace(manifest, shards=(crossed, second, *rest))
    )
    assert any("says '000005' of the first sample, but the tar has '000000'" in one for one in found.problems)
