"""A mapped file that another process truncates: the file is named, and the process goes on where its owner looks."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stoker.storage.shards import mapped
from stoker.storage.shards.mapped import map_file

SIZE = 300_000


def map_path(path: Path, lost: list[str] | None) -> memoryview:
    with path.open("rb") as file:
        return map_file(file.fileno(), f"file://{path}", lost)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * SIZE)
    return path


def test_a_file_is_mapped_as_long_as_a_view_is_held(path: Path) -> None:
    view = map_path(path, [])
    part = view[7:9]
    del view
    path.unlink()
    assert bytes(part) == b"xx"
    names = [mapping.name for mapping in mapped._mappings]
    assert f"file://{path}" in names or not mapped._SUPPORTED
    del part
    assert f"file://{path}" not in [mapping.name for mapping in mapped._mappings]


def test_an_empty_file_is_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert bytes(map_path(tmp_path / "empty", None)) == b""


@pytest.mark.skipif(not mapped._SUPPORTED, reason="the handler is for Linux")
@pytest.mark.parametrize("in_thread", [False, True])
def test_bytes_that_are_gone_are_zeros_and_the_file_is_named(
    path: Path, in_thread: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    lost: list[str] = []
    view, intact = map_path(path, lost), map_path(path, None)
    os.truncate(path, 2 * 4096)
    read: list[bytes] = []

    def use() -> None:
        hashlib.sha256(view).digest()  # without the interpreter's lock
        read.append(bytes(view))

    thread = threading.Thread(target=use)
    if in_thread:
        thread.start()
        thread.join()
    else:
        use()
    assert read[0].rstrip(b"\0") == b"x" * 2 * 4096
    assert len(read[0]) == SIZE
    assert lost == [f"file://{path}"]
    assert f"stoker: file://{path}: bytes were lost while it was read" in capfd.readouterr().err
    assert bytes(intact[:4096]) == b"x" * 4096


@pytest.mark.skipif(not mapped._SUPPORTED, reason="the handler is for Linux")
def test_where_nobody_looks_the_process_ends_and_the_file_is_named(path: Path) -> None:
    code = (
        "import os, sys\nfrom stoker.storage.shards.mapped import map_file\n"
        "with open(sys.argv[1], 'rb') as file: view = map_file(file.fileno(), sys.argv[1])\n"
        "os.truncate(sys.argv[1], 0)\nprint(bytes(view)[:1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert done.stdout == ""
    assert f"stoker: {path}: bytes were lost while it was read, as if cut off; this process ends" in done.stderr
