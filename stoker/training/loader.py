"""A stream read by worker processes, through torch's own DataLoader."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset


class Stream(Protocol):
    """What a loader reads: batches that can be had by their position."""

    epoch: int
    delivered: int
    batch_size: int

    def __len__(self) -> int:
        """Batches that are left of this epoch."""

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


class _Batches(Dataset[Any]):
    """The batches of an epoch by their number: any worker can make any of them."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._epoch, self._start, self._left = stream.epoch, stream.delivered, len(stream)

    def __len__(self) -> int:
        return self._left

    def __getitem__(self, number: int) -> Any:
        return self._stream.batch(self._epoch, self._start + number * self._stream.batch_size)


class Loader:
    """The same batches in the same order as the stream, made by ``workers`` processes.

    Its state is the stream's, and counts what the loop has had, not what the workers have made.
    """

    def __init__(self, stream: Stream, *, workers: int = 0, ahead: int = 2, pin_memory: bool = False) -> None:
        self.stream = stream
        self._options: dict[str, Any] = {"num_workers": workers, "pin_memory": pin_memory}  # Any: torch's own
        if workers:
            # Not forked: a forked process would inherit locks of threads that read ahead.
            self._options |= {"prefetch_factor": ahead, "multiprocessing_context": "forkserver"}

    def __len__(self) -> int:
        """Batches that are left of this epoch."""
        return len(self.stream)

    def __iter__(self) -> Iterator[Any]:
        """The rest of this epoch; then the next one begins."""
        # A generator of its own: DataLoader draws a seed at each start, and drawn from torch's common random numbers it
        # would make a resumed run differ from one that was not stopped.
        own = torch.Generator()
        for batch in DataLoader(_Batches(self.stream), batch_size=None, shuffle=False, generator=own, **self._options):
            self.stream.step()
            yield batch
        self.stream.turn()

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """The stream's state."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Set the stream's state; before iterating."""
        self.stream.load_state_dict(state)
