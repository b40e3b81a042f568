"""What a loader reads: batches by their position, which any thread or process can make."""

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol

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

    def step(self) -> None:
        """Count one batch as handed to the loop."""

    def turn(self) -> None:
        """Begin the next epoch."""

    def batch(self, epoch: int, start: int) -> Any:
        """The batch at a position of an epoch; counts nothing."""

    def settle(self) -> None:
        """Wait until all that was given is proven."""

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""

    def close(self) -> None:
        """End what reads ahead."""


class Batches(Dataset[Any]):
    """What is left of a stream's epoch, batch by batch: for ``DataLoader(Batches(stream), batch_size=None)``.

    Any worker can make any batch. A bare DataLoader hands batches out in order, but it does not count them in the
    stream: call ``stream.step()`` for each, and ``stream.turn()`` behind the last; then a new ``Batches`` is the next
    epoch. What the workers count (``stream.counters``) stays with them; with ``Loader`` it comes home.
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
        if os.getpid() != self._process:
            self._arrive()
        batch = self._stream.batch(self._epoch, self._start + number * self._stream.batch_size)
        told = get_worker_info()
        if number + (told.num_workers if told else 1) >= self._left:  # the last one that this worker makes
            self._stream.settle()
        return batch

    def _arrive(self) -> None:
        """In a process that was forked: connections, locks and threads are those of the other process; begin anew."""
        self._stream = _anew(self._stream)
        self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        self.__dict__.update(state, _process=os.getpid())  # pickled, it has begun anew already


def _anew(part: Any) -> Any:  # Any: what the fields of streams hold
    """The same stream or store, or those in a list or dict, made again of their fields; any other value as it is."""
    if type(part) is dict:
        return {name: _anew(one) for name, one in part.items()}
    if type(part) in (list, tuple):
        return type(part)(_anew(one) for one in part)
    if is_dataclass(part) and not isinstance(part, type) and (hasattr(part, "batch") or hasattr(part, "read")):
        made = {one.name: _anew(getattr(part, one.name)) for one in fields(part) if one.init}
        if "version" in made and hasattr(part, "manifest"):
            made["version"] = part.manifest  # the name may mean another one by now
        return replace(part, **made)
    return part


def pinned(batch: Any) -> Any:  # Any: tensors in tuples, lists and mappings
    """The same batch in pinned memory."""
    if isinstance(batch, torch.Tensor):
        return batch.pin_memory()
    if isinstance(batch, tuple):
        parts = [pinned(one) for one in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if isinstance(batch, list):
        return [pinned(one) for one in batch]
    if isinstance(batch, Mapping):
        return {name: pinned(one) for name, one in batch.items()}
    return batch
