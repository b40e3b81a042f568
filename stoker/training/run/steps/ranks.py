"""The processes that train one network together under torchrun: what they share, and what rank 0 alone does.

Each rank has its share of every global batch, so a step gives the weights that one process would. Rank 0 saves,
evaluates and reports; the others wait for it. What all of them must agree on (to stop, to save) goes with every step,
by a group of its own for the CPU: a question to a GPU would hold it up.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stoker.training.errors import TrainingError
from stoker.training.run.steps.microbatches import ROWS
from stoker.training.stream.order import share

_LONGEST_REASON = 160  # characters of torch's error
TIMEOUT = timedelta(hours=1)  # rank 0 evaluates alone; a rank that ended is seen at once
_groups = itertools.count()  # of this process, which all ranks make in the same order


@dataclass(slots=True)
class Ranks:
    """This process among those that train together; alone it asks nobody."""

    rank: int = 0
    world_size: int = 1
    control: Any = None  # Any: a process group for the CPU, without a type of its own

    @property
    def first(self) -> bool:
        """Whether this rank saves and reports."""
        return self.rank == 0

    def sum(self, numbers: list[float]) -> list[float]:
        """The sums of some numbers over all ranks."""
        if self.world_size == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64)
        with explained():
            dist.all_reduce(total, group=self.control)
        return total.tolist()

    def least(self, number: int) -> int:
        """The smallest of a number over all ranks."""
        if self.world_size == 1:
            return number
        total = torch.tensor([number])
        with explained():
            dist.all_reduce(total, dist.ReduceOp.MIN, group=self.control)
        return int(total)

    def from_first(self, value: Any) -> Any:  # Any: a JSON value
        """The value of rank 0. What the others give is not looked at."""
        if self.world_size == 1:
            return value
        payload = json.dumps(value).encode() if self.first else b""
        size = torch.tensor([len(payload)])
        with explained():
            dist.broadcast(size, 0, group=self.control)
            content = (
                torch.tensor(list(payload), dtype=torch.uint8)
                if self.first
                else torch.empty(int(size), dtype=torch.uint8)
            )
            dist.broadcast(content, 0, group=self.control)
        return json.loads(bytes(content.tolist()))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks, of the same shape, on the CPU."""
        own = tensor.detach().cpu().contiguous()
        if self.world_size == 1:
            return [own]
        gathered = [torch.empty_like(own) for _ in range(self.world_size)]
        with explained():
            dist.all_gather(gathered, own, group=self.control)
        return gathered

    def gather_state(self, state: tuple[Tensor, ...], rows: int) -> tuple[Tensor, ...]:
        """A recurrent state of all of a global batch's ``rows``, from the shares of the ranks."""
        if self.world_size == 1 or not state:
            return state
        sizes = [
            stop - start for start, stop in (share(rows, rank, self.world_size) for rank in range(self.world_size))
        ]
        whole = []
        for tensor in state:
            padded = tensor.new_zeros((*tensor.shape[:ROWS], max(sizes), *tensor.shape[ROWS + 1 :]))
            padded.narrow(ROWS, 0, tensor.shape[ROWS]).copy_(tensor)
            parts = [part.narrow(ROWS, 0, size) for part, size in zip(self.gather(padded), sizes, strict=True)]
            whole.append(torch.cat(parts, ROWS))
        return tuple(whole)

    def share_of_state(self, state: tuple[Tensor, ...], rows: int) -> tuple[Tensor, ...]:
        """This rank's share of a recurrent state."""
        if self.world_size == 1:
            return state
        start, stop = share(rows, self.rank, self.world_size)
        return tuple(tensor.narrow(ROWS, start, stop - start).contiguous() for tensor in state)

    def seed_random(self, seed: int) -> None:
        """Begin random numbers that are this rank's own, or all ranks would drop out the same units."""
        torch.manual_seed(seed if self.first else _seed_of(seed, self.rank))

    def random_states(self, device: torch.device) -> dict[str, Any]:  # Any: tensors
        """Where the random numbers of all ranks are, for a checkpoint; the keys are persistent."""
        random = self.gather(torch.get_rng_state())
        cuda = self.gather(torch.cuda.get_rng_state(device)) if device.type == "cuda" else []
        return {
            "random": random[0],
            "random_of_others": random[1:],
            "cuda_random": cuda[:1],
            "cuda_random_of_others": cuda[1:],
        }

    def restore_random(self, saved: dict[str, Any], device: torch.device) -> None:  # Any: tensors and plain values
        """Go on with the random numbers of a checkpoint, each rank with its own."""
        states = [saved["random"], *saved.get("random_of_others", [])]
        if self.rank < len(states):
            torch.set_rng_state(states[self.rank])
        else:  # there were fewer ranks before
            self.seed_random(saved["step"])
        if device.type != "cuda":
            return
        index = torch.cuda.current_device() if device.index is None else device.index
        state = self.cuda_state_of(saved, index)
        if state is not None:
            torch.cuda.set_rng_state(state, device)
        elif not self.first:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(_seed_of(saved["step"], self.rank))

    def cuda_state_of(self, saved: dict[str, Any], index: int) -> Tensor | None:  # Any: as above
        """This rank's state on a GPU in a checkpoint; None where it has none.

        Older checkpoints hold the states of all GPUs as rank 0 saw them, and none of other ranks.
        """
        states: list[Tensor] = saved["cuda_random"]
        if self.first:
            return states[index if index < len(states) else 0] if states else None
        others: list[Tensor] = saved.get("cuda_random_of_others", [])
        return others[self.rank - 1] if self.rank <= len(others) else None


def _seed_of(seed: int, rank: int) -> int:
    """A seed for one rank: torch's generator for the CPU looks at 32 bits of it."""
    return int.from_bytes(hashlib.sha256(f"{seed} {rank}".encode()).digest()[:4], "big")


@functools.cache
def _met() -> tuple[Any, int, int]:  # Any: a store, which torch exports without a type
    """What the processes of this torchrun find each other by, this one's rank, and how many they are."""
    from torch.distributed.rendezvous import rendezvous  # not of a torch without groups

    store, rank, world_size = next(rendezvous("env://", timeout=TIMEOUT))
    return store, rank, world_size


@contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """The ranks of this torchrun, or of the group that the caller has made; alone otherwise.

    ``device``: the option of that name. Raises TrainingError.
    """
    if not dist.is_available():
        yield Ranks()
        return
    own = not dist.is_initialized() and dist.is_torchelastic_launched()
    if own:
        gpus = torch.cuda.device_count()
        backend = backend_of(device, gpus)
        if backend == "nccl":
            torch.cuda.set_device(gpu_of(dist.get_node_local_rank(), gpus))
        from torch.distributed.distributed_c10d import PrefixStore

        with explained():
            store, rank, world_size = _met()
            # Of a group that ended the keys are still there, and would be taken for those of the next one.
            store = PrefixStore(f"stoker-{next(_groups)}", store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
    if not dist.is_initialized():
        yield Ranks()
        return
    try:
        control = dist.new_group(backend="gloo", timeout=TIMEOUT) if dist.get_backend() != "gloo" else None
        yield Ranks(dist.get_rank(), dist.get_world_size(), control)
    finally:
        if own:
            dist.destroy_process_group()


def backend_of(device: str, gpus: int) -> str:
    """What exchanges gradients: NCCL does so between GPUs alone."""
    return "nccl" if gpus and (device == "auto" or device.startswith("cuda")) else "gloo"


def gpu_of(local_rank: int, gpus: int) -> int:
    """The GPU of a rank of this machine. Raises TrainingError where there are fewer than ranks."""
    if local_rank >= gpus:
        raise TrainingError(
            f"local rank {local_rank} has no GPU of its own, found {gpus}; start torchrun with "
            f"--nproc-per-node {gpus}, or take device cpu"
        )
    return local_rank


@contextmanager
def explained(otherwise: str = "") -> Iterator[None]:
    """Turn what a group raises when another rank has ended into a line.

    ``otherwise``: begins the line about errors that are of neither a connection nor a group.
    """
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        # gloo raises a plain RuntimeError, with the place in its source where a connection ended
        if otherwise and not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise TrainingError(f"{otherwise}: {reason}") from error
        raise TrainingError(f"another rank has ended, or cannot be reached ({reason}); it has said why") from error


@contextmanager
def explained_step() -> Iterator[None]:
    """Around a step of training: turn what torch raises where ranks cannot go on together into a line."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "finished reduction in the prior iteration" in text:
            raise TrainingError(
                "the network has weights that take no part in the loss of each batch, which several ranks cannot "
                "train; leave them out of it, give them requires_grad_(False), or train on one rank"
            ) from error
        if isinstance(error, dist.DistError) or "gloo" in text:
            with explained():
                raise
        raise


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all ranks; its gradient is summed, too."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:  # Any: torch has no type for it
        total = tensor.clone()
        with explained():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # Any: as above
        total = gradient.clone()
        with explained():
            dist.all_reduce(total)
        return total


def _sum(tensor: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]  # torch has no types here
    return total


class SynchronisedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all ranks together, on any device, with empty shares too.

    torch's SyncBatchNorm does the same on GPUs alone. It stands behind the norm's own class among the bases of
    ``_synchronised``, so that a subclass which does more than its base still does it.
    """

    def forward(self, planes: Tensor) -> Tensor:
        """See nn.BatchNorm2d."""
        if not self.training:
            return super().forward(planes)
        axes = [axis for axis in range(planes.dim()) if axis != 1]
        shape = [1, -1] + [1] * (planes.dim() - 2)
        values = planes.float()
        # In two passes, as batch normalisation itself: the mean of squares alone loses digits.
        count = _sum(torch.full((1,), float(values.numel() / values.shape[1]), device=values.device))
        mean = _sum(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / count
        if self.running_mean is not None and self.running_var is not None:
            self._track(self.running_mean, self.running_var, mean.detach(), variance.detach(), count)
        normalised = centred * (variance.view(shape) + self.eps).rsqrt()
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        output: Tensor = normalised.to(planes.dtype)
        return output

    @torch.no_grad()
    def _track(self, running_mean: Tensor, running_var: Tensor, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        running_mean.lerp_(mean, factor)
        running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), factor)


@functools.cache
def _synchronised(norm: type[nn.Module]) -> type:
    return type(norm.__name__, (norm, SynchronisedNorm), {})


def synchronise_norms(module: nn.Module) -> None:
    """Let the batch normalisations of a network see the batches of all ranks; names of weights stay."""
    for layer in module.modules():
        is_norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        if is_norm and not isinstance(layer, SynchronisedNorm):
            layer.__class__ = _synchronised(type(layer))  # type: ignore[arg-type]  # the same state; classes are hashable
