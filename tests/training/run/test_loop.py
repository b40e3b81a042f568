"""Learning, stopping, resuming bit for bit, and what a wrong wish is told."""

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stoker.storage.errors import CorruptShard
from stoker.training.errors import TrainingError
from stoker.training.run import checkpoint
from stoker.training.run.loop import Event, Result, train
from tests.training import corpora
from tests.training.conftest import Small

CNN = {"width": 4, "pixels": 16, "epochs": 2, "batch_size": 16, "threads": 1}
LSTM = {
    "hidden": 16,
    "embedding": 8,
    "window": 16,
    "epochs": 1,
    "batch_size": 8,
    "threads": 1,
    "layers": 2,
    "sample_length": 20,
}


def run(small: Small, model: str, given: dict[str, Any], **options: Any) -> Result:
    return train(small.store, small.manifest, model, given, folder=small.folder / "runs", cache=small.cache, **options)


def weights(small: Small, name: str) -> dict[str, torch.Tensor]:
    found = checkpoint.newest(small.store, small.manifest.corpus, name)
    assert found is not None
    return dict(found[1]["module"])


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def after(steps: int) -> Callable[[], bool]:
    left = iter(range(steps - 1, -(10**9), -1))
    return lambda: next(left) <= 0


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("cnn", CNN),
        ("cnn", CNN | {"net": "lenet5", "pixels": 28, "optimiser": "rmsprop", "learning_rate": 0.001}),
        ("cnn", CNN | {"separable": True, "activation": "gelu", "optimiser": "adam"}),
        ("cnn", CNN | {"batch_norm": False, "initialisation": "orthogonal", "optimiser": "sgd", "learning_rate": 0.01}),
    ],
    ids=["resnet", "lenet5", "separable", "plain sgd"],
)
def test_ten_steps_on_eight_samples_lower_the_loss(tmp_path: Path, model: str, given: dict[str, Any]) -> None:
    from stoker.storage.stores.memory import MemoryStore

    store = MemoryStore()
    eight = corpora.digits()[:8]
    manifest = corpora.version(store, tmp_path, {"train": eight, "validation": eight})
    losses = []
    result = run(
        Small(store, manifest, tmp_path),
        model,
        given | {"epochs": 10, "batch_size": 8, "shift": 0, "schedule": "constant", "warmup": 0},
        progress=lambda event: losses.append(event.metrics["loss"]) if event.kind == "evaluate" else None,
    )
    assert result.step == 10
    assert losses[-1] < losses[0]


def test_an_lstm_learns_and_writes(handbook: Small) -> None:
    events: list[Event] = []
    result = run(handbook, "lstm", LSTM | {"epochs": 2}, progress=events.append)
    bits = [event.metrics["bits_per_character"] for event in events if event.kind == "evaluate"]
    assert bits[-1] < bits[0] < 8
    assert len(result.sample) > 5
    assert events[0].kind == "start"
    assert events[-1].kind == "end"


@pytest.mark.parametrize(("model", "given"), [("cnn", CNN), ("lstm", LSTM)])
def test_a_run_stopped_twice_ends_with_the_very_weights_of_an_undisturbed_one(
    digits: Small, handbook: Small, model: str, given: dict[str, Any]
) -> None:
    small = digits if model == "cnn" else handbook
    whole = run(small, model, given)
    first = run(small, model, given, stop=after(3))
    assert (first.stopped, first.step) == (True, 3)
    # A new run: without ``resume`` the finished one is left alone.
    assert first.run != whole.run
    second = run(small, model, given, resume=True, stop=after(5))
    assert (second.run, second.resumed_at, second.step) == (first.run, 3, 8)
    third = run(small, model, given, resume=True)
    assert (third.run, third.stopped, third.step) == (first.run, False, whole.step)
    assert equal(weights(small, whole.run), weights(small, third.run))
    assert third.metrics == whole.metrics
    assert third.sample == whole.sample


def test_a_finished_run_is_not_done_again(digits: Small) -> None:
    whole = run(digits, "cnn", CNN)
    again = run(digits, "cnn", CNN, resume=True)
    assert (again.run, again.resumed_at, again.metrics) == (whole.run, whole.step, whole.metrics)


def test_one_seed_gives_one_result_and_the_callers_random_numbers_stay(digits: Small) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, other = run(digits, "cnn", CNN), run(digits, "cnn", CNN)
    assert torch.equal(torch.rand(1), expected)
    assert equal(weights(digits, one.run), weights(digits, other.run))
    assert not equal(weights(digits, one.run), weights(digits, run(digits, "cnn", CNN | {"seed": 1}).run))


def test_a_broken_checkpoint_falls_back_to_the_one_before(digits: Small) -> None:
    whole = run(digits, "cnn", CNN)
    first = run(digits, "cnn", CNN, stop=after(3))
    run(digits, "cnn", CNN, resume=True, stop=after(4))
    newest = next(checkpoint.infos(digits.store, "small", first.run))
    digits.store.write(newest.key, b"half a checkp")
    again = run(digits, "cnn", CNN, resume=True)
    assert (again.run, again.resumed_at) == (first.run, 3)
    assert equal(weights(digits, whole.run), weights(digits, again.run))


def test_a_checkpoint_that_holds_code_is_refused(digits: Small) -> None:
    first = run(digits, "cnn", CNN, stop=after(2))
    mark = next(checkpoint.infos(digits.store, "small", first.run))

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(digits.folder / "owned"),))

    file = io.BytesIO()
    torch.save({"module": Evil()}, file)
    checkpoint.save(digits.store, "small", mark, {})
    evil = file.getvalue()
    import hashlib
    from dataclasses import asdict

    sha = hashlib.sha256(evil).hexdigest()
    digits.store.write("small/runs/evil.pt", evil)
    key = f"small/runs/{first.run}/{mark.step:09d}.json"
    digits.store.write(key, json.dumps(asdict(mark) | {"key": "small/runs/evil.pt", "sha256": sha}).encode())
    with pytest.raises(TrainingError, match="no checkpoint of tensors and plain values"):
        run(digits, "cnn", CNN, resume=True)
    assert not (digits.folder / "owned").exists()
    assert pickle.loads(pickle.dumps(1)) == 1  # the test's own unpickler works: the refusal was torch's


def test_metrics_are_written_as_json_lines_and_no_step_twice(digits: Small) -> None:
    first = run(digits, "cnn", CNN, stop=after(12))
    run(digits, "cnn", CNN, resume=True)
    lines = [json.loads(line) for line in (first.folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line["step"] for line in lines if line["kind"] == "evaluate"]
    assert evaluated == sorted(set(evaluated)) == [10, 20]
    assert lines[-1]["accuracy"] >= 0
    assert digits.store.read(f"small/runs/{first.run}/metrics.jsonl")
    assert list(first.folder.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("cmn", {}, "no model is called 'cmn'; did you mean 'cnn'?"),
        ("cnn", {"epoch": 3}, "no.* option 'epoch'; did you mean 'epochs'?"),
        ("cnn", {"epochs": "many"}, "epochs = 'many'; expected int"),
        ("cnn", {"epochs": 0}, "epochs = 0; expected 1 or more"),
        ("cnn", {"net": "vgg"}, "net = 'vgg'; expected one of: lenet5, resnet"),
        ("cnn", {"device": "gpu7"}, "device 'gpu7': .* there are: "),
        ("cnn", {"split": "test"}, "no samples in split 'test'"),
        ("cnn", {"held_out": "train"}, "no held-out split 'train'"),
        ("lstm", {}, "without a field 'txt'"),
    ],
)
def test_a_wrong_wish_is_told_what_and_what_next(
    digits: Small, model: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        run(digits, model, given)


def test_texts_are_no_corpus_for_a_classifier(handbook: Small) -> None:
    with pytest.raises(TrainingError, match="has no label; a classifier needs one"):
        run(handbook, "cnn", CNN)


def test_a_loss_that_is_no_number_stops_the_run_and_is_named(digits: Small) -> None:
    wild = CNN | {"optimiser": "sgd", "learning_rate": 1e30, "clip": 0, "warmup": 0, "batch_norm": False}
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+ of 20"):
        run(digits, "cnn", wild)


def test_no_checkpoint_is_made_of_what_a_damaged_shard_gave(digits: Small) -> None:
    for shard in digits.manifest.shards:
        digits.store.write(shard.key, digits.store.read(shard.key)[:-1] + b"x")  # in no sample
    with pytest.raises(CorruptShard, match=r"\.tar: sha256"):
        run(digits, "cnn", CNN, stop=after(1))
    assert not [
        name for name in checkpoint.runs(digits.store, "small") if checkpoint.newest(digits.store, "small", name)
    ]
