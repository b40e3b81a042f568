"""A study measures what is missing, keeps what is done, and never trains on what it tests on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.storage.versions import layout
from stoker.storage.versions.measured.studies import Study
from stoker.training.errors import TrainingError
from stoker.training.run.model import Corpus
from stoker.training.studies.data import Images, Limits, gather_images, open_data
from stoker.training.studies.study import Progress, study
from tests.training import corpora
from tests.training.conftest import Small

CHEAP = ("linear SVM", "random forest", "3 nearest neighbours")


def measured(small: Small, *only: str, told: list[str] | None = None, **options: Any) -> Study:
    def note(progress: Progress) -> None:
        if told is not None and progress.text:
            told.append(progress.text.partition(": ")[0] if progress.runs else progress.text)

    options = {"workers": 0, "cache": small.cache, "progress": note, "quick": True, **options}
    return study(small.store, small.manifest, only=only or CHEAP, **options)


def test_rows_are_measured_once_and_kept_in_the_store(digits: Small) -> None:
    told: list[str] = []
    found = measured(digits, told=told)
    names = ["3 nearest neighbours, seed 0", "linear SVM, seed 0", "random forest, seed 0", "random forest, seed 1"]
    assert sorted(told) == names
    scores = {row["name"]: [run["score"] for run in row["runs"]] for row in found.rows}
    assert {name: len(values) for name, values in scores.items()} == {
        "linear SVM": 1,
        "random forest": 2,
        "3 nearest neighbours": 1,
    }
    assert all(value > 0.5 for values in scores.values() for value in values)
    again: list[str] = []
    assert measured(digits, told=again).rows == found.rows
    assert again == []
    assert all(run["machine"]["torch"] == found.about["machine"]["torch"] for row in found.rows for run in row["runs"])
    assert layout.study("small", 1, "quick") in {stored.key for stored in digits.store.list("small/studies/")}


def test_a_study_that_is_interrupted_goes_on_with_what_is_missing(digits: Small) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(digits, progress=interrupt)
    told: list[str] = []
    found = measured(digits, told=told)
    assert len(told) == 2
    assert sum(len(row["runs"]) for row in found.rows) == 4


def test_more_seeds_measure_only_the_new_ones(digits: Small) -> None:
    measured(digits)
    told: list[str] = []
    found = measured(digits, told=told, seeds=3)
    assert told == ["random forest, seed 2"]
    assert {row["name"]: len(row["runs"]) for row in found.rows}["random forest"] == 3


def test_rows_of_other_code_or_data_are_kept_and_not_judged(digits: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {row["name"]: row for row in measured(digits).rows}
    monkeypatch.setattr("stoker.training.studies.study.code_of", lambda method: "newer")
    found = {row["name"]: row for row in measured(digits, "linear SVM").rows}
    assert found.keys() == before.keys()
    assert "outdated" not in found["linear SVM"]
    for name in ("random forest", "3 nearest neighbours"):
        assert found[name] == {**before[name], "outdated": True}
    again = measured(digits, "linear SVM")
    shallow = next(claim for claim in again.claims if claim["name"] == "shallow")
    assert "random forest" in shallow["reason"]  # not measured
    assert not shallow["reason"].startswith("not measured: random forest, linear SVM")
    held_out = {row["name"]: row for row in measured(digits, "linear SVM", hold_out="20%").rows}
    assert held_out["random forest"] == found["random forest"]
    monkeypatch.undo()
    back = {row["name"]: row for row in measured(digits, "random forest").rows}
    assert back["random forest"] == before["random forest"]


def test_a_damaged_study_is_measured_again(digits: Small) -> None:
    measured(digits)
    key = layout.study("small", 1, "quick")
    digits.store.write(key, digits.store.read(key).replace(b"random forest", b"random forets"))
    told: list[str] = []
    measured(digits, told=told)
    assert told[0].endswith("differs from its own checksum; `stoker study` measures it again")
    assert "linear SVM, seed 0" in told


def test_a_worker_process_measures_the_same(digits: Small) -> None:
    here = measured(digits, "linear SVM")
    digits.store.delete(layout.study("small", 1, "quick"))
    there = measured(digits, "linear SVM", workers=1)
    assert [run["score"] for run in there.rows[0]["runs"]] == [run["score"] for run in here.rows[0]["runs"]]


def test_no_sample_of_the_split_that_is_tested_on_is_trained_on(digits: Small, tmp_path: Path) -> None:
    corpus = Corpus(digits.store, digits.manifest, digits.cache)
    about = gather_images(corpus, "train", "validation", Limits(10_000, 10_000), tmp_path)
    (tmp_path / "about.json").write_text(json.dumps(about))
    data = open_data(tmp_path)
    assert isinstance(data, Images)
    assert (len(data.train), len(data.test)) == (150, 50)
    train, test = ({image.tobytes() for image in images} for images in (data.train, data.test))
    assert len(train) == 150
    assert train.isdisjoint(test)


def test_a_larger_corpus_is_sampled(digits: Small, tmp_path: Path) -> None:
    corpus = Corpus(digits.store, digits.manifest, digits.cache)
    about = gather_images(corpus, "train", "validation", Limits(40, 30), tmp_path)
    (tmp_path / "about.json").write_text(json.dumps(about))
    data = open_data(tmp_path)
    assert isinstance(data, Images)
    assert (len(data.train), len(data.train_classes), len(data.test)) == (40, 40, 30)


def test_smaller_images_are_the_means_of_squares() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1), np.uint8)
    data = Images(images, np.zeros(5, np.int64), images, np.zeros(5, np.int64), {"classes": ["a"], "grey": True})
    small = data.resized(8).train
    assert small.shape == (5, 8, 8, 1)
    assert small[3, 2, 5, 0] == round(float(images[3, 8:12, 20:24, 0].mean()))


def test_texts_are_studied_by_counts(handbook: Small) -> None:
    found = measured(handbook, "1-gram", "3-gram")
    bits = {row["name"]: row["runs"][0]["score"] for row in found.rows}
    assert found.measure == "bits_per_character"
    assert bits["3-gram"] < bits["1-gram"] < 8
    assert found.about["data"]["copied"] == 0


def test_a_worker_process_imports_nothing_of_the_folder_that_it_is_started_in(
    digits: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    (digits.folder / "json.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(digits.folder)
    assert measured(digits, "linear SVM", workers=1).rows


def test_a_corpus_that_is_neither_is_refused(tmp_path: Path, letters: Small) -> None:
    one_class = [replace(sample, record={"label": "same"}) for sample in corpora.digits()[:20]]
    small = Small(
        letters.store,
        corpora.version(letters.store, tmp_path, {"train": one_class[:10], "test": one_class[10:]}, corpus="one"),
        tmp_path,
    )
    with pytest.raises(TrainingError, match="one@1: no images with labels of two classes or more, and no texts"):
        measured(small)


def test_an_unknown_name_is_refused_with_those_that_there_are(digits: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the samples are read")

    monkeypatch.setattr("stoker.training.studies.data.gather_images", read)
    with pytest.raises(TrainingError, match="did you mean 'LeNet-5'"):
        measured(digits, "lenet")
    with pytest.raises(TrainingError, match=r"no claim or row is called 'depht'; did you mean 'depth"):
        measured(digits, "depht")
    with pytest.raises(TrainingError, match=r"no claim or row is called '\?'; there are claims .*'shallow'"):
        measured(digits, "?")
