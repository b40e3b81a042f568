"""Metrics go to the trackers that a run names; names are checked before anything begins."""

import importlib.util
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from stoker.training.errors import TrainingError
from stoker.training.run import loop
from stoker.training.run.loggers import mlflow_runs, trackers, weights_and_biases
from stoker.training.run.loggers.trackers import Tracked
from stoker.training.run.metrics import MetricsLog
from stoker.training.run.options import parse_options, run_identity
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, run

ADDRESS = "https://me:secret@tracking.example:5000"


class Recorded:
    """A tracker that remembers what it is given."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self.lines.append((kind, step, dict(values)))

    def add_text(self, name: str, step: int, text: str) -> None:
        self.lines.append((name, step, text))

    def close(self) -> None:
        self.lines.append("closed")


def test_trackers_get_the_numbers_of_each_line_and_the_texts(tmp_path: Path) -> None:
    tracker = Recorded()
    log = MetricsLog(tmp_path, trackers=[tracker])
    log.write("evaluate", 3, {"accuracy": 0.5, "split": "test", "good": True, "recall": {"a": 1.0}})
    log.write("left_out", 3, {"reasons": []})
    log.add_text("sample", 4, "words")
    log.close()
    assert tracker.lines == [("evaluate", 3, {"accuracy": 0.5}), ("sample", 4, "words"), "closed"]
    assert len([json.loads(line) for line in log.path.read_text().splitlines()]) == 2


def test_a_tracker_that_is_not_installed_is_named_with_what_to_install_before_the_training_begins(
    digits: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(TrainingError, match=rf'{name} is not installed; pip install "stoker\[{name}\]"'):
            run(digits, "cnn", CNN | {"loggers": name})


def test_no_tracker_is_left_open_where_another_one_or_a_part_of_the_run_cannot_be_built(
    digits: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Recorded] = []

    def open_one(_: Tracked) -> Recorded:
        opened.append(Recorded())
        return opened[-1]

    def fails(*_: object) -> Any:
        raise TrainingError("no GPU")

    def module_of(name: str) -> Any:
        return SimpleNamespace(open_tracker=open_one if name.endswith("mlflow_runs") else fails)

    monkeypatch.setattr(trackers, "import_module", module_of)
    with pytest.raises(TrainingError, match="no GPU"):
        trackers.open_trackers("mlflow,wandb", tracked(tmp_path))
    assert [one.lines for one in opened] == [["closed"]]
    monkeypatch.setattr(loop, "check_installed", lambda _: None)
    monkeypatch.setattr(loop, "stepper_of", fails)
    with pytest.raises(TrainingError, match="no GPU"):
        run(digits, "cnn", CNN | {"loggers": "mlflow"})
    assert len(opened) == 1


def test_a_wrong_name_is_refused_and_right_ones_change_nothing_of_what_is_trained() -> None:
    with pytest.raises(TrainingError, match=r"no logger 'wandd'; did you mean 'wandb'\?"):
        parse_options("cnn", {"loggers": "mlflow,wandd"})
    plain, tracked = (run_identity("cnn", *parse_options("cnn", {"loggers": text})) for text in ("", "wandb,mlflow"))
    assert plain == tracked
    assert trackers.names_of("mlflow, wandb,mlflow") == ["mlflow", "wandb"]


class MlflowError(Exception):
    """An MlflowException."""

    error_code = "INTERNAL_ERROR"


class NotThereError(MlflowError):
    """That of a run which the server does not have."""

    error_code = "RESOURCE_DOES_NOT_EXIST"


class Failing:
    """A client or run, all of whose methods raise."""

    id = "run-1"

    @property
    def summary(self) -> "Failing":
        return self

    def __getattr__(self, name: str) -> Any:  # Any: of any arguments
        def fails(*args: object, **options: object) -> None:
            raise MlflowError(f"no answer from {ADDRESS}/api/2.0 to {name}")

        return fails


def use_mlflow(monkeypatch: pytest.MonkeyPatch, client: object) -> None:
    """Let ``import mlflow`` give one whose client is this."""
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    names = {
        "is_tracking_uri_set": lambda: True,
        "get_tracking_uri": lambda: ADDRESS,
        "MlflowClient": lambda address: client,
        "environment_variables": SimpleNamespace(MLFLOW_EXPERIMENT_NAME=SimpleNamespace(get=lambda: None)),
        "entities": entities,
    }
    vars(module).update(names)
    errors = ModuleType("mlflow.exceptions")
    vars(errors).update(MlflowException=MlflowError)
    vars(entities).update(Param=tuple, Metric=lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    vars(module).update(exceptions=errors)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", errors)


def tracked(folder: Path) -> Tracked:
    return Tracked("cnn-0001", "small", "small@1", {}, folder)


def test_no_message_holds_the_password_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_mlflow(monkeypatch, Failing())
    with pytest.raises(
        TrainingError, match=r"mlflow: https://…@tracking\.example:5000: MlflowError: no answer"
    ) as told:
        mlflow_runs.open_tracker(tracked(tmp_path))
    assert "secret" not in str(told.value)
    with caplog.at_level(logging.WARNING):
        mlflow_runs.MlflowRun(Failing(), "1", resumed=False).write("train", 1, {"loss": 1.0})
    assert "https://…@tracking.example:5000/api/2.0 to log_batch" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("where", ["W&B", "MLflow"])
def test_a_tracker_that_fails_is_told_once_and_ends_no_training(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_mlflow(monkeypatch, Failing())
    for first in ("write", "add_text", "close"):
        caplog.clear()
        tracker: trackers.Tracker = (
            weights_and_biases.WandbRun(Failing())
            if where == "W&B"
            else mlflow_runs.MlflowRun(Failing(), "run-1", resumed=False)
        )
        if first == "write":
            log = MetricsLog(tmp_path, trackers=[tracker])
            log.write("train", 1, {"loss": 1.0})
            log.write("train", 2, {"loss": 0.5})
            log.close()
        elif first == "add_text":
            tracker.add_text("sample", 2, "words")
        tracker.close()
        assert caplog.text.count(f"{where} gets no more of run run-1: MlflowError: no answer") == 1


class Server(Failing):
    """A client of a server whose runs are these, by their stage."""

    def __init__(self, **stages: str) -> None:
        self.stages = stages

    def get_run(self, run: str) -> Any:
        if run not in self.stages:
            raise NotThereError(run)
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage=self.stages[run]))

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def create_run(self, *_: object, **__: object) -> Any:
        self.stages["new"] = "active"
        return SimpleNamespace(info=SimpleNamespace(run_id="new"))

    def update_run(self, run: str, status: str) -> None:
        pass

    def log_batch(self, run: str, **_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("stages", "goes_on_in"), [({"old": "active"}, "old"), ({"old": "deleted"}, "new"), ({}, "new")]
)
def test_a_run_whose_entry_was_deleted_goes_on_in_a_new_one(
    stages: dict[str, str], goes_on_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow-run").write_text("old")
    server = Server(**stages)
    use_mlflow(monkeypatch, server)
    mlflow_runs.open_tracker(tracked(tmp_path))
    assert (tmp_path / "mlflow-run").read_text() == goes_on_in
    assert ("new" in server.stages) == (goes_on_in == "new")


def test_a_server_out_of_reach_makes_no_new_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow-run").write_text("old")
    use_mlflow(monkeypatch, Failing())
    with pytest.raises(TrainingError, match="to get_run"):
        mlflow_runs.open_tracker(tracked(tmp_path))
    assert (tmp_path / "mlflow-run").read_text() == "old"
