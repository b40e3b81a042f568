"""A run's metrics as JSON lines, and as TensorBoard's events where that is installed."""

import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


class MetricsLog:
    """Writes ``metrics.jsonl`` and TensorBoard's events into a run's folder.

    A resumed run writes no step twice: lines of steps after ``step``, which will be done again, are removed first.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        kept = [line for line in self._lines() if line["step"] <= step] if step else []
        self.path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._tensorboard = _tensorboard_writer(folder, step)

    def _lines(self) -> list[dict[str, Any]]:  # Any: JSON values
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break  # cut when the process was killed: this line and those after it are written again
        return lines

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:  # Any: JSON values
        """Write one line; each number in it is also a TensorBoard curve."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}, sort_keys=True) + "\n")
        self._file.flush()
        for name, value in values.items():
            if self._tensorboard is not None and isinstance(value, int | float) and not isinstance(value, bool):
                self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def add_text(self, name: str, step: int, text: str) -> None:
        """Show a text in TensorBoard."""
        if self._tensorboard is not None:
            self._tensorboard.add_text(name, text, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def _tensorboard_writer(folder: Path, step: int) -> Any:  # Any: a SummaryWriter, or None
    if importlib.util.find_spec("tensorboard") is None:
        return None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step or None)
