"""The old store, unpacked: in a folder, and in a real S3 server."""

import json
import secrets
import shutil
import tarfile
from pathlib import Path

import pytest

from stoker.flows.services import seaweed
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store
from tests.conftest import BUCKET
from tests.system.old_store.make import ARCHIVE, TARS

ELSEWHERE = "elsewhere/versions/00000001.json"  # names the folder of tars outside of the store


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of the archive; the one manifest that names a folder names that of the tars here."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    manifest = json.loads((folder / "store" / ELSEWHERE).read_bytes())
    manifest["tars"] = str(folder / TARS)
    (folder / "store" / ELSEWHERE).write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session", params=["directory", "s3"])
def store(request: pytest.FixtureRequest, unpacked: Path) -> Store:
    """The old store, to read only."""
    if request.param == "directory":
        return DirectoryStore(unpacked / "store")
    server = request.getfixturevalue("s3_server")
    assert isinstance(server, seaweed.Server)
    return filled(server, unpacked / "store", prefix=f"old-{secrets.token_hex(6)}")


@pytest.fixture(scope="session", params=["directory", "s3"])
def own_store(request: pytest.FixtureRequest, unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of the old store to write into: each test into another corpus."""
    if request.param == "directory":
        folder = tmp_path_factory.mktemp("own") / "store"
        shutil.copytree(unpacked / "store", folder)
        return DirectoryStore(folder)
    server = request.getfixturevalue("s3_server")
    assert isinstance(server, seaweed.Server)
    return filled(server, unpacked / "store", prefix=f"own-{secrets.token_hex(6)}")  # made again for each file of tests


def filled(server: seaweed.Server, folder: Path, *, prefix: str) -> S3Store:
    """The files of a folder as objects of the server."""
    made = S3Store(
        bucket=BUCKET,
        prefix=prefix,
        endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )
    for path in folder.rglob("*"):
        if path.is_file():
            made.create(path.relative_to(folder).as_posix(), path)
    return made
