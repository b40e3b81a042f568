"""kill -9 of a training process at random moments: resumed, it ends with the weights of an undisturbed one."""

import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from stoker.storage import open_store
from stoker.training.run import checkpoint
from stoker.training.run.checkpoint import CheckpointInfo
from tests.training import corpora

SCRIPT = """
import json, sys
from pathlib import Path
from stoker.storage import open_store
from stoker.storage.versions.manifest import load_manifest
from stoker.training import train
wish = json.loads(sys.argv[1])
store = open_store(wish["store"])
folder = Path(wish["folder"])
train(
    store, load_manifest(store, "small"), wish["model"], wish["options"], resume=True, folder=folder,
    cache=folder / "cache", progress=lambda event: print(event.kind, event.step, flush=True),
)
"""
# checkpoint_s: so that most moments lie between two of them, and each process gets on.
COMMON: dict[str, Any] = {"batch_size": 16, "threads": 1, "workers": 2, "checkpoint_s": 0.1}
CNN = COMMON | {"width": 4, "pixels": 16, "epochs": 70}
LSTM = COMMON | {"hidden": 16, "embedding": 8, "window": 16, "layers": 2, "sample_length": 20, "epochs": 2}
EVENTS = 6  # start, step, checkpoint, evaluate and so on, at most, before a process is killed
LATEST_S = 0.12  # after the last of them


def command(folder: Path, model: str, options: dict[str, Any]) -> list[str]:
    wish = {"store": str(folder / "store"), "folder": str(folder / "runs"), "model": model, "options": options}
    return [sys.executable, "-c", SCRIPT, json.dumps(wish)]


def ended(folder: Path) -> tuple[CheckpointInfo, dict[str, torch.Tensor]]:
    """The last checkpoint of the only run that there is."""
    store = open_store(str(folder / "store"))
    runs = checkpoint.runs(store, "small")
    found = [checkpoint.newest(store, "small", run) for run in runs]
    done = [one for one in found if one is not None and one[0].done]
    assert len(done) == 1
    return done[0][0], done[0][1]["module"]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "options", "kills"), [("cnn", CNN, 20), ("lstm", LSTM, 3)])
def test_a_training_killed_at_random_moments_ends_with_the_same_weights(
    tmp_path: Path, model: str, options: dict[str, Any], kills: int
) -> None:
    samples = corpora.digits()[:200] if model == "cnn" else corpora.texts()[:16]
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        store = open_store(str(tmp_path / name / "store"))
        corpora.version(store, tmp_path, {"train": samples[:-5], "validation": samples[-5:]}, per_shard=40)
    subprocess.run(command(tmp_path / "calm", model, options), check=True, timeout=120, stdout=subprocess.DEVNULL)
    moments = random.Random(3)
    wish = command(tmp_path / "killed", model, options)
    steps = [killed(wish, moments.randint(1, EVENTS), moments.uniform(0, LATEST_S)) for _ in range(kills)]
    subprocess.run(command(tmp_path / "killed", model, options), check=True, timeout=120, stdout=subprocess.DEVNULL)
    (calm, expected), (mark, found) = ended(tmp_path / "calm"), ended(tmp_path / "killed")
    assert steps == sorted(steps)  # where each process began: none went back
    assert len(set(steps)) > kills / 2
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (mark.step, mark.metrics, mark.sample) == (calm.step, calm.metrics, calm.sample)
    assert all(math.isfinite(float(one.float().sum())) for one in found.values())


def killed(command: list[str], events: int, after_s: float) -> int:
    """The step that a process began at, which was killed so long after so many events."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        kind, step = process.stdout.readline().split()
        assert kind == "start"
        for _ in range(events - 1):
            assert process.stdout.readline()
        time.sleep(after_s)
        assert process.poll() is None, "it ended before it was killed: give it more to do"
    finally:
        process.kill()
        process.communicate(timeout=30)
    return int(step)
