"""Samples that a model cannot use are told and left out; a version of one split is trained on with a share held out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.run.train import Event
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, after, equal, run, weights


def small(folder: Path, splits: dict[str, list[Sample]], *, per_shard: int = 40) -> Small:
    store = MemoryStore()
    folder.mkdir(exist_ok=True)
    return Small(store, corpora.version(store, folder, splits, per_shard=per_shard), folder)


def without_some(samples: list[Sample]) -> list[Sample]:
    """Two without a label, one without an image."""
    records: dict[int, dict[str, Any]] = {3: {}, 50: {"label": None}}
    return [
        replace(sample, record=records.get(number, sample.record))
        if number != 70
        else Sample("no-image", {"txt": b"x"}, sample.record)
        for number, sample in enumerate(samples)
    ]


def test_a_classifier_leaves_out_what_it_cannot_use_and_tells_it_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    digits = list(corpora.digits()[:150])
    corpus = small(
        tmp_path, {"train": without_some(digits[:100]), "validation": [*digits[100:], Sample("odd", {"txt": b"x"}, {})]}
    )
    events: list[Event] = []
    result = run(corpus, "cnn", CNN, progress=events.append)
    assert result.left_out == [
        {"split": "train", "reason": "no label", "samples": 2, "keys": ["digit-0003", "digit-0050"]},
        {"split": "train", "reason": "no image", "samples": 1, "keys": ["no-image"]},
        {"split": "validation", "reason": "no image", "samples": 1, "keys": ["odd"]},
    ]
    (start,) = [event for event in events if event.kind == "start"]
    assert start.notes[0] == "left out: 2 samples of train with no label (digit-0003, digit-0050)"
    assert result.step == 2 * 7, "an epoch has 97 samples"
    assert result.metrics["samples"] == 50
    kinds = [json.loads(line)["kind"] for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert kinds.count("left_out") == 1
    again = run(corpus, "cnn", CNN, resume=True)
    assert (again.run, again.left_out) == (result.run, result.left_out)


def test_a_run_that_leaves_samples_out_resumes_to_the_same_weights(tmp_path: Path) -> None:
    digits = list(corpora.digits()[:150])
    corpus = small(tmp_path, {"train": without_some(digits[:100]), "validation": digits[100:]})
    whole = run(corpus, "cnn", CNN)
    options = {**CNN, "workers": 0}
    first = run(corpus, "cnn", options, stop=after(5))
    assert first.stopped
    second = run(corpus, "cnn", options, resume=True)
    assert (second.run, second.resumed_at) == (first.run, 5)
    assert equal(weights(corpus, whole.run), weights(corpus, second.run))


def test_a_language_model_leaves_out_samples_without_a_text(tmp_path: Path) -> None:
    topics = list(corpora.texts()[:14])
    topics.insert(5, Sample("picture", {"png": b"x"}, {}))
    corpus = small(tmp_path, {"train": topics[:11], "validation": topics[11:]})
    result = run(corpus, "lstm", {**LSTM, "max_steps": 3})
    assert result.left_out == [{"split": "train", "reason": "no text", "samples": 1, "keys": ["picture"]}]
    same = small(tmp_path / "other", {"train": topics[:5] + topics[6:11], "validation": topics[11:]})
    assert equal(weights(corpus, result.run), weights(same, run(same, "lstm", {**LSTM, "max_steps": 3}).run))


def test_only_a_corpus_without_anything_usable_or_of_one_class_is_refused(tmp_path: Path) -> None:
    digits = list(corpora.digits()[:20])
    unlabelled = [replace(sample, record={}) for sample in digits]
    with pytest.raises(TrainingError, match=r"both an image and a label.*left out: 15 samples of train with no label"):
        run(small(tmp_path, {"train": unlabelled[:15], "validation": digits[15:]}), "cnn", CNN)
    one_class = [replace(sample, record={"label": "a"} if number else {}) for number, sample in enumerate(digits)]
    with pytest.raises(TrainingError, match="1 class; a classifier needs two"):
        run(small(tmp_path / "b", {"train": one_class[:15], "validation": one_class[15:]}), "cnn", CNN)
    with pytest.raises(TrainingError, match="no sample of split 'validation' can be used: each lacks image and label"):
        run(small(tmp_path / "c", {"train": digits[:15], "validation": unlabelled[15:]}), "cnn", CNN)


@pytest.mark.parametrize(("model", "options"), [("cnn", CNN), ("lstm", {**LSTM, "batch_size": 2})])
def test_a_version_of_one_split_is_trained_on_with_a_share_held_out(
    tmp_path: Path, model: str, options: dict[str, Any]
) -> None:
    samples = corpora.digits()[:150] if model == "cnn" else corpora.texts()[:20]
    corpus = small(tmp_path, {"train": list(samples)}, per_shard=len(samples) // 3)
    with pytest.raises(TrainingError, match=r"no split to evaluate on beside train; it has: train. .*--hold-out 10%"):
        run(corpus, model, options)
    options = {**options, "hold_out": "20%", "max_steps": 6, "workers": 0}
    events: list[Event] = []
    whole = run(corpus, model, options, progress=events.append)
    assert events[0].notes[:-1] == (
        f"held out: {whole.held_out} of {len(samples)} samples of train ({whole.held_out / len(samples):.1%})",
    )
    assert 0 < whole.held_out < len(samples) / 2
    assert whole.metrics["split"] == "held_out"
    first = run(corpus, model, options, stop=after(3))
    resumed = run(corpus, model, {**options, "hold_out": 0.2}, resume=True)
    assert (resumed.run, resumed.resumed_at, resumed.held_out) == (first.run, 3, whole.held_out)
    assert resumed.metrics == whole.metrics
    assert equal(weights(corpus, whole.run), weights(corpus, resumed.run))
    assert run(corpus, model, options, resume=True).held_out == whole.held_out
    other = run(corpus, model, {**options, "hold_out": "30%"}, resume=True)
    assert (other.run != first.run, other.resumed_at) == (True, 0), "another share is another run"


def test_samples_are_held_out_and_left_out_of_one_split(tmp_path: Path) -> None:
    corpus = small(tmp_path, {"train": without_some(list(corpora.digits()[:200]))})
    result = run(corpus, "cnn", {**CNN, "hold_out": "25%", "max_steps": 4})
    assert sum(entry["samples"] for entry in result.left_out) == 3
    assert {entry["split"] for entry in result.left_out} <= {"train", "held_out"}
    out_of_held = sum(entry["samples"] for entry in result.left_out if entry["split"] == "held_out")
    assert result.metrics["samples"] == result.held_out - out_of_held


def test_numbers_of_several_types_are_classes(tmp_path: Path) -> None:
    """A column of an index has one type: 1 and 1.5 are floats there."""
    labels = [1, 2.5, "a"]
    for kinds in (2, 3):
        samples = [
            replace(sample, record={"label": labels[number % kinds]})
            for number, sample in enumerate(corpora.digits()[:60])
        ]
        corpus = small(tmp_path / str(kinds), {"train": samples[:40], "validation": samples[40:]})
        result = run(corpus, "cnn", {**CNN, "max_steps": 2})
        assert len(result.metrics["recall"]) == kinds


def undecodable(samples: list[Sample], every: int, payload: bytes = b"broken") -> list[Sample]:
    """Images at regular distances, digit 5 among them, hold these bytes instead."""
    return [
        replace(sample, fields={"png": payload}) if number % every == 5 % every else sample
        for number, sample in enumerate(samples)
    ]


def test_images_that_do_not_decode_are_left_out_of_their_batches_and_told_once(tmp_path: Path) -> None:
    digits = list(corpora.digits()[:150])
    whole_png = digits[5].fields["png"]
    training = undecodable(undecodable(digits[:100], 20), 50, whole_png[: len(whole_png) // 2])
    corpus = small(tmp_path, {"train": training, "validation": undecodable(digits[100:], 50)})
    events: list[Event] = []
    result = run(corpus, "cnn", CNN, progress=events.append)
    reason = "an image that does not decode"
    keys = [f"digit-{number:04d}" for number in (5, 25, 45, 55, 65, 85)]
    assert result.left_out == [
        {"split": "train", "reason": reason, "samples": 6, "keys": keys[:5]},
        {"split": "validation", "reason": reason, "samples": 1, "keys": ["digit-0105"]},
    ]
    assert (result.step, result.metrics["samples"]) == (2 * 7, 49)
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["samples"] for line in lines if line["kind"] == "left_out"] == [7]
    again = run(corpus, "cnn", CNN, resume=True)
    assert (again.run, again.left_out) == (result.run, result.left_out), "a finished run tells it, too"


def test_a_run_that_skips_images_resumes_to_the_same_weights_and_counts(tmp_path: Path) -> None:
    digits = list(corpora.digits()[:150])
    corpus = small(tmp_path, {"train": undecodable(digits[:100], 9), "validation": undecodable(digits[100:], 25)})
    options = {**CNN, "workers": 0}
    whole = run(corpus, "cnn", options)
    for steps in (1, 7, 11):
        first = run(corpus, "cnn", options, stop=after(steps))
        assert first.stopped
        second = run(corpus, "cnn", {**options, "skip_budget": "60%"}, resume=True)
        assert (second.run, second.resumed_at) == (first.run, steps), "another budget is no other run"
        assert second.left_out == whole.left_out
        assert equal(weights(corpus, whole.run), weights(corpus, second.run))


@pytest.mark.parametrize(("budget", "allowed"), [("0", 0), ("3", 3), ("5%", 5)])
@pytest.mark.parametrize("workers", [0, 2])
def test_more_images_that_do_not_decode_than_the_budget_end_a_run(
    tmp_path: Path, budget: str, allowed: int, workers: int
) -> None:
    digits = list(corpora.digits()[:150])
    corpus = small(tmp_path, {"train": undecodable(digits[:100], 9), "validation": digits[100:]})
    with pytest.raises(TrainingError) as caught:
        run(corpus, "cnn", {**CNN, "skip_budget": budget, "workers": workers})
    message = str(caught.value)
    assert f"more than the budget of {allowed} (option skip_budget)" in message
    assert "; an image that does not decode: digit-" in message
    if workers == 0:
        assert "its image does not decode (cannot identify image file)" in message
    assert "0x" not in message
    assert "stoker verify" not in message


def test_batches_without_an_image_that_decodes_are_passed_over(tmp_path: Path) -> None:
    digits = list(corpora.digits()[:100])
    corpus = small(tmp_path, {"train": undecodable(digits[:60], 2), "validation": undecodable(digits[60:], 3)})
    result = run(corpus, "cnn", {**CNN, "batch_size": 1, "epochs": 1, "width": 2})
    assert (result.step, result.metrics["samples"]) == (60, 27)
    none = small(tmp_path / "none", {"train": _broken(digits[:60]), "validation": digits[60:]})
    with pytest.raises(TrainingError, match=r"of the first 60 images none decodes; the last one: .*digit-00"):
        run(none, "cnn", CNN)


def _broken(samples: list[Sample]) -> list[Sample]:
    return [replace(sample, fields={"png": b"broken"}) for sample in samples]


def test_a_damaged_shard_ends_a_run_whatever_the_budget(tmp_path: Path) -> None:
    digits = list(corpora.digits()[:100])
    corpus = small(tmp_path, {"train": digits[:60], "validation": digits[60:]})
    key = corpus.manifest.shards[0].key
    tar = corpus.store.read(key)
    payload = bytes(digits[5].fields["png"])
    at = tar.index(payload)
    corpus.store.write(key, tar[:at] + b"x" * len(payload) + tar[at + len(payload) :])
    with pytest.raises(CorruptShard, match="shards/"):
        run(corpus, "cnn", {**CNN, "skip_budget": "100%"})
