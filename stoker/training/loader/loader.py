"""Batches made ahead by threads or worker processes, in the stream's order and with the stream's state."""

import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any, Literal, NoReturn, get_type_hints

import torch

from stoker.training.errors import TrainingError
from stoker.training.loader.batches import Batches, Stream, pin_memory
from stoker.training.loader.copies import Copied, DeviceCopies
from stoker.training.loader.gpu_idle import DeviceIdle
from stoker.training.loader.processes import batches_of_processes
from stoker.training.reading.threads import ThreadPool, register_fork_reset
from stoker.training.stream.options import check_types

_CLOSE_S = 60.0  # that a pool's threads are waited for, which may be reading from a slow store
__all__ = ["Batches", "Loader", "Stream"]


class Loader:
    """The batches of a stream, in its order and with its state, made ahead of the loop by workers.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import ShardStream
    >>> stream = ShardStream(*sample_corpus(12), batch_size=4, collate=len)
    >>> loader = Loader(stream, workers=2)
    >>> list(loader), loader.state_dict()["epoch"]
    ([4, 4, 4], 1)
    >>> loader.close()
    >>> stream.close()

    Threads (decoding, hashing and reading release the interpreter's lock) start at once and copy nothing; processes are
    for samples that are decoded in Python. An error is raised at its batch's turn. A loop that is left ends the
    workers; the next one goes on where it was left. Processes verify what they have read by the end of the epoch;
    ``stream.wait_verified()`` knows of threads only.

    The state is the stream's, and counts what the loop has had, not what has been made. The state at the end of an
    epoch is that at the beginning of the next: a loop is empty only if the stream has no batch at all. For evaluation,
    which begins anew each time, ``DataLoader(Batches(stream), batch_size=None)`` has no state.

    Args:
        stream: a ShardStream, MixedStream, TextStream, or another with these methods.
        workers: 0: the loop makes its batches itself.
        kind: "threads" or "processes".
        ahead: batches that each worker makes ahead; threads make those of the next epoch, too.
        pin_memory: hand tensors over in pinned memory, if there is CUDA.
        once: make no batch of the next epoch ahead: for evaluation.
        device: hand tensors over on this device; to a GPU the next batch is copied while the loop computes on this one,
            if it is in pinned memory and threads have made it. None: where they are.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        workers: int = 0,
        kind: Literal["threads", "processes"] = "threads",
        ahead: int = 2,
        pin_memory: bool = False,
        once: bool = False,
        device: torch.device | None = None,
    ) -> None:
        options = {"stream": stream, "workers": workers, "kind": kind, "ahead": ahead, "pin_memory": pin_memory}
        options |= {"once": once, "device": device}
        check_types("Loader", get_type_hints(Loader.__init__), options)
        if workers < 0 or ahead < 1:
            raise TrainingError(f"workers {workers}, ahead {ahead}: expected workers 0 or more, ahead 1 or more")
        self.stream = stream
        self._workers, self._kind, self._ahead = workers, kind, ahead
        self._pin = pin_memory and torch.cuda.is_available()
        self._once = once
        self._fresh = True  # no state was loaded, and no batch asked for
        self._pool: ThreadPool | None = None
        self._ending: list[ThreadPool] = []  # of loops that were left
        self._pending: dict[tuple[int, int], Future[Any]] = {}  # by epoch and position
        self._copies = None if device is None else DeviceCopies(device)
        self._copied: dict[tuple[int, int], Copied] = {}  # at most the batch that comes next, by epoch and position
        self._idle = DeviceIdle(stream.counters)
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        """Drop the threads: in a forked process they are those of the parent."""
        self._pool, self._ending, self._pending, self._copied = None, [], {}, {}

    def __len__(self) -> int:
        """Batches of a whole epoch, also in the middle of one, as Lightning counts; ``len(stream)`` are left."""
        return self.stream.batches

    def __iter__(self) -> Iterator[Any]:
        """The rest of this epoch; then the next one begins."""
        stream, counters, self._fresh = self.stream, self.stream.counters, False
        if not len(stream) and stream.batches:
            stream.next_epoch()  # the loop was left at its last batch, as Lightning does, or the state is from there
        batches = self._batches()
        handed_over_at: float | None = None
        ended = False
        try:
            while len(stream):
                asked_at = time.monotonic()
                batch = next(batches)
                waited_s = time.monotonic() - asked_at
                loop_s = 0.0 if handed_over_at is None else asked_at - handed_over_at
                counters.add(batches=1, waited_s=waited_s, loop_s=loop_s)
                stream.advance()
                self._idle.begin()
                handed_over_at = time.monotonic()
                yield batch
                self._idle.end()
                del batch  # or its memory could not be used again before the next one is there
            ended = True
        finally:
            batches.close()
            if not ended:
                self._pause()
        stream.wait_verified()
        stream.next_epoch()

    def __getitem__(self, number: object) -> NoReturn:
        """Raise TrainingError: what torch's DataLoader would do with a Loader."""
        raise TrainingError(
            f"a Loader has no [{number!r}]: it stands in place of torch's DataLoader, `for batch in loader`"
        )

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """The stream's state."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Set the stream's state; before iterating."""
        self.stream.load_state_dict(state)
        self._pending.clear()  # what was made ahead may be of another order
        self._copied.clear()
        self._fresh = False

    @property
    def sampler(self) -> "Loader":
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch, if the loader has no state yet: none was loaded, and no batch asked for.

        Lightning restores no state of a loader from a checkpoint of an epoch's end, but says which epoch comes then.
        """
        if self._fresh and not self.stream.delivered:
            self.stream.epoch = max(self.stream.epoch, epoch)

    def close(self, longest_s: float = _CLOSE_S) -> None:
        """End the threads, waiting at most so long; what they made ahead is dropped."""
        self._pause()
        self._pending.clear()
        self._copied.clear()
        for pool in self._ending:
            pool.close(wait_s=longest_s)
        self._ending.clear()

    def _pause(self) -> None:
        """Let the threads end; what they have made, and are making, is kept for the next loop."""
        self._pending = {position: future for position, future in self._pending.items() if not future.cancel()}
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(wait_s=0)
            self._ending = [pool, *(old for old in self._ending if old.alive)]

    def _batches(self) -> Generator[Any, None, None]:
        if self._workers and self._kind == "threads":
            return self._made_by_threads()
        if not self._workers:
            batches = self._made_by_loop()
        else:
            batches = batches_of_processes(self.stream, workers=self._workers, ahead=self._ahead, pin=self._pin)
        return batches if self._copies is None else self._moved(batches, self._copies)

    def _made_by_loop(self) -> Generator[Any, None, None]:
        while True:
            yield _make_batch(self.stream, self._pin, self.stream.epoch, self.stream.delivered)

    def _moved(self, batches: Generator[Any, None, None], copies: DeviceCopies) -> Generator[Any, None, None]:
        with closing(batches):
            for batch in batches:
                yield copies.finish(copies.start(batch))
                del batch

    def _made_by_threads(self) -> Generator[Any, None, None]:
        while True:
            positions = self._next_positions()
            for old in [position for position in self._pending if position not in positions]:
                self._pending.pop(old).cancel()  # the state was set, or another epoch was begun
                self._copied.pop(old, None)
            if self._pool is None:
                self._pool = ThreadPool(self._workers, "stoker-loader")
            for position in positions:
                if position not in self._pending:
                    task = partial(_make_batch, self.stream, self._pin, *position)
                    self._pending[position] = self._pool.submit(task)
            self.stream.counters.add(depth=sum(future.done() for future in self._pending.values()))
            self._pending[positions[0]].exception()  # waits; an interrupt leaves it there for the next loop
            if self._copies is None:
                yield self._pending.pop(positions[0]).result()
            else:
                yield self._on_device(positions, self._copies)

    def _on_device(self, positions: list[tuple[int, int]], copies: DeviceCopies) -> Any:  # Any: the stream's batch
        """The batch of the first position, which is made, on the device; the copy of the next one has begun."""
        made, copied = self._pending.pop(positions[0]), self._copied.pop(positions[0], None)
        batch = copies.finish(copied or copies.start(made.result()))
        if len(positions) > 1 and self._pending[positions[1]].done() and not self._pending[positions[1]].exception():
            self._copied[positions[1]] = copies.start(self._pending[positions[1]].result())
        return batch

    def _next_positions(self) -> list[tuple[int, int]]:
        """Epoch and position of the next batch and of those that are made ahead."""
        stream, left = self.stream, len(self.stream)
        positions = []
        for number in range(self._workers * self._ahead + 1):
            if number < left:
                positions.append((stream.epoch, stream.delivered + number * stream.batch_size))
            elif number - left < stream.batches and not self._once:
                positions.append((stream.epoch + 1, (number - left) * stream.batch_size))
        return positions


def _make_batch(stream: Stream, pin: bool, epoch: int, start: int) -> Any:  # Any: the stream's batch
    batch = stream.batch(epoch, start)
    return pin_memory(batch) if pin else batch
