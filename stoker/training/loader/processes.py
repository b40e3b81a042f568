"""Batches made by worker processes, through torch's own DataLoader; errors and counts of the workers come with them."""

import multiprocessing
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from stoker.storage.errors import StokerError
from stoker.storage.plural import plural
from stoker.training.errors import TrainingError
from stoker.training.loader.batches import Batches, Stream, pin_memory
from stoker.training.stream.skipped import SampleId


class WorkerResult:
    """A worker's batch or error, and what the worker counted since its last result."""

    def __init__(self, batch: Any, sums: dict[str, float], skipped: list[SampleId], error: StokerError | None) -> None:
        self.batch, self.sums, self.skipped, self.error = batch, sums, skipped, error

    def pin_memory(self) -> "WorkerResult":
        """Called by DataLoader."""
        self.batch = pin_memory(self.batch)
        return self


class _CountingBatches(Batches):
    """Batches as WorkerResults."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._reported = stream.counters.sums()

    def __getitem__(self, number: int) -> WorkerResult:
        batch, failure = None, None
        try:
            batch = super().__getitem__(number)
        except StokerError as error:
            failure = error  # passed on whole: DataLoader would raise another error, with a traceback as its message
            if error.__cause__ is not None and not isinstance(error.__cause__, StokerError):
                # Of what decode raised: pickling drops the cause, and it says which line it was.
                failure.add_note("".join(traceback.format_exception(error.__cause__)))
        before, self._reported = self._reported, self._stream.counters.sums()
        sums = {name: value - before.get(name, 0) for name, value in self._reported.items()}
        skipped = getattr(self._stream, "skipped", None)  # texts skip nothing
        new = [] if skipped is None else skipped.take_new()
        return WorkerResult(
            batch, {name: value for name, value in sums.items() if value and name != "skipped"}, new, failure
        )


def batches_of_processes(
    stream: Stream, *, workers: int, ahead: int, pin: bool
) -> Generator[Any, None, None]:  # Any: batches
    """The batches that are left of the stream's epoch; to be closed. Raises TrainingError when a worker dies."""
    # A generator of its own: DataLoader draws a seed at each start, and drawn from torch's common random numbers it
    # would make a resumed run differ from one that was not stopped.
    generator = torch.Generator()
    # Not forked: a forked process would inherit locks of threads that read ahead. Workers have what the fork server has
    # imported: they start in a tenth of a second instead of seconds, and they start with each epoch.
    _check_main_module()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "torch", __name__])
    loader: DataLoader[WorkerResult] = DataLoader(
        _CountingBatches(stream),
        batch_size=None,
        shuffle=False,
        generator=generator,
        num_workers=workers,
        prefetch_factor=ahead,
        pin_memory=pin,
        multiprocessing_context=context,
    )
    results, begun = iter(loader), False
    try:
        while True:
            try:
                result = next(results)
            except StopIteration:
                return
            except RuntimeError as error:
                if "exited unexpectedly" not in str(error) and "killed by signal" not in str(error):
                    raise
                raise TrainingError(
                    f"{' '.join(str(error).split())[:200]}; {_why_workers_ended(begun)}; the state counts what the "
                    "loop had: resume from it"
                ) from error
            begun = True
            stream.counters.add(**result.sums)
            if result.skipped:
                stream.counters.add(skipped=stream.skipped.add(result.skipped))  # type: ignore[attr-defined]  # it has some
            if result.error is not None:
                raise result.error
            _check_skip_budget(stream)
            yield result.batch
            del result
    finally:
        del results, loader  # ends the workers, also where a traceback holds this frame


_GUARD = 'put what the main module does under `if __name__ == "__main__":`, because each worker imports that module'


def _check_main_module() -> None:
    """Raise TrainingError in a worker that imports the main module, whose own training begins anew there."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise TrainingError(f"worker processes are started while a worker starts: {_GUARD}")


def _why_workers_ended(begun: bool) -> str:
    """What is most likely, and what to do."""
    if not begun and _lacks_guard():
        return _GUARD
    return "what it printed says why; if it printed nothing, memory may have run out: then use fewer workers"


def _lacks_guard() -> bool:
    """Whether the main module is a script that does all of its work when it is imported."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    try:
        return path is not None and "__name__" not in Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _check_skip_budget(stream: Stream) -> None:
    """Check the skips of all workers together: each worker knows only its own."""
    skipped, budget = getattr(stream, "skipped", ()), getattr(stream, "skip_budget", None)  # texts skip nothing
    if budget is not None and len(skipped) > budget:
        raise TrainingError(
            f"{plural(len(skipped), 'sample')} skipped, more than the budget of {budget} (option skip_budget)"
        )
