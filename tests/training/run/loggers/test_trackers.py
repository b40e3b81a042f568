"""Metrics go to the trackers that a run names; names are checked before anything begins."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stoker.training.errors import TrainingError
from stoker.training.run.loggers import trackers
from stoker.training.run.metrics import MetricsLog
from stoker.training.run.options import parse_options, run_identity
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, run


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


def test_a_wrong_name_is_refused_and_right_ones_change_nothing_of_what_is_trained() -> None:
    with pytest.raises(TrainingError, match=r"no logger 'wandd'; did you mean 'wandb'\?"):
        parse_options("cnn", {"loggers": "mlflow,wandd"})
    plain, tracked = (run_identity("cnn", *parse_options("cnn", {"loggers": text})) for text in ("", "wandb,mlflow"))
    assert plain == tracked
    assert trackers.names_of("mlflow, wandb,mlflow") == ["mlflow", "wandb"]
