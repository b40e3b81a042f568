"""How the ranks hold the network that they train: each a copy of it, or each a shard of its weights.

Copies: distributed data parallel (DDP), Li et al., "PyTorch Distributed", VLDB 2020. Shards: see ``fsdp``.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.ranks import Ranks, SynchronisedNorm, explained, synchronise_norms


class Parallel(Protocol):
    """Where a network's weights are, and how the ranks exchange its gradients."""

    @property
    def build_device(self) -> torch.device:
        """Where a network is built and its checkpoint loaded, before ``place``."""

    @property
    def evaluates(self) -> bool:
        """Whether this rank computes with the network in evaluations."""

    @property
    def name(self) -> str:
        """Behind the number of ranks, where a run says how it computes."""

    def place(self, module: nn.Module) -> None:
        """Put the weights of a network where they stay. Raises TrainingError for one that cannot be trained so."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """The network, placed, whose gradients are the mean over all ranks. Raises TrainingError as ``place``."""

    def computing(self) -> AbstractContextManager[None]:
        """Around each forward pass and loss of training. Raises TrainingError as ``place``."""

    def no_exchange(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """A context for all parts of a batch but the last: gradients may be exchanged once for all of them."""

    def gather(self, state: Any) -> Any:  # Any: tensors and plain values, nested
        """On rank 0 the state as one process would have it. All ranks must ask for it together."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Each rank has a copy of the network; a process alone has the network itself. See Parallel."""

    ranks: Ranks
    device: torch.device
    name: str = ""

    @property
    def build_device(self) -> torch.device:
        """The device to train on."""
        return self.device

    @property
    def evaluates(self) -> bool:
        """Rank 0 does so alone."""
        return self.ranks.first

    def place(self, module: nn.Module) -> None:
        """They are there."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """By torch's DistributedDataParallel."""
        if self.ranks.world_size == 1:
            return module
        synchronise_norms(module)
        with explained(otherwise="this network cannot be trained on several ranks"):
            return DistributedDataParallel(module, forward_sync_buffers=_has_buffers_by_rank(module))

    def computing(self) -> AbstractContextManager[None]:
        """As the network does by itself."""
        return nullcontext()

    def no_exchange(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Gradients are summed up on each rank alone."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def gather(self, state: Any) -> Any:  # Any: as of Parallel
        """It is the same on all ranks."""
        return state


def _has_buffers_by_rank(module: nn.Module) -> bool:
    """Whether ranks may come to other buffers: then those of rank 0, which are saved, go to all before each pass.

    Synchronised norms of all ranks see the same batch, and layers of Stoker's have none that change.
    """
    others = (
        one
        for one in module.modules()
        if not (isinstance(one, SynchronisedNorm) or type(one).__module__.startswith("stoker."))
    )
    return any(True for one in others for _ in one.buffers(recurse=False))


def parallel_of(options: TrainOptions, ranks: Ranks, device: torch.device) -> Parallel:
    """How the ranks of a run hold its network. Raises TrainingError."""
    if not options.fsdp or ranks.world_size == 1:
        return Copies(ranks, device)
    from stoker.training.run.steps.fsdp import shards  # seconds, for torch.distributed.fsdp

    return shards(ranks, device)
