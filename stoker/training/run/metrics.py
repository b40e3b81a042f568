"""A run's metrics as JSON lines, as TensorBoard's events where that is installed, and to trackers that it names."""

import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.training.run.loggers.trackers import Tracker

FILE = "metrics.jsonl"


class MetricsLog:
    """Writes ``metrics.jsonl`` and TensorBoard's events into a run's folder.

    A resumed run writes no step twice: lines of steps after ``step``, which will be done again, are removed first.
    """

    def __init__(self, folder: Path, *, step: int = 0, trackers: Sequence[Tracker] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        kept = [line for line in self._lines() if line["step"] <= step] if step else []
        self.path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._tensorboard = _tensorboard_writer(folder, step)
        self._trackers = trackers

    def _lines(self) -> list[dict[str, Any]]:  # Any: JSON values
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break  # cut when the process was killed: this line and those after it are written again
        return lines

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:  # Any: JSON values
        """Write one line; each number in it is also a curve of TensorBoard and of the trackers."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}, sort_keys=True) + "\n")
        self._file.flush()
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        if self._tensorboard is not None:
            for name, value in numbers.items():
                self._tensorboard.add_scalar(f"{kind}/{name}", value, step)
        for tracker in self._trackers if numbers else ():
            tracker.write(kind, step, numbers)

    def add_text(self, name: str, step: int, text: str) -> None:
        """Show a text in TensorBoard and the trackers."""
        if self._tensorboard is not None:
            self._tensorboard.add_text(name, text, step)
        for tracker in self._trackers:
            tracker.add_text(name, step, text)

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        for tracker in self._trackers:
            tracker.close()


def _tensorboard_writer(folder: Path, step: int) -> Any:  # Any: a SummaryWriter, or None
    if importlib.util.find_spec("tensorboard") is None:
        return None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step or None)
