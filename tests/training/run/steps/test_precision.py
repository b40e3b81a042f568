"""Precision, memory format, compiling and fused optimisers: what is not possible is said or refused."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stoker.training.errors import TrainingError
from stoker.training.run.optimisers import build_optimiser, load_optimiser
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.precision import Compiled, precision_of
from stoker.training.run.train import Event
from tests.conftest import HANGS_S
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, equal, run, weights

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("cnn", CNN | {"precision": "bfloat16", "channels_last": True}),
        ("cnn", CNN | {"precision": "float16"}),
        ("cnn", CNN | {"precision": "float16", "clip": 0, "accumulate": 2}),
        ("lstm", LSTM | {"precision": "bfloat16"}),
    ],
)
def test_a_run_of_less_precision_learns_nearly_the_same(
    digits: Small, handbook: Small, model: str, values: dict[str, Any]
) -> None:
    small = digits if model == "cnn" else handbook
    exact = run(small, model, values | {"precision": "float32", "channels_last": False})
    result = run(small, model, values)
    assert result.metrics["loss"] == pytest.approx(exact.metrics["loss"], rel=0.05)
    assert not equal(weights(small, exact.run), weights(small, result.run))
    assert all(
        tensor.dtype is torch.float32 for tensor in weights(small, result.run).values() if tensor.is_floating_point()
    )


def test_a_float16_gradient_that_overflows_makes_the_scale_smaller_and_is_no_error(digits: Small) -> None:
    module = nn.Linear(3, 1)
    precision = precision_of(TrainOptions(precision="float16"), module, CPU)
    assert precision.scaler is not None
    precision.load_state_dict(precision.state_dict() | {"scale": 2.0**40})
    assert precision.state_dict()["scale"] == 2.0**40
    with precision.autocast():
        assert module(torch.ones(1, 3)).dtype is torch.float16


def test_a_cpu_has_no_float16_lstm(handbook: Small) -> None:
    with pytest.raises(TrainingError, match=r"precision float16: .* take bfloat16"):
        run(handbook, "lstm", LSTM | {"precision": "float16"})


def test_networks_with_recurrent_layers_are_not_compiled_and_it_is_said_once(handbook: Small) -> None:
    events: list[Event] = []
    compiled = run(handbook, "lstm", LSTM | {"compile": True}, progress=events.append)
    notes = [note for event in events if event.kind == "note" for note in event.notes]
    assert notes == ["compile: not used, since the network has recurrent layers, which it does not help"]
    assert equal(weights(handbook, compiled.run), weights(handbook, run(handbook, "lstm", LSTM).run))


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from stoker.testing import sample_corpus
from stoker.training import train
store, manifest = sample_corpus(200, kind="images")
manifest = replace(manifest, shards=(manifest.shards[0], replace(manifest.shards[1], split="validation")))
options = {"pixels": 8, "width": 2, "max_steps": 2, "batch_size": 50, "workers": 0, "device": "cpu", "compile": True}
folder = Path(sys.argv[1])
for resume, answers in ((False, [False, True]), (True, [])):  # stopped before the evaluation
    train(store, manifest, "cnn", options, folder=folder, cache=folder / "cache", resume=resume,
          stop=lambda: bool(answers) and answers.pop(0),
          progress=lambda event: event.kind in ("note", "evaluate", "end") and print(event.kind, *event.notes))
"""


def test_a_network_that_cannot_be_compiled_computes_as_it_is_and_it_is_said_once(tmp_path: Path) -> None:
    missing = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | missing, capture_output=True, text=True, timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    note, *others = done.stdout.splitlines()
    assert note.startswith("note compile: not used, since it fails here: ")
    assert others == ["end", "evaluate", "end"]  # the evaluation compiles nothing


@pytest.mark.slow
def test_a_compiled_network_learns_what_the_plain_one_does(digits: Small) -> None:
    events: list[Event] = []
    options = CNN | {"net": "mlp", "width": 8, "depth": 2, "max_steps": 5, "optimiser": "nesterov"}
    compiled = run(digits, "cnn", options | {"compile": True}, progress=events.append)
    assert not [event for event in events if event.kind == "note"]
    expected = weights(digits, run(digits, "cnn", options).run)
    for name, tensor in weights(digits, compiled.run).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-4)


def test_what_is_compiled_is_taken_back() -> None:
    module = nn.Linear(2, 2)
    compiled = Compiled(module, wanted=True)
    assert module._compiled_call_impl is not None
    attempts = []

    def work() -> int:
        attempts.append(module._compiled_call_impl is not None)
        if len(attempts) == 1:
            raise torch._dynamo.exc.Unsupported("broken")
        return 7

    assert compiled.call(work) == 7
    assert attempts == [True, False]
    assert compiled.notes == ["compile: not used, since it fails here: broken"]


@pytest.mark.parametrize("name", ["adamw", "adam", "momentum", "nesterov", "sgd"])
def test_optimisers_are_fused_and_a_run_from_before_goes_on_as_it_was(name: Any) -> None:
    optimiser = build_optimiser(nn.Linear(2, 2), TrainOptions(optimiser=name))
    assert all(group["fused"] for group in optimiser.param_groups)
    old = optimiser.state_dict()
    for group in old["param_groups"]:
        group["fused"] = None
    load_optimiser(optimiser, old, CPU)
    assert not any(group["fused"] for group in optimiser.param_groups)
    load_optimiser(
        optimiser, build_optimiser(nn.Linear(2, 2), TrainOptions(optimiser=name)).state_dict(), torch.device("meta")
    )
    assert not any(group["fused"] for group in optimiser.param_groups)
