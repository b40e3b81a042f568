"""The experiment trackers that a run may name in its option ``loggers``. Imports none of them."""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from stoker.plugins import one_line, suggestion
from stoker.training.errors import TrainingError

_MODULES = {
    "wandb": "stoker.training.run.loggers.weights_and_biases",
    "mlflow": "stoker.training.run.loggers.mlflow_runs",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a tracker is told of a run."""

    run: str
    corpus: str
    version: str  # corpus@version
    options: Mapping[str, Any]  # Any: JSON values, by name
    folder: Path  # of the run; what finds its entry in the tracker again is kept there, on this machine


class Tracker(Protocol):
    """Takes what metrics.jsonl takes. A run resumed on the same machine has one entry, and no step of it twice."""

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a step."""

    def add_text(self, name: str, step: int, text: str) -> None:
        """Take a text."""

    def close(self) -> None:
        """Send what is buffered."""


class Sending:
    """Sends to a tracker until that fails, which ends no training: it is told once, and the tracker gets nothing more.

    Args:
        where: the tracker's name, for people.
        run: of the tracker.
    """

    def __init__(self, where: str, run: str) -> None:
        self._where, self._run = where, run
        self._failed = False

    def __call__(self, request: Callable[[], object]) -> None:
        """Make a request; what it returns is not looked at."""
        if self._failed:
            return
        try:
            request()
        except Exception as error:  # noqa: BLE001  # trackers raise anything, a plain Exception too; it is told
            self._failed = True
            _log.warning(
                "%s gets no more of run %s: %s; metrics.jsonl has all", self._where, self._run, one_line(error)
            )


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
    with ExitStack() as opened:  # those before one that cannot be opened are closed
        trackers: list[Tracker] = []
        for name in names_of(text):
            trackers.append(import_module(_MODULES[name]).open_tracker(tracked))
            opened.callback(trackers[-1].close)
        opened.pop_all()
    return trackers
