"""Each rank holds a shard of the weights, gradients and optimiser state (FSDP), for networks too large for one card.

A block's weights are gathered from all ranks where it computes, and given back behind it. Zhao et al., "PyTorch FSDP:
experiences on scaling fully sharded data parallel", VLDB 2023; Rajbhandari et al., "ZeRO: memory optimizations toward
training trillion parameter models", SC 2020.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from stoker.training.errors import TrainingError
from stoker.training.run.steps.ranks import Ranks, explained, synchronise_norms
from stoker.training.run.steps.shards import is_shard, whole

_LARGEST_SHARE = 8  # a part of the network with more than an eighth of its weights is divided where it can be


@dataclass(frozen=True, slots=True)
class Shards:
    """Each rank has a shard of every weight. See ``Parallel``.

    All ranks evaluate, on the same batches: none could compute alone.
    """

    ranks: Ranks
    mesh: DeviceMesh
    evaluates: bool = True
    name: str = " that share its weights (FSDP)"

    @property
    def build_device(self) -> torch.device:
        """The CPU: the whole network need not fit on the device."""
        return torch.device("cpu")

    def place(self, module: nn.Module) -> None:
        """Give each rank its shard of what rank 0 has built or loaded."""
        refuse_indivisible(module)
        synchronise_norms(module)
        if type(module).__module__.startswith("stoker."):
            # An LSTM returns a view of what it computes, and gradients would be wrong if that were changed in place.
            # No network of Stoker's does so; one of the user's own may, and torch goes on to say so.
            warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(FSDP\w*\) returned a view tensor", UserWarning)
        with explained(), torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                sent = tensor.detach().contiguous()
                dist.broadcast(sent, 0, group=self.ranks.control)
                tensor.copy_(sent)
        try:
            for layer in (*blocks(module), module):
                fully_shard(layer, mesh=self.mesh, reshard_after_forward=True)
        except (NotImplementedError, ValueError) as error:
            raise TrainingError(
                f"fsdp: torch cannot divide this network among ranks: {' '.join(str(error).split())}; leave fsdp out"
            ) from error

    def wrap(self, module: nn.Module) -> nn.Module:
        """The network itself: it gathers weights and exchanges gradients block by block."""
        return module

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Weights are whole inside the layer that they belong to, and nowhere else."""
        try:
            yield
        except RuntimeError as error:
            if "DTensor" not in str(error):
                raise
            raise TrainingError(
                "fsdp: the network uses a layer's weights without calling the layer, and they are divided among ranks; "
                "leave fsdp out"
            ) from error

    def no_exchange(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Gradients are exchanged in each part of a batch: until the last part they would be whole on each rank."""
        return nullcontext()

    def gather(self, state: Any) -> Any:  # Any: as of Parallel
        """Tensor by tensor, so that no device has more than one of them whole."""
        if isinstance(state, Tensor):
            if not is_shard(state):
                return state
            tensor = whole(state.detach())
            return tensor.cpu() if self.ranks.first else None
        if isinstance(state, Mapping):
            return {name: self.gather(part) for name, part in state.items()}
        if isinstance(state, list | tuple):
            return type(state)(self.gather(part) for part in state)
        return state


def shards(ranks: Ranks, device: torch.device) -> Shards:
    """What divides a network among all ranks. Raises TrainingError for devices that torch does not divide among."""
    if device.type not in ("cpu", "cuda"):
        raise TrainingError(f"fsdp: torch divides no network among devices of type {device.type}; leave fsdp out")
    with explained():
        return Shards(ranks, init_device_mesh(device.type, (ranks.world_size,)))


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The parts of a network that are gathered one at a time; what is in none of them is gathered with the network.

    They are its layers, or groups of layers that hold no more than an eighth of its weights. Norms, whose vectors are
    small, and layers whose weights another layer uses, too, stay with the network.
    """
    users: dict[int, int] = {}
    for layer in module.modules():
        for weights in layer.parameters(recurse=False):
            users[id(weights)] = users.get(id(weights), 0) + 1
    yield from _blocks(module, sum(weights.numel() for weights in module.parameters()) // _LARGEST_SHARE, users)


def _blocks(module: nn.Module, largest: int, users: Mapping[int, int]) -> Iterator[nn.Module]:
    for layer in module.children():
        if _is_divisible(layer) and (not _computes(layer) or _size(layer) > largest):
            yield from _blocks(layer, largest, users)
        elif _computes(layer) and any(weights.dim() > 1 for weights in layer.parameters()) and _owns(layer, users):
            yield layer


def _size(layer: nn.Module) -> int:
    return sum(weights.numel() for weights in layer.parameters())


def _computes(layer: nn.Module) -> bool:
    """False for a list of layers that others call."""
    return type(layer).forward is not nn.Module.forward


def _is_divisible(layer: nn.Module) -> bool:
    """Whether a layer calls those inside it; torch's own may use their weights as they are, as attention does."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.TransformerEncoder, nn.TransformerDecoder)
    torchs_own = type(layer).__module__.startswith("torch.nn.")
    return isinstance(layer, containers) or (not torchs_own and any(True for _ in layer.children()))


def _owns(layer: nn.Module, users: Mapping[int, int]) -> bool:
    """Whether no layer outside uses its weights."""
    inside: dict[int, int] = {}
    for part in layer.modules():
        for weights in part.parameters(recurse=False):
            inside[id(weights)] = inside.get(id(weights), 0) + 1
    return all(users[one] == number for one, number in inside.items())


def refuse_indivisible(module: nn.Module) -> None:
    """Raise TrainingError for a weight without a dimension to be divided along, and for weights of several types."""
    kinds = sorted({str(weights.dtype) for weights in module.parameters()})
    if len(kinds) > 1:
        raise TrainingError(f"fsdp: the network has weights of several types ({', '.join(kinds)}); leave fsdp out")
    for name, weights in module.named_parameters():
        if not weights.dim():
            raise TrainingError(
                f"fsdp: weight {name} is a single number, which torch cannot divide among ranks; leave fsdp out"
            )
