"""Tensors of which each rank holds a shard (torch's DTensor), beside those that are whole.

Imports torch.distributed.tensor only where there are shards: it takes seconds.
"""

from typing import Any, cast

import torch
from torch import Tensor


def is_shard(tensor: Tensor) -> bool:
    """Whether the other ranks hold the rest of a tensor."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, in the same memory; a whole tensor as it is."""
    return cast(Any, tensor).to_local() if is_shard(tensor) else tensor  # Any: a DTensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor. All ranks must ask for it together."""
    return cast(Any, tensor).full_tensor() if is_shard(tensor) else tensor  # Any: as above


def whole_of(own: Tensor, tensor: Tensor) -> Tensor:
    """The whole of what each rank has computed of its shard of a tensor. All ranks must ask for it together."""
    if not is_shard(tensor):
        return own
    from torch.distributed.tensor import DTensor

    of = cast(Any, tensor)  # Any: a DTensor
    return DTensor.from_local(
        own, of.device_mesh, of.placements, run_check=False, shape=of.shape, stride=of.stride()
    ).full_tensor()


def shard_like(tensor: Tensor, weights: Tensor) -> Tensor:
    """This rank's shard of a whole tensor, divided as these weights are: along their first dimension."""
    if not is_shard(weights) or not tensor.dim():
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placed = cast(Any, weights)  # Any: a DTensor
    with torch.no_grad():
        # Every rank has the whole tensor: none has to send it. The copy lets go of the memory of the whole.
        return distribute_tensor(tensor, placed.device_mesh, placed.placements, src_data_rank=None).clone()
