"""SIGTERM at random moments: 143 within 10 s, one line that says how to resume, and a result of the same bytes."""

import hashlib
import importlib.util
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, until

pytestmark = pytest.mark.slow
WITHIN_S = 10.0  # what is promised
BUSY_WITHIN_S = 45.0  # where more than twice as many processes want to run as there are cores, an end takes longer
SEED = 20260401
LINES = [line for number in range(16) for line in (f"word-{number}", "wait 0.05", "reject robots")]
RECIPE = "[shards]\nsamples = 4\npartitions = 4\n"
TRAIN = ("train", "lstm", "words", "--resume", "--epochs", "10", "--batch-size", "2", "--threads", "1")
TINY = ("--device", "cpu", "--set", "hidden=8", "--set", "sample_length=20")


def cli_in(folder: Path, prefect_url: str) -> Cli:
    folder.mkdir()
    return Cli(folder, {"STOKER_PREFECT_URL": prefect_url, "STOKER_RETRY_S": "0.05"})


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[str, float]:
    """Send a signal to a process; its standard error, and the seconds until it ended."""
    sent = time.monotonic()
    os.kill(process.pid, number)
    process.wait(HANGS_S)
    took_s = time.monotonic() - sent
    return process.communicate(timeout=HANGS_S)[1], took_s


def is_orderly(process: subprocess.Popen[str], stderr: str, took_s: float) -> None:
    """The process ended as it should have: 143, or before Python ran a line of ours by the signal itself."""
    assert "Traceback" not in stderr, stderr
    busy = os.getloadavg()[0] > 2 * (os.cpu_count() or 1)
    assert took_s < (BUSY_WITHIN_S if busy else WITHIN_S), (took_s, stderr)
    assert process.returncode in (143, -signal.SIGTERM), (process.returncode, stderr)
    assert process.returncode == -signal.SIGTERM or stderr.splitlines()[-1].startswith("stoker: ended by SIGTERM; ")


def shas(cli: Cli) -> dict[str, str]:
    return {key: hashlib.sha256(payload).hexdigest() for key, payload in cli.objects().items() if "/shards/" in key}


def leases(cli: Cli) -> list[str]:
    return [key for key in cli.objects() if "/work/" in key]


def weights(cli: Cli) -> dict[str, Any]:
    """The weights of the finished run."""
    import torch

    infos = [json.loads(payload) for key, payload in cli.objects().items() if "/runs/" in key and key.endswith(".json")]
    key = next(info["key"] for info in infos if info.get("done"))
    loaded = torch.load(io.BytesIO(cli.objects()[key]), weights_only=True)
    assert isinstance(loaded, dict)
    return dict(loaded["module"])


def steps(cli: Cli) -> list[int]:
    """The steps of all checkpoints."""
    names = [key.rpartition("/")[2] for key in cli.objects() if "/runs/" in key and key.endswith(".json")]
    return sorted(int(name[:-5]) for name in names if name[:-5].isdecimal())


def moment(number: int, whole_s: float) -> float:
    """Seconds after the start of a run that takes that long, anywhere in it."""
    return random.Random(SEED + number).uniform(0.02, 0.8) * whole_s


def interrupted_at(cli: Cli, words: tuple[str, ...], after_s: float) -> bool:
    """Run a command and end it that long after its start; False if it had ended by itself."""
    process = cli.start(*words)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        stderr, took_s = ended(process)
        if process.returncode != 0:  # it had done everything when the signal came
            is_orderly(process, stderr, took_s)
            return True
    process.communicate(timeout=HANGS_S)
    return False


@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.nightly)])
def test_an_ingest_ended_at_random_moments_leaves_the_bytes_of_a_calm_one(
    count: int, tmp_path: Path, prefect_url: str
) -> None:
    calm = cli_in(tmp_path / "calm", prefect_url)
    started = time.monotonic()
    done = calm("ingest", calm.recipe(LINES, RECIPE))
    whole_s = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    number = hit = 0
    while number < count or not hit:
        if number % 5 == 0 or number >= count:
            cli = cli_in(tmp_path / f"round-{number}", prefect_url)
            recipe = cli.recipe(LINES, RECIPE)
        hit += interrupted_at(cli, ("ingest", recipe), moment(number, whole_s))
        assert leases(cli) == []
        if number % 5 == 4 or number >= count - 1:
            done = cli("ingest", recipe)
            assert done.returncode == 0, done.stderr
            assert shas(cli) == shas(calm)
        number += 1
        if number >= count:  # all came when a run had ended: the machine was busy when it was measured
            whole_s /= 2


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.nightly)])
def test_a_training_ended_at_random_moments_has_the_weights_of_a_calm_one(
    count: int, tmp_path: Path, prefect_url: str
) -> None:
    calm = cli_in(tmp_path / "calm", prefect_url)
    made = calm("ingest", calm.recipe([f"word-{number}" for number in range(120)], "[shards]\nsamples = 50\n"))
    assert made.returncode == 0, made.stderr
    shutil.copytree(calm.folder, tmp_path / "harmed")
    cli = Cli(tmp_path / "harmed", calm.variables)
    started = time.monotonic()
    assert calm(*TRAIN, *TINY).returncode == 0
    whole_s = time.monotonic() - started
    expected = weights(calm)
    number = hit = 0
    while number < count or not hit:
        before = steps(cli)
        hit += interrupted_at(cli, (*TRAIN, *TINY), moment(number, whole_s))
        assert steps(cli)[-1:] >= before[-1:]
        if number % 5 == 4 or number >= count - 1:
            done = cli(*TRAIN, *TINY)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("lstm-")  # -0001 was ended before its first step, if this is another
            found = weights(cli)
            assert all(found[name].equal(expected[name]) for name in expected)
            shutil.rmtree(cli.folder / ".stoker" / "store" / "words" / "runs")
        number += 1
        if number >= count:  # as above
            whole_s /= 2


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


@pytest.mark.parametrize("what", ["partition", "download", "store"])
def test_what_hangs_does_not_hold_the_end(what: str, served: Cli, deaf: socket.socket) -> None:
    address = f"127.0.0.1:{deaf.getsockname()[1]}"
    recipe = served.recipe(["a", "b", "wait 100"])
    if what == "download":
        (served.folder / "urls.txt").write_text(f"http://{address}/a.png\n")
        source = '[source]\nname = "image_urls"\nlists = ["urls.txt"]\n'
        (served.folder / recipe).write_text(f'corpus = "words"\n{source}')
        served.variables["STOKER_ALLOW_PRIVATE"] = "127.0.0.1"
    elif what == "store":
        served.variables |= {"STOKER_STORE": "s3://words", "STOKER_S3_ENDPOINT": f"http://{address}"}
        served.variables |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    process = served.start("ingest", recipe, "--workers", "2")
    if what == "partition":
        assert until(lambda: len(served.journal()) == 2, 60)
    else:
        connection, _ = deaf.accept()
        connection.recv(1)
    stderr, took_s = ended(process)
    is_orderly(process, stderr, took_s)
    assert leases(served) == []


def test_two_signals_at_once_are_one_request_and_a_later_one_ends_at_once(served: Cli) -> None:
    process = served.start("ingest", served.recipe(["a", "wait 100"]))
    assert until(served.journal, 60)
    for wait_s in (0.1, 1.5, 0.0):
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(wait_s)
        assert (process.poll() is None) == (wait_s > 0) or process.wait(HANGS_S) == 143
    assert "Traceback" not in process.communicate(timeout=HANGS_S)[1]
    assert process.returncode == 143


GOES_ON = """
import os, signal, sys, threading, time
from stoker.flows import signals

before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook, threading.excepthook
for number in (signal.SIGINT, signal.SIGTERM):
    try:
        with signals.handled(grace_s=0.2), signals.handled():
            os.kill(os.getpid(), number)
            time.sleep(5)
    except signals.Interrupted:
        assert signals.received() is None
now = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook, threading.excepthook
assert now == before
time.sleep(0.6)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except signals.Interrupted:
    print("ours")
except KeyboardInterrupt:
    print("goes on")
"""
ENDS = """
import os, signal, time
from stoker.flows import signals

try:
    with signals.handled(grace_s=0.2, until_exit=True):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
except signals.Interrupted:
    time.sleep(20)
"""
ENDING = """
import signal
from stoker.flows import signals

class Last:
    def __init__(self):
        self.end_now = signals.end_now

    def __del__(self):
        self.end_now(signal.SIGTERM)

last = Last()
"""


def run_program(program: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_S, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_program_that_handles_an_interrupt_goes_on() -> None:
    assert run_program(GOES_ON) == (0, "goes on\n", "")


def test_a_command_ends_after_its_time_wherever_it_is() -> None:
    assert run_program(ENDS) == (143, "", "stoker: ended by SIGTERM; the same command resumes\n")


def test_a_process_with_more_than_a_thousand_open_files_ends_after_its_time() -> None:
    many = """
import os, resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(2048, limits[1])), limits[1]))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
"""
    assert run_program(many + ENDS) == (143, "", "stoker: ended by SIGTERM; the same command resumes\n")


def test_the_end_is_reached_while_the_interpreter_shuts_down() -> None:
    assert run_program(ENDING) == (143, "", "stoker: ended by SIGTERM; the same command resumes\n")
