"""Decoder processes: a crash or an endless decode loses one image; nobody is left behind."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped,unused-ignore]  # its stubs are not installed
import pytest
from PIL import Image

from stoker.pipelines.errors import DecoderUnavailable, SourceUnavailable
from stoker.pipelines.images import decoding
from stoker.pipelines.images.codec import decode, measures_of_image
from stoker.pipelines.images.process import pool
from stoker.pipelines.rejected import Rejected
from tests.conftest import HANGS_S
from tests.pipelines.pictures import packed, picture

REPO = Path(__file__).resolve().parents[4]
JP2 = packed(picture(60, 40), "JPEG2000")


@pytest.fixture(autouse=True)
def _no_processes() -> Iterator[None]:
    pool.end()
    decoding._cache.last = None
    yield
    pool.end()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "serve_decoding" in " ".join(child.cmdline())]


def _wait_for_end(pid: int, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < end
        time.sleep(0.05)


def _large() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (2500, 2500), np.uint8)
    return packed(Image.fromarray(noise), "JPEG2000")


def test_an_image_comes_out_of_a_process_as_it_would_here() -> None:
    found = decode(JP2)
    assert isinstance(found, Image.Image)
    assert found.tobytes() == picture(60, 40).tobytes()
    (first,) = children()
    assert decode(packed(picture(60, 40, seed=1), "JPEG2000")) is not None
    assert children() == [first]  # it is used again


_CRASHING = """
import os, sys, json
sys.path[:] = json.loads(sys.argv[1])
from stoker.pipelines.images.process.child import serve
serve(lambda task, payload: os.kill(os.getpid(), int(task["max_pixels"])), cpu_s=60, memory=1 << 30)
"""


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGSEGV, Rejected("corrupt", "its decoder crashed: SIGSEGV")),
        (signal.SIGKILL, Rejected("too_large", "its decoder was killed, perhaps for want of memory")),
    ],
)
def test_an_image_that_crashes_two_processes_is_lost_alone(
    number: signal.Signals, expected: Rejected, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_PROGRAM", _CRASHING)
        assert decode(JP2, max_pixels=number) == expected
    assert children() == []
    assert isinstance(decode(JP2), Image.Image)


def test_a_process_that_was_killed_while_it_waited_loses_no_image() -> None:
    measures_of_image(JP2)
    (child,) = children()
    child.kill()
    _wait_for_end(child.pid)
    assert isinstance(decode(packed(picture(60, 40, seed=2), "JPEG2000")), Image.Image)


def test_a_process_that_something_else_kills_at_work_loses_no_image() -> None:
    measures_of_image(JP2)
    (child,) = children()
    child.suspend()
    threading.Timer(0.3, child.kill).start()
    assert isinstance(decode(packed(picture(60, 40, seed=2), "JPEG2000")), Image.Image)


def test_a_machine_without_free_files_is_no_fault_of_the_image() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        with pytest.raises(DecoderUnavailable, match="Too many open files"):
            decode(JP2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert isinstance(decode(JP2), Image.Image)


def test_a_process_that_does_not_start_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PROGRAM", "raise SystemExit(3)")
    with pytest.raises(SourceUnavailable, match="it ended with exit code 3"):  # the one that is retried
        measures_of_image(JP2)


def test_a_process_imports_nothing_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "numpy", "stoker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(4)")
    monkeypatch.chdir(tmp_path)
    assert isinstance(decode(JP2), Image.Image)


def _wait_until_busy(child: psutil.Process) -> None:
    """Until a thread waits for a stopped process to take the rest of its task."""
    end = time.monotonic() + 100
    while not pool._pool._busy:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.3)


def test_a_fork_while_a_task_is_sent_goes_on() -> None:
    measures_of_image(JP2)
    (child,) = children()
    child.suspend()
    large = _large()
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(decode, large)
        _wait_until_busy(child)
        fork = multiprocessing.get_context("fork").Process(target=_decode_small)
        fork.start()
        fork.join(20)
        child.resume()
        assert fork.exitcode == 0
        assert isinstance(found.result(), Image.Image)


def _decode_small() -> None:
    assert isinstance(decode(JP2), Image.Image)


@pytest.mark.slow
def test_a_decode_that_takes_too_much_cpu_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CPU_S", 0)
    large = _large()
    for _ in range(10):  # processor time is counted in whole seconds, and one decode may take less
        decoding._cache.last = None
        found = decode(large)
        if isinstance(found, Rejected):
            break
    assert found == Rejected("timeout", "decoding took more than 0 s of CPU")


def test_a_decode_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    measures_of_image(JP2)
    (child,) = children()
    monkeypatch.setattr(pool, "WALL_S", 0.5)
    child.suspend()
    found = decode(packed(picture(60, 40, seed=2), "JPEG2000"))
    assert found == Rejected("timeout", "decoding took more than 0 s")
    assert children() == []


def test_a_process_that_does_not_take_its_task_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    large = _large()  # more than a pipe holds
    measures_of_image(JP2)
    (child,) = children()
    monkeypatch.setattr(pool, "WALL_S", 0.5)
    child.suspend()
    killer = threading.Timer(20, child.kill)
    killer.start()
    found = decode(large)
    killer.cancel()
    assert found == Rejected("timeout", "decoding took more than 0 s")
    assert children() == []


@pytest.mark.slow
def test_an_image_that_takes_too_much_memory_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MEMORY", 40_000_000)
    found = decode(_large())
    assert isinstance(found, Rejected)
    assert found.reason == "too_large"
    assert "more than 40 MB" in found.detail


def test_each_thread_may_have_a_process_and_gets_its_own_image() -> None:
    payloads = [packed(picture(60, 40, seed=seed), "JPEG2000") for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(decode, payloads))
    expected = [picture(60, 40, seed=seed).tobytes() for seed in range(12)]
    assert [image.tobytes() for image in found if isinstance(image, Image.Image)] == expected
    assert 1 <= len(children()) <= (os.cpu_count() or 1)


def _decode_in_worker(pipe: object) -> None:
    found = decode(JP2)
    pipe.send(isinstance(found, Image.Image))  # type: ignore[attr-defined]  # a connection


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_daemonic_worker_has_processes_of_its_own(method: str) -> None:
    decode(JP2)
    before = children()
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    worker = context.Process(  # type: ignore[attr-defined]  # every context has it
        target=_decode_in_worker, args=(theirs,), daemon=True
    )
    worker.start()
    assert ours.poll(60)
    assert ours.recv() is True
    worker.join()
    assert children() == before
    assert isinstance(decode(packed(picture(60, 40, seed=5), "JPEG2000")), Image.Image)


_PARENT = """
import sys, time
from tests.pipelines.images.process.test_pool import JP2, children
from stoker.pipelines.images.codec import decode
decode(JP2)
print(children()[0].pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, None])
def test_no_process_is_left_behind(number: signal.Signals | None) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    if number is not None:
        os.kill(parent.pid, number)
    _, errors = parent.communicate(timeout=HANGS_S)
    _wait_for_end(child)
    assert b"serve" not in errors
    assert number is not None or errors == b""


_TALKING = """
import os, sys, json
sys.path[:] = json.loads(sys.argv[1])
from stoker.pipelines.images.process.child import serve

def talk(task, payload):
    for number in range(50_000):
        print("line", number, "\\x1b[31m of a decoder", file=sys.stderr)
    if task["max_pixels"] == 1:
        raise ValueError("the last words\\x07")
    if task["max_pixels"] == 2:
        os.write(2, b"terminate called\\n")
        os.abort()
    return {"rejected": ["corrupt", "it spoke, and went on"]}, b""

serve(talk, cpu_s=60, memory=1 << 30)
"""


def test_the_last_lines_of_a_decoder_that_dies_are_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PROGRAM", _TALKING)
    found = decode(JP2, max_pixels=1)
    assert isinstance(found, Rejected)
    assert found.detail.startswith("its decoder crashed: exit code 1: ")
    assert found.detail.endswith("ValueError: the last words?")
    assert len(found.detail) < 400
    assert found.detail.isprintable()
    found = decode(JP2, max_pixels=2)
    assert isinstance(found, Rejected)
    assert found.detail.startswith("its decoder crashed: SIGABRT: ")
    assert found.detail.endswith("?[31m of a decoder / terminate called")


def test_a_decoder_that_writes_much_to_standard_error_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PROGRAM", _TALKING)
    assert decode(JP2, max_pixels=3) == Rejected("corrupt", "it spoke, and went on")


def test_a_process_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PROGRAM", "import a_module_that_is_not_there")
    with pytest.raises(DecoderUnavailable, match=r"exit code 1: .*No module named 'a_module_that_is_not_there'"):
        decode(JP2)
