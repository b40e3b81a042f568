"""The experiment trackers that a run may name in its option ``loggers``. Imports none of them."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from stoker.plugins import suggestion
from stoker.training.errors import TrainingError

_MODULES = {
    "wandb": "stoker.training.run.loggers.weights_and_biases",
    "mlflow": "stoker.training.run.loggers.mlflow_runs",
}


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a tracker is told of a run."""

    run: str
    corpus: str
    version: str  # corpus@version
    options: Mapping[str, Any]  # Any: JSON values, by name
    folder: Path  # of the run; what finds its entry in the tracker again is kept there


class Tracker(Protocol):
    """Takes what metrics.jsonl takes. A resumed run has one entry, and no step of it twice."""

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a step."""

    def add_text(self, name: str, step: int, text: str) -> None:
        """Take a text."""

    def close(self) -> None:
        """Send what is buffered."""


def names_of(text: str) -> list[str]:
    """The names in an option. Raises TrainingError.

    >>> names_of("wandb, mlflow"), names_of("")
    (['wandb', 'mlflow'], [])
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _MODULES:
            raise TrainingError(f"option loggers = {text!r}: no logger {name!r}; {suggestion(name, _MODULES)}")
    return list(dict.fromkeys(names))


def check_installed(text: str) -> None:
    """Raise TrainingError if a tracker that an option names is not installed."""
    for name in names_of(text):
        if importlib.util.find_spec(name) is None:
            raise TrainingError(f'loggers = {name}: the package {name} is not installed; pip install "stoker[{name}]"')


def open_trackers(text: str, tracked: Tracked) -> Sequence[Tracker]:
    """Those that an option names, with a run's entry in each. Raises TrainingError."""
    return [import_module(_MODULES[name]).open_tracker(tracked) for name in names_of(text)]
