"""Batches made ahead by threads or worker processes, in the stream's order and with the stream's state."""

import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal

import torch

from stoker.training.errors import TrainingError
from stoker.training.loader.batches import Batches, Stream, pinned
from stoker.training.loader.gpu_idle import DeviceIdle
from stoker.training.loader.processes import by_processes
from stoker.training.reading.threads import Threads, after_fork

_CLOSE_S = 60.0  # to wait at most, for threads that may be reading from a slow store
__all__ = ["Batches", "Loader", "Stream"]


class Loader:
    """The same batches in the same order as the stream, made ahead by ``workers``.

    ``threads`` (decoding, hashing and reading let go of the interpreter's lock) start at once and copy nothing;
    ``processes`` are for samples that are decoded in Python. 0 workers: the loop makes its batches itself. Up to
    ``workers * ahead`` batches are made ahead, by threads also of the next epoch. An error is raised at its batch's
    turn. Processes prove what they gave by the end of the epoch; ``stream.settle()`` knows of threads alone. A loop
    that is left ends the workers; the next one goes on where it was left.

    The state is the stream's, and counts what the loop has had, not what has been made. That of the end of an epoch is
    that of the beginning of the next: no loop is empty but that over a stream that has no batch. For evaluation, which
    begins anew each time, ``DataLoader(Batches(stream), batch_size=None)`` has no state.
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
        self._fresh = True
        self._threads: Threads | None = None
        self._ending: list[Threads] = []  # of loops that were left
        self._coming: dict[tuple[int, int], Future[Any]] = {}  # by epoch and position
        self._idle = DeviceIdle(stream.counters)
        after_fork(self)

    def begin_anew(self) -> None:
        """In a process that was forked the threads are those of the other process."""
        self._threads, self._ending, self._coming = None, [], {}

    def __len__(self) -> int:
        """Batches of a whole epoch, also in the middle of one, as Lightning counts; ``len(stream)`` are left."""
        return self.stream.batches

    def __iter__(self) -> Iterator[Any]:
        """The rest of this epoch; then the next one begins."""
        stream, counters, self._fresh = self.stream, self.stream.counters, False
        if not len(stream) and stream.batches:
            stream.turn()  # the last loop was left at its last batch, as Lightning does, or the state is from there
        batches = self._batches()
        left: float | None = None
        over = False
        try:
            while len(stream):
                asked = time.monotonic()
                batch = next(batches)
                got = time.monotonic()
                counters.add(batches=1, waited_s=got - asked, loop_s=0.0 if left is None else asked - left)
                stream.step()
                self._idle.begin()
                left = time.monotonic()
                yield batch
                self._idle.end()
                del batch  # or its memory could not be used again before the next one is there
            over = True
        finally:
            batches.close()
            if not over:
                self._pause()
        stream.settle()
        stream.turn()

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """The stream's state."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Set the stream's state; before iterating."""
        self.stream.load_state_dict(state)
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

    def close(self) -> None:
        """End the threads; what they made ahead is dropped."""
        self._pause()
        self._coming.clear()
        for threads in self._ending:
            threads.close(wait_s=_CLOSE_S)
        self._ending.clear()

    def _pause(self) -> None:
        """Let the threads end; what they have made, and are making, is kept for the next loop."""
        self._coming = {place: coming for place, coming in self._coming.items() if not coming.cancel()}
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.close(wait_s=0)
            self._ending = [threads, *(one for one in self._ending if one.alive)]

    def _batches(self) -> Generator[Any, None, None]:
        if not self._workers:
            return self._by_loop()
        if self._kind == "threads":
            return self._by_threads()
        return by_processes(self.stream, workers=self._workers, ahead=self._ahead, pin=self._pin)

    def _by_loop(self) -> Generator[Any, None, None]:
        while True:
            yield _made(self.stream, self._pin, self.stream.epoch, self.stream.delivered)

    def _by_threads(self) -> Generator[Any, None, None]:
        while True:
            wanted = self._places()
            for old in [one for one in self._coming if one not in wanted]:
                self._coming.pop(old).cancel()  # the state was set, or another epoch was begun
            if self._threads is None:
                self._threads = Threads(self._workers, "stoker-loader")
            for one in wanted:
                if one not in self._coming:
                    self._coming[one] = self._threads.call(partial(_made, self.stream, self._pin, *one))
            self.stream.counters.add(depth=sum(coming.done() for coming in self._coming.values()))
            self._coming[wanted[0]].exception()  # waits; an interrupt leaves it there for the next loop
            yield self._coming.pop(wanted[0]).result()

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


def _made(stream: Stream, pin: bool, epoch: int, start: int) -> Any:  # Any: the stream's batch
    batch = stream.batch(epoch, start)
    return pinned(batch) if pin else batch
