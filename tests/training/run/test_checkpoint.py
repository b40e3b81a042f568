"""Checkpoints: damage falls back to an older one, code in a file never runs, unverified data leaves none."""

import hashlib
import io
import json
import os
from dataclasses import asdict
from typing import Any

import pytest
import torch

from stoker.storage.errors import CorruptShard, SampleNotFound
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.models.cnn import Cnn
from stoker.training.results.checkpoints import CheckpointInfo, infos
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.train import Event
from stoker.training.trained.load import load_trained
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, after, equal, run, weights


def test_a_damaged_checkpoint_falls_back_to_the_one_before(digits: Small) -> None:
    whole = run(digits, "cnn", CNN)
    first = run(digits, "cnn", CNN, stop=after(3))
    run(digits, "cnn", CNN, resume=True, stop=after(4))
    newest = next(checkpoints.infos(digits.store, "small", first.run))
    digits.store.write(newest.key, b"half a checkp")
    again = run(digits, "cnn", CNN, resume=True)
    assert (again.run, again.resumed_at) == (first.run, 3)
    assert equal(weights(digits, whole.run), weights(digits, again.run))


def test_a_checkpoint_that_holds_code_is_refused(digits: Small) -> None:
    first = run(digits, "cnn", CNN, stop=after(2))
    info = next(checkpoints.infos(digits.store, "small", first.run))

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(digits.folder / "owned"),))

    file = io.BytesIO()
    torch.save({"module": Evil()}, file)
    digits.store.write("small/runs/evil.pt", file.getvalue())
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    key = f"small/runs/{first.run}/{info.step:09d}.json"
    digits.store.write(key, json.dumps(asdict(info) | {"key": "small/runs/evil.pt", "sha256": sha256}).encode())
    with pytest.raises(TrainingError, match="no checkpoint of tensors and plain values"):
        run(digits, "cnn", CNN, resume=True)
    assert not (digits.folder / "owned").exists()
    torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    assert (digits.folder / "owned").exists()  # the file does hold code that a plain unpickler runs


@pytest.mark.parametrize(
    "edited",
    [
        {"metrics": []},
        {"metrics": {"step": 4, "score": "x"}},
        {"identity": None},
        {"identity": {}},
        {"identity": {"model": "cnn", "options": [1]}},
        {"key": 3},
        {"sha256": 3},
        {"step": "x"},
        "[" * 100_000,
    ],
)
def test_what_a_checkpoint_says_is_passed_over_if_it_was_edited(edited: dict[str, Any] | str) -> None:
    store = MemoryStore()
    info = CheckpointInfo("cnn-0001", 4, "s/x.pt", 1, "0" * 64, {"model": "cnn"}, "s@1", "", True, {"step": 4})
    store.write("s/runs/cnn-0001/000000004.json", json.dumps(asdict(info)).encode())
    assert list(infos(store, "s", "cnn-0001")) == [info]
    text = edited if isinstance(edited, str) else json.dumps(asdict(info) | edited)
    store.write("s/runs/cnn-0001/000000004.json", text.encode())
    assert not list(infos(store, "s", "cnn-0001"))
    for name in ("cnn", "cnn-0001"):  # the run is there, and of no use
        with pytest.raises(TrainingError, match=f"no run with a checkpoint is called '{name}'; there is none yet"):
            load_trained(store, name)


@pytest.mark.parametrize("state", [[1], {"module": {}}, {"facts": None}, torch.zeros(3)])
def test_tensors_that_are_no_checkpoint_are_refused_in_one_line(state: Any) -> None:
    store = MemoryStore()
    file = io.BytesIO()
    torch.save(state, file)
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    store.write("s/x.pt", file.getvalue())
    info = CheckpointInfo("cnn-0001", 4, "s/x.pt", 1, sha256, {"model": "cnn"}, "s@1", "", True, {"step": 4})
    with pytest.raises(TrainingError, match="no checkpoint that Stoker wrote"):
        checkpoints.load(store, info)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"classes": 3}, "TypeError"),
        ({"mean": "x"}, "TypeError"),
        ({"classes": ["one"]}, "RuntimeError: .*size mismatch"),
        ({}, "KeyError: 'grey'"),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused_in_one_line(
    digits: Small, changed: dict[str, Any], reason: str
) -> None:
    first = run(digits, "cnn", CNN, stop=after(2))
    checkpoint = checkpoints.newest(digits.store, "small", first.run)
    assert checkpoint is not None
    info, state = checkpoint
    state["facts"] = state["facts"] | changed if changed else {}
    checkpoints.save(digits.store, "small", info, state)
    for begin in (
        lambda: run(digits, "cnn", CNN, resume=True),
        lambda: load_trained(digits.store, first.run),
    ):
        with pytest.raises(
            TrainingError, match=rf"{first.run}: its checkpoint does not fit .*cnn.*\({reason}"
        ) as caught:
            begin()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        SampleNotFound("small@1 has no sample 7"),
        RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
        torch.AcceleratorError("no device"),
    ],
)
def test_faults_of_the_store_and_the_device_are_not_those_of_the_checkpoint(fault: Exception) -> None:
    with pytest.raises(type(fault)) as caught, checkpoints.fitting("cnn-0001", "cnn"):
        raise fault
    assert caught.value is fault


def test_faults_of_a_models_data_are_not_those_of_the_checkpoint(
    digits: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(digits, "cnn", CNN, stop=after(2))

    def data(*_: Any, **__: Any) -> Any:
        raise ValueError("of the data")

    monkeypatch.setattr(Cnn, "data", data)
    with pytest.raises(ValueError, match=r"^of the data$"):
        run(digits, "cnn", CNN, resume=True)


def test_no_checkpoint_is_saved_after_batches_of_a_damaged_shard(digits: Small) -> None:
    for shard in digits.manifest.shards:
        digits.store.write(shard.key, digits.store.read(shard.key)[:-1] + b"x")  # in no sample
    with pytest.raises(CorruptShard, match=r"\.tar: sha256"):
        run(digits, "cnn", CNN, stop=after(1))
    assert not [
        name for name in checkpoints.runs(digits.store, "small") if checkpoints.newest(digits.store, "small", name)
    ]


def test_the_weights_of_the_best_evaluation_are_kept(digits: Small) -> None:
    scores: dict[int, float] = {}

    def note(event: Event) -> None:
        if event.kind == "evaluate":
            scores[event.step] = event.metrics["score"]

    values = CNN | {"epochs": 8, "learning_rate": 0.2, "schedule": "constant", "keep": 1, "checkpoint_s": 0.001}
    result = run(digits, "cnn", values, progress=note)
    best = max(scores, key=lambda step: scores[step])
    assert best != result.step, "else the newest would do"
    kept = {info.step: info for info in checkpoints.infos(digits.store, "small", result.run)}
    assert kept.keys() == {best, result.step}
    assert kept[best].metrics["score"] == scores[best]
    assert kept[best].metrics["step"] == best
