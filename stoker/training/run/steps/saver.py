"""Checkpoints written beside the training: the loop copies the state to the CPU, a thread writes it to the store."""

import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.training.errors import TrainingError
from stoker.training.reading.threads import END_S, ThreadPool
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.checkpoint import CheckpointInfo

_log = logging.getLogger(__name__)
_WAIT_S = 0.5  # between two looks at a checkpoint that is waited for


class Saver:
    """Writes the checkpoints of a run, one at a time and in their order.

    A checkpoint is complete or absent, whenever the process ends: see ``checkpoint``. What a write raises is raised in
    the loop, by the next call.

    Args:
        store: of the run.
        corpus: whose run it is.
        run: its name.
        keep: newest checkpoints to keep, besides the best.
        metrics: the file of the run's metrics, which goes with each checkpoint.
    """

    def __init__(self, store: Store, corpus: str, run: str, *, keep: int, metrics: Path) -> None:
        self._store, self._corpus, self._run, self._keep, self._metrics = store, corpus, run, keep, metrics
        self._pool = ThreadPool(1, "stoker-saver")
        self._writing: tuple[int, Future[None]] | None = None  # its step

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writing is not None and not self._writing[1].done()

    def save(self, info: CheckpointInfo, state: Mapping[str, Any]) -> int | None:  # Any: tensors and plain values
        """Copy the state, and begin to write it. Waits for the checkpoint before; returns that one's step, if any."""
        written = self.wait()
        copied = to_cpu(state)
        self._writing = info.step, self._pool.submit(lambda: self._write(info, copied))
        return written

    def poll(self) -> int | None:
        """The step of the checkpoint that was written since the last call; None if there is none."""
        if self._writing is None or not self._writing[1].done():
            return None
        (step, future), self._writing = self._writing, None
        future.result()
        return step

    def wait(self, longest_s: float = math.inf) -> int | None:
        """Wait until what is being written is there; its step, None if it takes longer."""
        until = time.monotonic() + longest_s
        while self.busy and time.monotonic() < until:
            assert self._writing is not None
            try:
                self._writing[1].exception(timeout=_WAIT_S)  # a bounded wait lets signals through
            except TimeoutError:
                continue
        return self.poll()

    def close(self, longest_s: float = math.inf) -> None:
        """Let the last write end, or leave it after so long. What it raises is logged: the loop may tell another error.

        A store that is out of reach is waited for as long as a training waits, which who interrupts one does not want.
        """
        try:
            self.wait(longest_s)
        except Exception as error:  # noqa: BLE001  # the error of the loop is the one to tell
            _log.warning("%s: the last checkpoint was not saved: %s", self._run, error)
        if self._writing is not None:
            _log.warning("%s: the checkpoint of step %d was not saved: interrupted", self._run, self._writing[0])
            self._writing, longest_s = None, 0.0
        self._pool.close(min(longest_s, END_S))

    def _write(self, info: CheckpointInfo, state: dict[str, Any]) -> None:  # Any: tensors and plain values
        refuse_non_finite(info, state["module"])
        checkpoints.save(self._store, self._corpus, info, state)
        # The bytes of now: the loop goes on writing lines to the file.
        self._store.write(f"{layout.run(self._corpus, self._run)}metrics.jsonl", self._metrics.read_bytes())
        checkpoints.prune(self._store, self._corpus, self._run, keep=self._keep)


def to_cpu(value: Any) -> Any:  # Any: tensors and plain values, nested
    """A copy of all tensors on the CPU: the next step changes the ones that are there."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: to_cpu(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(part) for part in value)
    return value


def refuse_non_finite(info: CheckpointInfo, weights: Mapping[str, Any]) -> None:  # Any: tensors and plain values
    """Raise TrainingError for weights that no run can go on from."""
    for name, tensor in weights.items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise TrainingError(
                f"{info.run}: weights {name} are not finite at step {info.step}, and are not saved; lower "
                "learning_rate; the last checkpoint is from before"
            )
