"""This process's rank, and the weight of its share of a batch, for distributed data parallel training.

Every rank of a stream has the same number of batches, so that the ranks' collective calls always match. With
``last="short"`` the last batch of an epoch is short, and a rank's share of it may be empty: ``make`` or ``collate`` is
then called with no samples, and the loop must do its step with the empty result, or the other ranks wait for it. With
``last="pad"`` all shares have the same size; the samples at the end of a share that are there for the second time are
counted by ``padded``.

``gradient_scale`` and ``padded`` speak of the batch that the loop had last. They raise TrainingError where it had none:
before the first of an epoch, after a state was loaded, or where another stream made the batches.
"""

from typing import Protocol

import torch.distributed

from stoker.training.errors import TrainingError


class DistributedStream(Protocol):
    """A stream of samples whose batches are divided among ranks."""

    batch_size: int
    delivered: int
    last_start: int | None
    world_size: int

    def padding(self, start: int) -> int:
        """How many samples at the end of this rank's share of the batch at a position are repeats (padding)."""


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of ranks, from torch.distributed; (0, 1) where it is not initialised.

    >>> from stoker.training import rank_and_world
    >>> rank_and_world()
    (0, 1)
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def gradient_scale(stream: DistributedStream) -> float:
    """The factor for the sum of the losses of a rank's samples in the last batch.

    Distributed data parallel averages the ranks' gradients. With this factor the average is the gradient of the mean
    loss over the global batch, whatever the sizes of the shares: the same on any number of ranks.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import ShardStream, gradient_scale
    >>> stream = ShardStream(*sample_corpus(12), batch_size=8, rank=0, world_size=2)
    >>> [gradient_scale(stream) for batch in stream]  # 2 ranks / 8 samples, then 2 ranks / 4 samples
    [0.25, 0.5]
    >>> stream.close()

    Args:
        stream: of this rank. Raises TrainingError if the loop has had no batch of it.
    """
    return stream.world_size / (stream.delivered - _start(stream))


def padded(stream: DistributedStream) -> int:
    """How many samples at the end of this rank's share of the last batch are repeated: leave them out of the loss.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import ShardStream, padded
    >>> stream = ShardStream(*sample_corpus(9), batch_size=8, last="pad", rank=0, world_size=2)
    >>> [(len(batch), padded(stream)) for batch in stream]
    [(4, 0), (4, 3)]
    >>> stream.close()

    Args:
        stream: of this rank. Raises TrainingError if the loop has had no batch of it.
    """
    return stream.padding(_start(stream))


def _start(stream: DistributedStream) -> int:
    """The position of the batch that the loop had last."""
    if stream.last_start is None:
        raise TrainingError(
            "the loop has had no batch of this stream in this epoch yet: call gradient_scale and padded inside "
            "`for batch in loader`, with the stream of the loader"
        )
    return stream.last_start
