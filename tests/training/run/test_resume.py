"""A run that ``resume`` finds nothing for says which run is nearest, and what is other about it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from stoker.training.run.train import Event
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, after, equal, run, weights


def test_a_new_run_names_the_nearest_one_and_the_options_that_differ(digits: Small) -> None:
    assert notes(digits, CNN) == ("no run of cnn on small has a checkpoint",)
    assert notes(digits, {**CNN, "width": 6, "epochs": 1, "seed": 3}) == (
        "the nearest run, cnn-0001, has width = 4 (now 6), epochs = 2 (now 1), seed = 0 (now 3)",
    )
    assert notes(digits, {**CNN, "width": 6, "epochs": 1, "seed": 3, "split": "train", "hold_out": "10%"}) == (
        "the nearest run, cnn-0002, has hold_out = none (now 0.1)",
    )
    assert notes(digits, {**CNN, "width": 6, "epochs": 1, "seed": 3}) == ()


def test_a_run_that_is_to_be_longer_is_another_one_for_other_reasons_alone(digits: Small) -> None:
    run(digits, "cnn", {**CNN, "max_steps": 2})
    assert notes(digits, {**CNN, "max_steps": 3}) == ()
    assert notes(digits, {**CNN, "max_steps": 4, "seed": 3}) == ("the nearest run, cnn-0001, has seed = 0 (now 3)",)
    assert notes(digits, {**CNN, "max_steps": 1}) == ("the nearest run, cnn-0001, has max_steps = 3 (now 1)",)


def test_a_nearest_run_of_another_version_is_told_with_it(digits: Small) -> None:
    run(digits, "cnn", CNN, stop=after(1))
    shards = digits.manifest.shards
    other = replace(
        digits, manifest=replace(digits.manifest, version=2, shards=(*shards[1:], shards[0]), content="0" * 64)
    )
    assert notes(other, CNN) == ("the nearest run, cnn-0001, has version = small@1 (now small@2)",)


def test_a_run_that_says_nothing_of_its_training_is_told_and_not_resumed(digits: Small) -> None:
    run(digits, "cnn", CNN, stop=after(1))
    for path in [one.key for one in digits.store.list("small/runs/cnn-0001/") if one.key.endswith(".json")]:
        info = json.loads(digits.store.read(path)) | {"identity": {"model": "cnn", "options": {}}}
        digits.store.write(path, json.dumps(info).encode())
    (told,) = notes(digits, CNN)
    assert told.startswith("the nearest run, cnn-0001, has net = none (now ")


def notes(small: Small, values: dict[str, Any]) -> tuple[str, ...]:
    """What is said of a run that begins anew although it was to be resumed; nothing if it goes on."""
    events: list[Event] = []
    run(small, "cnn", values, resume=True, stop=after(1), progress=events.append)
    return events[0].notes if events and events[0].kind == "new" else ()


DROPPING = CNN | {"dropout": 0.2, "ema": 0.9}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "parts": ("cnn", DROPPING | {"accumulate": 3}),
    "bfloat16": ("cnn", DROPPING | {"precision": "bfloat16", "channels_last": True}),
    "float16": ("cnn", DROPPING | {"precision": "float16", "optimiser": "nesterov"}),
    "policies": ("cnn", DROPPING | {"on_nan": "skip:2", "patience": 1, "deterministic": False}),
    "text in parts": ("lstm", LSTM | {"accumulate": 3, "dropout": 0.2, "precision": "bfloat16", "max_steps": 20}),
    "augmented": ("cnn", DROPPING | {"crop": "random", "flip": True, "mixup": 0.4, "cutmix": 1.0, "accumulate": 2}),
    "compiled": ("cnn", DROPPING | {"net": "mlp", "width": 8, "depth": 2, "compile": True}),
}
SLOW = {"compiled"}  # torch starts a compiler


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in OPTIONS]
)
def test_with_every_option_a_run_that_was_stopped_ends_with_the_same_bits(
    digits: Small, handbook: Small, name: str
) -> None:
    model, options = OPTIONS[name]
    small = digits if model == "cnn" else handbook
    whole = run(small, model, options)
    first = run(small, model, options, stop=after(3))
    second = run(small, model, options, resume=True, stop=after(9))
    rest = run(small, model, options, resume=True)
    assert [one.run for one in (second, rest)] == [first.run] * 2
    assert [first.step, second.step, rest.step] == [3, 12, whole.step]
    assert equal(weights(small, whole.run), weights(small, rest.run))
    assert rest.metrics == whole.metrics
