"""The limits of a decoder process, and what it says and when."""

import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from stoker.pipelines.images.process.child import LENGTHS, lengths_of, start_of
from tests.conftest import HANGS_S

REPO = Path(__file__).resolve().parents[4]
_PROGRAM = """
from stoker.pipelines.images.process.child import serve

kept = []

def keep(task, payload):
    try:
        kept.append(bytearray(task["size"]))
    except MemoryError:
        return {"kept": False}, b""
    return {"kept": True}, payload

serve(keep, cpu_s=60, memory=100_000_000)
"""


def _result(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:  # Any: JSON
    head, content = lengths_of(pipe.read(LENGTHS))
    return json.loads(pipe.read(head)), pipe.read(content)


def test_each_task_may_take_so_many_bytes_more() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert _result(process.stdout) == ({}, b"")  # it is ready
    for size, is_kept in ((70_000_000, True), (70_000_000, True), (70_000_000, True), (130_000_000, False)):
        process.stdin.write(start_of({"size": size}, b"abc") + b"abc")
        process.stdin.flush()
        assert _result(process.stdout) == ({"kept": is_kept}, b"abc" if is_kept else b"")
    process.communicate(timeout=HANGS_S)
    assert process.returncode == 0
