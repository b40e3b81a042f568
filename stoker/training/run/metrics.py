"""Metrics as JSON lines, and for TensorBoard where it is installed."""

import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


class Metrics:
    """Writes ``metrics.jsonl`` and TensorBoard's events into a folder of the run.

    After a resumption nothing is written twice: lines of steps that will be done again are removed first.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        kept = [line for line in self._lines() if line["step"] <= step] if step else []
        self.path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _board(folder, step)

    def _lines(self) -> list[dict[str, Any]]:  # Any: JSON values
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                break  # cut by a kill: it and what follows are written again
        return found

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:  # Any: JSON values
        """One line, and each number of it as a curve."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}, sort_keys=True) + "\n")
        self._file.flush()
        for name, value in values.items():
            if self._board is not None and isinstance(value, int | float) and not isinstance(value, bool):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def text(self, name: str, step: int, value: str) -> None:
        """A text that the model wrote."""
        if self._board is not None:
            self._board.add_text(name, value, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _board(folder: Path, step: int) -> Any:  # Any: TensorBoard's writer, or None
    if importlib.util.find_spec("tensorboard") is None:
        return None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step or None)
