"""One rank of trainings whose weights are divided, started by torchrun; tells how much of a network it holds."""

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stoker.training.run.optimisers import build_optimiser
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.parallel import parallel_of
from stoker.training.run.steps.ranks import Ranks, joined
from stoker.training.run.steps.shards import local
from tests.training.run.training_rank import train_parts

UNITS = 64


def held(ranks: Ranks, *, fsdp: bool) -> int:
    """The bytes of weights, gradients and the optimiser's state on this rank, after a step."""
    options, device = TrainOptions(fsdp=fsdp), torch.device("cpu")
    module: nn.Module = nn.Sequential(*[nn.Linear(UNITS, UNITS) for _ in range(8)])
    parallel = parallel_of(options, ranks, device)
    parallel.place(module)
    wrapped, optimiser = parallel.wrap(module), build_optimiser(module, options)
    wrapped(torch.ones(2, UNITS)).sum().backward()
    optimiser.step()
    weights = list(module.parameters())
    gradients = [one.grad for one in weights if one.grad is not None]
    states = [value for state in optimiser.state.values() for value in state.values() if value.dim()]
    return size([*weights, *gradients, *states])


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind tensors, that of each once."""
    memory = [local(tensor.detach()).untyped_storage() for tensor in tensors]
    return sum({part.data_ptr(): part.nbytes() for part in memory}.values())


def main(folder: Path, parts_file: str) -> None:
    with joined() as ranks:
        train_parts(ranks, folder, parts_file)
        bytes_held = [held(ranks, fsdp=fsdp) for fsdp in (True, False)]
        if ranks.first:
            print("HELD", *bytes_held, flush=True)
        dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
