"""A finished run is returned as it is; one seed gives one result; the old name of an option still works."""

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from stoker.flows.services import seaweed
from stoker.storage import open_store
from stoker.training.errors import TrainingError
from stoker.training.run import train as train_module
from stoker.training.run.train import Event, Result, train
from tests.conftest import PATIENCE
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, equal, run, weights


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


def test_the_old_name_of_the_options_still_works(digits: Small) -> None:
    with pytest.warns(DeprecationWarning, match="options="):
        result = train(digits.store, digits.manifest, "cnn", given=CNN | {"epochs": 1}, folder=digits.folder / "runs")
    assert result.step == 10


def test_runs_without_a_folder_go_to_a_private_one_and_not_to_that_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user can create names in /tmp."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = train_module._default_folder()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
    assert train_module._default_folder() == folder
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to("elsewhere")
    with pytest.raises(TrainingError, match=r"no folder of yours.*train\(folder="):
        train_module._default_folder()


def evaluations(result: Result) -> list[object]:
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "evaluate"]


@pytest.mark.slow
def test_a_training_outlives_a_store_that_is_stopped_and_started_again(tmp_path: Path) -> None:
    def start() -> seaweed.Server:
        server = seaweed.start(tmp_path / "s3", access_key="tests", secret_key="of these tests", bucket="corpora")
        server.wait_ready(seaweed.READY_S * PATIENCE)
        return server

    server = start()
    server.create_bucket()
    store = open_store("s3://corpora", endpoint=server.endpoint, access_key="tests", secret_key="of these tests")
    manifest = corpora.version(
        store, tmp_path, {"train": corpora.digits()[:400], "validation": corpora.digits()[400:500]}, per_shard=20
    )
    options = {**CNN, "epochs": 1}
    expected = train(store, manifest, "cnn", options, folder=tmp_path / "whole", cache=tmp_path / "whole cache")
    servers = [server]

    def restart() -> None:
        time.sleep(8)  # longer than the six attempts of a store without patience take
        servers.append(start())

    restarting = threading.Thread(target=restart)

    def progress(event: Event) -> None:
        if event.kind == "start":
            server.stop(now=True)
            restarting.start()

    try:
        result = train(
            store, manifest, "cnn", options, folder=tmp_path / "runs", cache=tmp_path / "cache", progress=progress
        )
        assert restarting.ident
        assert result.metrics == expected.metrics
        assert evaluations(result) == evaluations(expected)
    finally:
        if restarting.ident:
            restarting.join()
        servers[-1].stop(now=True)


@pytest.mark.parametrize("longer", [{"epochs": 3}, {"max_steps": 0}, {"epochs": 4, "max_steps": 25}])
def test_a_finished_run_may_be_lengthened_and_the_steps_that_were_done_are_not_done_again(
    digits: Small, longer: dict[str, int]
) -> None:
    options = {**CNN, "epochs": 2, "max_steps": 12}
    first = run(digits, "cnn", options)
    assert first.step == 12
    more = run(digits, "cnn", {**options, "max_steps": 30, **longer}, resume=True)
    assert (more.run, more.resumed_at) == (first.run, 12)
    assert more.step == more.steps > 12
    again = run(digits, "cnn", {**options, "max_steps": 30, **longer}, resume=True)
    assert (again.run, again.resumed_at, again.metrics) == (first.run, more.steps, more.metrics)
    shorter = run(digits, "cnn", {**options, "epochs": 1}, resume=True)
    assert shorter.run != first.run, "what was done cannot be taken back"


def test_a_run_that_ended_with_its_last_epoch_goes_on_with_the_next(digits: Small) -> None:
    first = run(digits, "cnn", {**CNN, "epochs": 1, "schedule": "constant", "warmup": 0})
    more = run(digits, "cnn", {**CNN, "epochs": 2, "schedule": "constant", "warmup": 0}, resume=True)
    whole = run(digits, "cnn", {**CNN, "epochs": 2, "schedule": "constant", "warmup": 0})
    assert (more.run, more.resumed_at, more.steps) == (first.run, first.step, whole.steps)
    assert equal(weights(digits, more.run), weights(digits, whole.run))


def test_a_classifiers_metrics_name_its_most_confident_mistakes_by_key(digits: Small) -> None:
    metrics = run(digits, "cnn", CNN).metrics
    wrong = metrics["wrong"]
    mistakes = metrics["samples"] - sum(row[number] for number, row in enumerate(metrics["confusion"]))
    assert 0 < len(wrong) == min(24, mistakes)
    labels = {sample.key: sample.record["label"] for sample in corpora.digits()[150:200]}
    for one in wrong:
        assert one["expected"] == labels[one["key"]] != one["predicted"]
        assert 0 < one["probability"] <= 1
    probabilities = [one["probability"] for one in wrong]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_run_whose_score_gets_no_better_ends_early_and_goes_on_with_more_patience(digits: Small) -> None:
    options = {**CNN, "epochs": 9, "learning_rate": 1e-9, "warmup": 0, "patience": 2}
    events: list[Event] = []
    first = run(digits, "cnn", options, progress=events.append)
    scores = [event.metrics["score"] for event in events if event.kind == "evaluate"]
    best = scores.index(max(scores))
    assert len(scores) == best + 3 < 9
    assert (first.stopped, first.step, first.steps) == (False, 10 * len(scores), 10 * len(scores))
    notes = [note for event in events if event.kind == "note" for note in event.notes]
    assert [note.partition(":")[2] for note in notes] == [" no better score in 2 evaluations (patience)"]
    again = run(digits, "cnn", options, resume=True)
    assert (again.run, again.resumed_at, again.step) == (first.run, first.step, first.step)
    more = run(digits, "cnn", {**options, "patience": 0}, resume=True)
    assert (more.run, more.resumed_at, more.step) == (first.run, first.step, 90)


def test_a_run_says_how_it_computes(digits: Small) -> None:
    for deterministic, told in (
        (True, "computes on cpu in float32, deterministic"),
        (False, "computes on cpu in float32, not deterministic"),
    ):
        events: list[Event] = []
        run(digits, "cnn", {**CNN, "max_steps": 1, "deterministic": deterministic}, progress=events.append)
        assert events[0].notes[-1] == told
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_does_not_pay_for_filling_memory_that_it_overwrites(digits: Small) -> None:
    memory: Any = torch.utils.deterministic  # Any: torch has no type for its setting
    filled = []
    note = lambda event: filled.append(bool(torch.empty(1 << 16).isnan().all()))  # noqa: E731
    run(digits, "cnn", {**CNN, "max_steps": 1}, progress=note)
    assert not any(filled)
    assert memory.fill_uninitialized_memory  # torch's own default, which is the caller's
