"""Which rank this process is, and what its share of a batch weighs among the others.

Every rank of a stream has the same number of batches, so that the ranks' collective calls always meet. Where the last
batch of an epoch is short (``last="short"``), a share of it may be empty: ``make`` or ``collate`` is called with no
samples, and the loop goes through its step with what they make of that, or the other ranks would wait for it. With
``last="pad"`` the shares are as large as ever, and ``padded`` tells how many at the end are there twice.

What is told here is of the batch that the loop has just had, in an epoch that was begun with the same batch_size.
"""

from typing import Protocol

import torch.distributed


class Shared(Protocol):
    """A stream of samples whose batches are shared by ranks."""

    batch_size: int
    delivered: int
    world_size: int

    def padding(self, start: int) -> int:
        """How many samples at the end of this rank's share of the batch at a position are there for the second time."""


def rank_and_world() -> tuple[int, int]:
    """This process's rank and how many there are, as torch.distributed says; (0, 1) where it is not initialised.

    >>> rank_and_world()
    (0, 1)
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def gradient_scale(stream: Shared) -> float:
    """By what a rank multiplies the sum of its samples' losses in the batch that the loop has just had.

    Distributed data parallel takes the mean of the ranks' gradients. So scaled, that is the gradient of the mean loss
    of the global batch, whatever the sizes of the shares: the same on any number of ranks.
    """
    return stream.world_size / (stream.delivered - _start(stream))


def padded(stream: Shared) -> int:
    """How many samples at the end of this rank's share of that batch are there for the second time: to be left out."""
    return stream.padding(_start(stream))


def _start(stream: Shared) -> int:
    return (stream.delivered - 1) // stream.batch_size * stream.batch_size
