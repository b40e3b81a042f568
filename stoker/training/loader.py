"""Batches made ahead by threads or worker processes, in the stream's order and with the stream's state."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from stoker.storage.errors import StokerError
from stoker.training.counters import Counters
from stoker.training.errors import TrainingError
from stoker.training.idle import DeviceIdle


class Stream(Protocol):
    """What a loader reads: batches that can be had by their position, by many threads at once."""

    epoch: int
    delivered: int
    batch_size: int
    counters: Counters

    def __len__(self) -> int:
        """Batches that are left of this epoch."""

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""

    def step(self) -> None:
        """Count one batch as handed to the loop."""

    def turn(self) -> None:
        """Begin the next epoch."""

    def batch(self, epoch: int, start: int) -> Any:
        """The batch at a position of an epoch; counts nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""

    def close(self) -> None:
        """End what reads ahead."""


class Batches(Dataset[Any]):
    """What is left of a stream's epoch, batch by batch: for ``DataLoader(Batches(stream), batch_size=None)``.

    Any worker can make any batch. A bare DataLoader hands batches out in order, but it does not count them in the
    stream: call ``stream.step()`` for each, and ``stream.turn()`` behind the last.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._epoch, self._start, self._left = stream.epoch, stream.delivered, len(stream)

    def __len__(self) -> int:
        return self._left

    def __getitem__(self, number: int) -> Any:
        if not 0 <= number < self._left:
            raise IndexError(number)
        return self._stream.batch(self._epoch, self._start + number * self._stream.batch_size)


class Loader:
    """The same batches in the same order as the stream, made ahead by ``workers``.

    ``threads`` (decoding, hashing and reading let go of the interpreter's lock) start at once and copy nothing;
    ``processes`` are for samples that are decoded in Python. 0 workers: the loop makes its batches itself. Up to
    ``workers * ahead`` batches are made ahead, also of the next epoch. An error is raised at its batch's turn.

    The state is the stream's, and counts what the loop has had, not what has been made.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        workers: int = 0,
        kind: Literal["threads", "processes"] = "threads",
        ahead: int = 2,
        pin_memory: bool = False,
    ) -> None:
        if workers < 0 or ahead < 1 or kind not in ("threads", "processes"):
            raise TrainingError(
                f"workers {workers}, ahead {ahead}, kind {kind!r}: expected workers 0 or more, ahead 1 or more, and "
                "threads or processes"
            )
        self.stream = stream
        self._workers, self._kind, self._ahead = workers, kind, ahead
        self._pin = pin_memory and torch.cuda.is_available()
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[tuple[int, int], Future[Any]] = {}  # by epoch and position
        self._idle = DeviceIdle(stream.counters)

    def __len__(self) -> int:
        """Batches that are left of this epoch."""
        return len(self.stream)

    def __iter__(self) -> Iterator[Any]:
        """The rest of this epoch; then the next one begins."""
        batches = self._by_processes() if self._workers and self._kind == "processes" else self._by_threads()
        left = None
        try:
            while len(self.stream):
                asked = time.monotonic()
                batch = next(batches)
                got = time.monotonic()
                looped = 0.0 if left is None else asked - left
                self.stream.counters.add(batches=1, waited_s=got - asked, loop_s=looped)
                self.stream.step()
                self._idle.begin()
                left = time.monotonic()
                yield batch
                self._idle.end()
                del batch  # or its memory could not be used again before the next one is there
        finally:
            batches.close()
        self.stream.turn()

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """The stream's state."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Set the stream's state; before iterating."""
        self.stream.load_state_dict(state)

    def close(self) -> None:
        """End the threads; what they made ahead is dropped."""
        pool, self._pool = self._pool, None
        for coming in self._coming.values():
            coming.cancel()
        self._coming.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _by_threads(self) -> "Generator":
        while True:
            place = (self.stream.epoch, self.stream.delivered)
            if not self._workers:
                yield self._made(*place)
                continue
            wanted = self._places()
            for old in [one for one in self._coming if one not in wanted]:
                self._coming.pop(old).cancel()  # the state was set, or another epoch was begun
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="stoker-loader")
            for one in wanted:
                if one not in self._coming:
                    self._coming[one] = self._pool.submit(self._made, *one)
            self.stream.counters.add(depth=sum(coming.done() for coming in self._coming.values()))
            yield self._coming.pop(place).result()

    def _places(self) -> list[tuple[int, int]]:
        """Epoch and position of the next batch and of those that are made ahead."""
        stream, left = self.stream, len(self.stream)
        found = []
        for number in range(self._workers * self._ahead + 1):
            if number < left:
                found.append((stream.epoch, stream.delivered + number * stream.batch_size))
            elif number - left < stream.batches:
                found.append((stream.epoch + 1, (number - left) * stream.batch_size))
        return found

    def _made(self, epoch: int, start: int) -> Any:  # Any: the stream's batch
        batch = self.stream.batch(epoch, start)
        return _pinned(batch) if self._pin else batch

    def _by_processes(self) -> "Generator":
        # A generator of its own: DataLoader draws a seed at each start, and drawn from torch's common random numbers it
        # would make a resumed run differ from one that was not stopped.
        own = torch.Generator()
        made: DataLoader[_Made] = DataLoader(
            _Watched(self.stream),
            batch_size=None,
            shuffle=False,
            generator=own,
            num_workers=self._workers,
            prefetch_factor=self._ahead,
            pin_memory=self._pin,
            # Not forked: a forked process would inherit locks of threads that read ahead.
            multiprocessing_context="forkserver",
        )
        batches = iter(made)
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
            self.stream.counters.add(**found.sums)
            if found.error is not None:
                raise found.error
            yield found.batch


Generator = Any  # of the stream's batches; closed by the loader


class _Made:
    """What a worker process gives: a batch or an error, and what was counted meanwhile."""

    def __init__(self, batch: Any, sums: dict[str, float], error: StokerError | None) -> None:
        self.batch, self.sums, self.error = batch, sums, error

    def pin_memory(self) -> "_Made":
        """Called by DataLoader."""
        self.batch = _pinned(self.batch)
        return self


class _Watched(Batches):
    """Batches as ``_Made``: errors come home whole, and counts are not left in the worker."""

    def __getitem__(self, number: int) -> _Made:
        before = self._stream.counters.sums()
        batch, failed = None, None
        try:
            batch = super().__getitem__(number)
        except StokerError as error:
            failed = error
        after = self._stream.counters.sums()
        return _Made(batch, {name: value - before.get(name, 0) for name, value in after.items()}, failed)


def _pinned(batch: Any) -> Any:  # Any: tensors in tuples, lists and mappings
    """The same batch in pinned memory."""
    if isinstance(batch, torch.Tensor):
        return batch.pin_memory()
    if isinstance(batch, tuple):
        parts = [_pinned(one) for one in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if isinstance(batch, list):
        return [_pinned(one) for one in batch]
    if isinstance(batch, Mapping):
        return {name: _pinned(one) for name, one in batch.items()}
    return batch
