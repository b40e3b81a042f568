"""A run learns, is resumed bit for bit, also after kill -9, and stops when the loss is not finite."""

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
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.checkpoint import CheckpointInfo
from stoker.training.run.train import Event
from tests.conftest import HANGS_S
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, Interrupt, after, equal, run, weights


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("cnn", CNN),
        ("cnn", CNN | {"net": "lenet5", "pixels": 28, "optimiser": "rmsprop", "learning_rate": 0.001}),
        ("cnn", CNN | {"separable": True, "activation": "gelu", "optimiser": "adam"}),
        (
            "cnn",
            CNN | {"batch_norm": False, "initialisation": "orthogonal", "optimiser": "nesterov", "learning_rate": 0.01},
        ),
    ],
    ids=["resnet", "lenet5", "separable", "plain sgd"],
)
def test_ten_steps_on_eight_samples_lower_the_loss(tmp_path: Path, model: str, values: dict[str, Any]) -> None:
    store = MemoryStore()
    eight = corpora.digits()[:8]
    manifest = corpora.version(store, tmp_path, {"train": eight, "validation": eight})
    losses = []
    result = run(
        Small(store, manifest, tmp_path),
        model,
        values | {"epochs": 10, "batch_size": 8, "shift": 0, "schedule": "constant", "warmup": 0},
        progress=lambda event: losses.append(event.metrics["loss"]) if event.kind == "evaluate" else None,
    )
    assert result.step == 10
    assert losses[-1] < losses[0]


def test_an_lstm_learns_and_writes(handbook: Small) -> None:
    events: list[Event] = []
    result = run(handbook, "lstm", LSTM | {"epochs": 2}, progress=events.append)
    bits = [event.metrics["bits_per_byte"] for event in events if event.kind == "evaluate"]
    assert bits[-1] < bits[0] < 8
    assert len(result.sample) > 5
    assert events[0].kind == "start"
    assert events[-1].kind == "end"


@pytest.mark.parametrize(("model", "values"), [("cnn", CNN), ("lstm", LSTM)])
def test_a_run_stopped_twice_ends_with_the_weights_of_an_undisturbed_one(
    digits: Small, handbook: Small, model: str, values: dict[str, Any]
) -> None:
    small = digits if model == "cnn" else handbook
    whole = run(small, model, values)
    first = run(small, model, values, stop=after(3))
    assert (first.stopped, first.step) == (True, 3)
    # A new run: without ``resume`` the finished one is left alone.
    assert first.run != whole.run
    second = run(small, model, values, resume=True, stop=after(5))
    assert (second.run, second.resumed_at, second.step) == (first.run, 3, 8)
    third = run(small, model, values, resume=True)
    assert (third.run, third.stopped, third.step) == (first.run, False, whole.step)
    assert equal(weights(small, whole.run), weights(small, third.run))
    assert third.metrics == whole.metrics
    assert third.sample == whole.sample


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_interrupted_in_every_wait_and_evaluation_ends_with_the_same_weights(
    digits: Small, late: bool, workers: int
) -> None:
    values = CNN | {"workers": workers}
    whole = run(digits, "cnn", values)
    steps, name, resume = list[int](), "", False
    # The first use is the building of all parts. Ten steps are an epoch: the others are steps 1 and 4, the end of an
    # epoch, its evaluation, the first step after it, the end of the last epoch, its evaluation, and none.
    for use in (2, 5, 9, 2, 3, 12, 2, 99):
        interrupt = Interrupt(use, late)
        result = run(digits, "cnn", values, resume=resume, stop=interrupt.stop, interrupts=interrupt)
        name, resume = name or result.run, True
        assert result.run == name
        if not result.stopped:
            break
        steps.append(result.step)
    assert steps == [0, 3, 10, 10, 10, 20, 20]
    assert result.step == whole.step
    assert equal(weights(digits, whole.run), weights(digits, name))
    assert result.metrics == whole.metrics
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "evaluate"] == [10, 20]


def test_an_interrupt_that_nobody_asked_for_is_one(digits: Small) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(digits, "cnn", CNN, interrupts=Interrupt(4, late=False))


def test_a_loss_that_is_not_finite_stops_the_run(digits: Small) -> None:
    wild = CNN | {"optimiser": "sgd", "learning_rate": 1e30, "clip": 0, "warmup": 0, "batch_norm": False}
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+ of 20"):
        run(digits, "cnn", wild)


SCRIPT = """
import json, sys
from pathlib import Path
from stoker.storage import open_store
from stoker.storage.versions.manifest import load_manifest
from stoker.training import train
arguments = json.loads(sys.argv[1])
store = open_store(arguments["store"])
folder = Path(arguments["folder"])
train(
    store, load_manifest(store, "small"), arguments["model"], arguments["options"], resume=True, folder=folder,
    cache=folder / "cache", progress=lambda event: print(event.kind, event.step, flush=True),
)
"""
# checkpoint_s is short, so that each process gets further, and most kills fall between two checkpoints.
COMMON: dict[str, Any] = {"batch_size": 16, "threads": 1, "workers": 2, "checkpoint_s": 0.1}
KILLED_CNN = COMMON | {"width": 4, "pixels": 16, "epochs": 70}
KILLED_LSTM = COMMON | {"hidden": 16, "embedding": 8, "window": 16, "layers": 2, "sample_length": 20, "epochs": 2}
EVENTS = 6  # step, checkpoint, evaluate and so on, at most, before a process is killed, and one checkpoint at least
LATEST_S = 0.12  # after the last of them


def command(folder: Path, model: str, options: dict[str, Any]) -> list[str]:
    arguments = {"store": str(folder / "store"), "folder": str(folder / "runs"), "model": model, "options": options}
    return [sys.executable, "-c", SCRIPT, json.dumps(arguments)]


def ended(folder: Path) -> tuple[CheckpointInfo, dict[str, torch.Tensor]]:
    """The last checkpoint of the only run that there is."""
    store = open_store(str(folder / "store"))
    runs = checkpoints.runs(store, "small")
    newest = [checkpoints.newest(store, "small", run) for run in runs]
    (done,) = [checkpoint for checkpoint in newest if checkpoint is not None and checkpoint.info.done]
    return done.info, done.state["module"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options", "kills"),
    [
        ("cnn", KILLED_CNN | {"epochs": 25}, 2),
        pytest.param("cnn", KILLED_CNN, 20, marks=pytest.mark.nightly),
        ("lstm", KILLED_LSTM, 1),
    ],
)
def test_a_training_killed_at_random_moments_ends_with_the_same_weights(
    tmp_path: Path, model: str, options: dict[str, Any], kills: int
) -> None:
    samples = corpora.digits()[:200] if model == "cnn" else corpora.texts()[:16]
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        store = open_store(str(tmp_path / name / "store"))
        corpora.version(store, tmp_path, {"train": samples[:-5], "validation": samples[-5:]}, per_shard=40)
    subprocess.run(command(tmp_path / "calm", model, options), check=True, timeout=HANGS_S, stdout=subprocess.DEVNULL)
    moments = random.Random(3)
    killed_command = command(tmp_path / "killed", model, options)
    steps = [killed(killed_command, moments.randint(1, EVENTS), moments.uniform(0, LATEST_S)) for _ in range(kills)]
    subprocess.run(command(tmp_path / "killed", model, options), check=True, timeout=HANGS_S, stdout=subprocess.DEVNULL)
    (calm, expected), (info, weights) = ended(tmp_path / "calm"), ended(tmp_path / "killed")
    assert steps == sorted(steps)  # where each process began: none went back
    assert len(set(steps)) == kills  # each process got further
    assert expected.keys() == weights.keys()
    assert all(torch.equal(expected[name], weights[name]) for name in expected)
    assert (info.step, info.metrics, info.sample) == (calm.step, calm.metrics, calm.sample)
    assert all(math.isfinite(float(tensor.float().sum())) for tensor in weights.values())


def killed(command: list[str], events: int, after_s: float) -> int:
    """Kill a process so long after so many events; the step that it began at."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        kind, step = process.stdout.readline().split()
        if kind == "new":
            kind, step = process.stdout.readline().split()
        assert kind == "start"
        kinds: list[str] = []
        while len(kinds) < events or "checkpoint" not in kinds:
            line = process.stdout.readline()
            assert line
            kinds.append(line.split()[0])
        time.sleep(after_s)
        assert process.poll() is None, "it ended before it was killed: give it more to do"
    finally:
        process.kill()
        process.communicate(timeout=HANGS_S)
    return int(step)


@pytest.mark.parametrize(
    "values",
    [
        {"net": "plain", "norm": "none", "initialisation": "lsuv"},
        {"net": "mlp", "norm": "none", "activation": "sigmoid", "initialisation": "orthogonal", "pretrain": "rbm"},
    ],
    ids=["lsuv", "pretraining"],
)
def test_weights_are_set_by_the_first_batches_once_and_a_resumed_run_goes_on_from_them(
    digits: Small, values: dict[str, Any]
) -> None:
    values = CNN | {"epochs": 1, "depth": 4} | values
    still = values | {"learning_rate": 1e-12, "max_steps": 1}
    drawn = run(digits, "cnn", still | {"initialisation": "orthogonal", "pretrain": "none"})
    first = next(name for name in weights(digits, drawn.run) if name.endswith("weight"))
    set_by_data = run(digits, "cnn", still)
    assert not torch.allclose(weights(digits, set_by_data.run)[first], weights(digits, drawn.run)[first])
    stopped = run(digits, "cnn", values, stop=after(4))
    resumed = run(digits, "cnn", values, resume=True)
    assert (resumed.run, resumed.resumed_at) == (stopped.run, 4)
    whole = run(digits, "cnn", values)
    assert equal(weights(digits, resumed.run), weights(digits, whole.run))
