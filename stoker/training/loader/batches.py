"""What a loader reads: batches by their position, which any thread or process can make."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import torch
from torch.utils.data import Dataset, get_worker_info

from stoker.training.reading.counters import Counters


class Stream(Protocol):
    """Batches that can be had by their position, by many threads at once; its state counts what the loop had."""

    epoch: int
    delivered: int
    batch_size: int
    counters: Counters

    def __len__(self) -> int:
        """Batches that are left of this epoch."""

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""

    def advance(self) -> None:
        """Count one batch as handed to the loop."""

    def next_epoch(self) -> None:
        """Begin the next epoch."""

    def batch(self, epoch: int, start: int) -> Any:
        """The batch at a position of an epoch. Does not move the stream."""

    def wait_verified(self) -> None:
        """Wait until all samples that were handed out are verified."""

    def state_dict(self) -> dict[str, Any]:
        """The stream's position."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""

    def reopen(self) -> Self:
        """The same stream at the beginning, with connections, locks and threads of its own: for a forked process."""

    def close(self) -> None:
        """End the threads that read ahead."""


class Batches(Dataset[Any]):
    """What is left of a stream's epoch as a map-style dataset of batches, for torch's own DataLoader.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import ShardStream
    >>> from torch.utils.data import DataLoader
    >>> stream = ShardStream(*sample_corpus(12), batch_size=4, shuffle=False, collate=len)
    >>> for batch in DataLoader(Batches(stream), batch_size=None):
    ...     stream.advance()
    >>> batch, stream.delivered
    (4, 12)
    >>> stream.next_epoch()
    >>> stream.close()

    Any worker can make any batch. A bare DataLoader hands batches out in order, but it does not count them in the
    stream: call ``stream.advance()`` for each, and ``stream.next_epoch()`` behind the last; then a new ``Batches`` is
    the next epoch. What worker processes count (``stream.counters``) stays with them; with ``Loader`` it is added here.

    Args:
        stream: a ShardStream, MixedStream, TextStream, or another with these methods.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._epoch, self._start, self._left = stream.epoch, stream.delivered, len(stream)
        self._process = os.getpid()

    def __len__(self) -> int:
        return self._left

    def __getitem__(self, number: int) -> Any:
        if not 0 <= number < self._left:
            raise IndexError(number)
        if os.getpid() != self._process:  # forked: connections, locks and threads are those of the parent
            self._stream, self._process = self._stream.reopen(), os.getpid()
        batch = self._stream.batch(self._epoch, self._start + number * self._stream.batch_size)
        worker = get_worker_info()
        if number + (worker.num_workers if worker else 1) >= self._left:  # the last one that this worker makes
            self._stream.wait_verified()
        return batch

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        self.__dict__.update(state, _process=os.getpid())  # an unpickled stream has been opened anew already


def pin_memory(batch: Any) -> Any:  # Any: tensors in tuples, lists and mappings
    """The same batch in pinned memory."""
    return of_tensors(batch, lambda tensor: tensor.pin_memory())


def of_tensors(batch: Any, work: Callable[[torch.Tensor], torch.Tensor]) -> Any:  # Any: as above
    """The same batch, with what ``work`` makes of each tensor in its place."""
    if isinstance(batch, torch.Tensor):
        return work(batch)
    if isinstance(batch, tuple):
        parts = [of_tensors(part, work) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if isinstance(batch, list):
        return [of_tensors(part, work) for part in batch]
    if isinstance(batch, Mapping):
        return {name: of_tensors(part, work) for name, part in batch.items()}
    return batch
