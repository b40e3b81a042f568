"""A trained model on a split of this or another version."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.storage.shards.sample import Sample
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.results.evaluations import Evaluation, evaluations, keep
from stoker.training.trained.evaluate import evaluate
from stoker.training.trained.load import load_trained
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, run


def evaluated(small: Small, name: str, manifest: Manifest, **options: Any) -> Evaluation:
    trained = load_trained(small.store, name, near=small.manifest.corpus, device="cpu")
    return evaluate(trained, small.store, manifest, cache=small.cache, **options)


@pytest.mark.parametrize("model", ["cnn", "lstm"])
def test_the_split_of_training_gives_the_metrics_of_training(digits: Small, handbook: Small, model: str) -> None:
    small, values = (digits, CNN) if model == "cnn" else (handbook, LSTM)
    result = run(small, model, values | {"keep": 9})
    trained = load_trained(small.store, result.run, checkpoint="last", device="cpu")
    counts = []
    found = evaluate(
        trained, small.store, small.manifest, cache=small.cache, progress=lambda *count: counts.append(count)
    )
    extra = {name: value for name, value in result.metrics.items() if name not in ("split", "epochs", "step")}
    assert found.metrics == pytest.approx(extra) if model == "lstm" else found.metrics == extra
    assert (found.split, found.run, found.reference) == ("validation", result.run, "small@1")
    assert (found.absent, found.unknown, found.left_out, found.seen) == ([], {}, [], False)
    assert found.remarks() == []
    total = small.manifest.splits["validation"].samples
    assert counts == sorted(counts)
    assert counts[-1] == (total, total)


def test_classes_that_the_model_does_not_know_are_left_out_and_told_and_so_are_absent_ones(digits: Small) -> None:
    name = run(digits, "cnn", CNN).run
    samples = corpora.digits()[200:260]
    known = [sample for sample in samples if sample.record["label"] in "0123"]
    foreign = [replace(sample, record={"label": f"x{sample.record['label']}"}) for sample in samples[:7]]
    foreign = [replace(sample, key=f"foreign-{sample.key}") for sample in foreign]
    broken = [Sample("broken", {"png": b"no image"}, {"label": "1"}), Sample("bare", {"png": b"no image"}, {})]
    splits = {"test": [*known, *foreign, *broken], "train": samples}
    other = corpora.version(digits.store, digits.folder, splits, corpus="other")
    found = evaluated(digits, name, other)
    assert (found.corpus, found.trained_on, found.reference, found.split) == ("small", "small@1", "other@1", "test")
    assert found.metrics["samples"] == len(known) == sum(map(sum, found.metrics["confusion"]))
    assert sum(found.unknown.values()) == len(foreign)
    assert set(found.unknown) == {str(sample.record["label"]) for sample in foreign}
    assert found.absent == ["4", "5", "6", "7", "8", "9"]
    reasons = {entry["reason"]: entry["samples"] for entry in found.left_out}
    assert reasons.pop("a class that the model does not know") == len(foreign)
    assert reasons.pop("no label") == 1
    assert list(reasons.values()) == [1]  # the image that does not decode
    assert [remark.partition(":")[0] for remark in found.remarks()] == [
        "classes of other@1 that the model does not know, left out",
        "classes of the model without a sample in test",
    ]
    assert not {one["key"] for one in found.metrics["wrong"]} & {sample.key for sample in [*foreign, *broken]}


def test_a_corpus_without_a_class_that_the_model_knows_is_refused(digits: Small) -> None:
    name = run(digits, "cnn", CNN | {"epochs": 1}).run
    foreign = [replace(sample, record={"label": f"x{sample.record['label']}"}) for sample in corpora.digits()[:20]]
    other = corpora.version(digits.store, digits.folder, {"train": foreign}, corpus="other")
    message = r"other@1: no sample of split 'train' has .* a class that the model knows \(0, 1, .*\); its classes: x0"
    with pytest.raises(TrainingError, match=message):
        evaluated(digits, name, other)


def test_a_split_that_was_trained_on_is_told(digits: Small) -> None:
    name = run(digits, "cnn", CNN | {"epochs": 1}).run
    found = evaluated(digits, name, digits.manifest, split="train")
    assert found.seen
    assert found.remarks() == ["the model was trained on split train of small@1: it has seen these samples"]
    with pytest.raises(TrainingError, match="no samples in split 'tset'; its splits: train"):
        evaluated(digits, name, digits.manifest, split="tset")


def test_a_run_that_held_a_share_out_is_evaluated_on_it(digits: Small) -> None:
    result = run(digits, "cnn", CNN | {"hold_out": "20%"})
    found = evaluated(digits, result.run, digits.manifest, split="held_out")
    trained = load_trained(digits.store, result.run, device="cpu")
    assert found.metrics["samples"] == result.held_out
    assert found.metrics["loss"] == pytest.approx(trained.info.metrics["loss"], rel=1e-5)  # sums of other threads
    assert not found.seen


def test_evaluations_are_kept_beside_the_run_the_newest_first(digits: Small, tmp_path: Path) -> None:
    name = run(digits, "cnn", CNN | {"epochs": 1}).run
    found = evaluated(digits, name, digits.manifest)
    other = replace(found, split="train", at="2001-01-01T00:00:00+00:00")
    key = keep(digits.store, other)
    assert key == f"small/runs/{name}/evaluations/small@1-train-{found.step:09d}.json"
    keep(digits.store, found)
    digits.store.write(f"small/runs/{name}/evaluations/broken.json", b"[]")
    assert [one.to_json() for one in evaluations(digits.store, "small", name)] == [found.to_json(), other.to_json()]
    assert keep(digits.store, other) == key  # in its place
    assert run(digits, "cnn", CNN | {"epochs": 1}, resume=True).run == name  # evaluations are no checkpoints
