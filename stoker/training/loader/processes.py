"""Batches made by worker processes, through torch's own DataLoader: errors and counts come home with them."""

import multiprocessing
from collections.abc import Generator
from typing import Any

import torch
from torch.utils.data import DataLoader

from stoker.storage.errors import StokerError
from stoker.training.errors import TrainingError
from stoker.training.loader.batches import Batches, Stream, pinned


class Made:
    """What a worker process gives: a batch or an error, and what was counted there since it gave the last."""

    def __init__(self, batch: Any, sums: dict[str, float], error: StokerError | None) -> None:
        self.batch, self.sums, self.error = batch, sums, error

    def pin_memory(self) -> "Made":
        """Called by DataLoader."""
        self.batch = pinned(self.batch)
        return self


class _Watched(Batches):
    """Batches as ``Made``."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._told = stream.counters.sums()

    def __getitem__(self, number: int) -> Made:
        batch, failed = None, None
        try:
            batch = super().__getitem__(number)
        except StokerError as error:
            failed = error  # whole; DataLoader would make another of it, with a traceback for a message
        told, self._told = self._told, self._stream.counters.sums()
        sums = {name: value - told.get(name, 0) for name, value in self._told.items()}
        return Made(batch, {name: value for name, value in sums.items() if value}, failed)


def by_processes(stream: Stream, *, workers: int, ahead: int, pin: bool) -> Generator[Any, None, None]:  # Any: batches
    """The batches that are left of the stream's epoch; to be closed. Raises TrainingError when a worker dies."""
    # A generator of its own: DataLoader draws a seed at each start, and drawn from torch's common random numbers it
    # would make a resumed run differ from one that was not stopped.
    own = torch.Generator()
    # Not forked: a forked process would inherit locks of threads that read ahead. What the server of forks has imported
    # its workers have: they start in a tenth of a second instead of seconds, and they start with each epoch.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "torch", __name__])
    made: DataLoader[Made] = DataLoader(
        _Watched(stream),
        batch_size=None,
        shuffle=False,
        generator=own,
        num_workers=workers,
        prefetch_factor=ahead,
        pin_memory=pin,
        multiprocessing_context=context,
    )
    batches = iter(made)
    try:
        while True:
            try:
                found = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "exited unexpectedly" not in str(error) and "killed by signal" not in str(error):
                    raise
                raise TrainingError(
                    f"{' '.join(str(error).split())[:200]}; the state counts what the loop had: resume from it, with "
                    "fewer workers if memory ran out"
                ) from error
            stream.counters.add(**found.sums)
            if found.error is not None:
                raise found.error
            _check_budget(stream, found)
            yield found.batch
            del found
    finally:
        del batches, made  # ends the workers, also where a traceback holds this frame


def _check_budget(stream: Stream, found: Made) -> None:
    """Each worker counts only its own skips since it began; all of them together have one budget."""
    if not found.sums.get("skipped"):
        return
    skipped, budget = stream.counters.sums()["skipped"], getattr(stream, "skip_budget", None)  # texts skip nothing
    if budget is not None and skipped > budget:
        raise TrainingError(f"{int(skipped)} samples were skipped, more than the budget of {budget}")
