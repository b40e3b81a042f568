"""Ctrl-C while a checkpoint waits for a store that is gone: the process ends soon, and the last checkpoint is whole."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.flows.services import seaweed
from stoker.storage.stores.s3 import S3Store
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.train import train
from tests.conftest import HANGS_S
from tests.storage.faulty import faulty
from tests.training import corpora
from tests.training.run.small_runs import CNN, after

pytestmark = pytest.mark.slow

OPTIONS = {**CNN, "epochs": 1000, "checkpoint_s": 0.05, "device": "cpu"}
PROGRAM = """
import json, os, sys
from pathlib import Path
from stoker.storage import open_store
from stoker.storage.versions.manifest import load_manifest
from stoker.training.run.train import train

url, endpoint, folder, options = sys.argv[1:]
store = open_store(url, endpoint=endpoint, access_key=os.environ["KEY"], secret_key=os.environ["SECRET"])


def progress(event):
    if event.kind == "checkpoint":
        print(event.step, flush=True)


train(store, load_manifest(store, "small"), "cnn", json.loads(options), folder=Path(folder, "runs"),
      cache=Path(folder, "cache"), progress=progress)
"""


@pytest.mark.parametrize(
    "fault",
    [pytest.param("stall", marks=pytest.mark.nightly), "refuse", pytest.param("hang up", marks=pytest.mark.nightly)],
)
def test_an_interrupt_while_a_checkpoint_waits_ends_the_process_and_the_run_goes_on(
    s3_server: seaweed.Server, s3_store: S3Store, tmp_path: Path, fault: str
) -> None:
    splits = {"train": corpora.digits()[:64], "validation": corpora.digits()[64:96]}
    manifest = corpora.version(s3_store, tmp_path, splits)
    environment = {**os.environ, "KEY": s3_server.access_key, "SECRET": s3_server.secret_key}
    with faulty(int(s3_server.endpoint.rpartition(":")[2])) as network:
        words = [s3_store.url, network.endpoint, str(tmp_path), json.dumps(OPTIONS)]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            steps = [int(process.stdout.readline()) for _ in range(3)]
            network.always = fault  # type: ignore[assignment]  # it is one of them
            before, until = len(network.requests), time.monotonic() + HANGS_S
            while len(network.requests) < before + 3 - 2 * (fault == "stall") and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            stdout, stderr = process.communicate(timeout=HANGS_S)
            assert time.monotonic() - started < 100, "the store is waited for 300 s"
        finally:
            process.kill()
            process.wait()
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in stderr
    steps += [int(line) for line in stdout.split()]
    newest = checkpoints.newest(s3_store, "small", "cnn-0001")
    assert newest is not None
    assert newest.info.step >= steps[-1]
    quiet = {"folder": tmp_path / "runs", "cache": tmp_path / "cache", "stop": after(2)}
    result = train(replace(s3_store), manifest, "cnn", OPTIONS, resume=True, **quiet)  # type: ignore[arg-type]  # a path, a function
    assert (result.run, result.resumed_at) == ("cnn-0001", newest.info.step)
