"""MLflow's own file store: one entry for a resumed run, each step once; its failure ends no training."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

mlflow = pytest.importorskip("mlflow")

from stoker.training.run.loggers.mlflow_runs import open_tracker  # noqa: E402  # where mlflow is
from stoker.training.run.loggers.trackers import Tracked  # noqa: E402
from tests.training.conftest import Small  # noqa: E402
from tests.training.run.small_runs import CNN, after, run  # noqa: E402


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    address = (tmp_path / "tracking").as_uri()
    mlflow.set_tracking_uri(address)
    yield address
    mlflow.set_tracking_uri(None)


def runs_of(uri: str, experiment: str) -> list[Any]:
    client = mlflow.MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def test_a_run_that_was_resumed_has_one_entry_with_each_step_once(digits: Small, uri: str) -> None:
    options = CNN | {"loggers": "mlflow"}
    first = run(digits, "cnn", options, stop=after(12))
    run(digits, "cnn", options, resume=True)
    (entry,) = runs_of(uri, "small")
    assert (entry.info.run_name, entry.info.status) == (first.run, "FINISHED")
    assert entry.data.params["width"] == "4"
    assert entry.data.params["learning_rate"] == "0.004"
    assert entry.data.tags["version"] == "small@1"
    history = mlflow.MlflowClient(uri).get_metric_history(entry.info.run_id, "evaluate/accuracy")
    assert [one.step for one in history] == [10, 20]
    assert entry.data.metrics["evaluate/accuracy"] == history[-1].value


def test_without_an_address_the_runs_are_in_a_database_beside_the_metrics(tmp_path: Path, uri: str) -> None:
    mlflow.set_tracking_uri(None)
    tracked = Tracked("cnn-0001", "small", "small@1", {}, tmp_path / "small" / "cnn-0001")
    tracked.folder.mkdir(parents=True)
    tracker = open_tracker(tracked)
    tracker.write("train", 1, {"loss": 1.0})
    tracker.close()
    (entry,) = runs_of(f"sqlite:///{tmp_path}/small/mlflow.db", "small")
    assert entry.data.metrics == {"train/loss": 1.0}


def test_what_is_done_again_after_a_kill_is_not_there_twice(tmp_path: Path, uri: str) -> None:
    tracked = Tracked("cnn-0001", "small", "small@1", {"width": 4}, tmp_path)
    killed = open_tracker(tracked)
    for step in (1, 2, 3):
        killed.write("train", step, {"loss": 1 / step})
    again = open_tracker(tracked)
    for step in (2, 3, 4):
        again.write("train", step, {"loss": 1 / step})
    again.add_text("sample", 4, "words")
    again.close()
    (entry,) = runs_of(uri, "small")
    history = mlflow.MlflowClient(uri).get_metric_history(entry.info.run_id, "train/loss")
    assert [one.step for one in history] == [1, 2, 3, 4]
    assert entry.data.tags["sample"] == "words"


@pytest.mark.parametrize("purged", [False, True])
def test_a_run_whose_entry_was_deleted_goes_on_in_a_new_one(tmp_path: Path, uri: str, purged: bool) -> None:
    tracked = Tracked("cnn-0001", "small", "small@1", {"width": 4}, tmp_path)
    open_tracker(tracked).close()
    (deleted,) = runs_of(uri, "small")
    if purged:
        (folder,) = (tmp_path / "tracking").glob(f"*/{deleted.info.run_id}")
        shutil.rmtree(folder)
    else:
        mlflow.MlflowClient(uri).delete_run(deleted.info.run_id)
    again = open_tracker(tracked)
    again.write("train", 3, {"loss": 1.0})
    again.close()
    (entry,) = runs_of(uri, "small")
    assert entry.info.run_id != deleted.info.run_id
    assert entry.data.metrics == {"train/loss": 1.0}


def test_a_store_that_fails_is_told_once_and_ends_no_training(
    tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = open_tracker(Tracked("cnn-0001", "small", "small@1", {}, tmp_path))
    (tmp_path / "tracking").rename(tmp_path / "gone")
    for step in (1, 2):
        tracker.write("train", step, {"loss": 1.0})
    tracker.close()
    assert caplog.text.count("MLflow gets no more of run") == 1
