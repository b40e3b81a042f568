"""Muon for the matrices and convolutions inside a network, AdamW for all else."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stoker.training.run.steps.shards import local, shard_like, whole_of

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the polynomial that Jordan et al. found: five steps are enough
_STEPS = 5
_EPS = 1e-7  # of a gradient that is 0
_MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """Momentum whose update is made orthogonal; a convolution is the matrix of its filters.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. Updates are scaled to the
    size of AdamW's, so that one learning rate does for both: Liu et al., "Muon is scalable for LLM training", arXiv
    2025.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, momentum: float = _MOMENTUM, foreach: bool | None = None
    ) -> None:  # Any: torch's
        """``groups``: as torch has them, each with ``muon``: whether its updates are orthogonal."""
        super().__init__([{"momentum": momentum, **group} for group in groups], lr=lr, foreach=foreach)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # no overloads
        """One step of all groups."""
        everything = self.param_groups
        self.param_groups = [group for group in everything if not group["muon"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = everything
        for group in everything:
            if group["muon"]:
                self._step_matrices(group)
        return loss  # type: ignore[no-any-return]  # torch has no types here

    def _step_matrices(self, group: dict[str, Any]) -> None:  # Any: torch's
        rate, momentum = group["lr"], group["momentum"]
        for weights in group["params"]:
            if weights.grad is None:
                continue
            matrix, state = weights.grad.flatten(1), self.state[weights]  # copies of those in channels_last
            if not state:  # AdamW reads states again only if each has its count of steps
                state |= {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(matrix)}
            state["step"] += 1
            # Of a matrix that is divided among ranks each does its own rows, but for the update: that needs all.
            gradient, buffer, own = local(matrix), local(state["momentum_buffer"]), local(weights)
            buffer.lerp_(gradient, 1 - momentum)
            update = orthogonal(whole_of(gradient.lerp(buffer, momentum), matrix))  # Nesterov's
            own.mul_(1 - rate * group["weight_decay"])
            update, scale = update.reshape(weights.shape), 0.2 * rate * math.sqrt(max(update.shape))
            own.add_(local(shard_like(update, weights)), alpha=-scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix whose rows, or else columns, are orthogonal and of length 1, by Newton and Schulz.

    Singular values become about 1, from 0.7 to 1.2; very small ones stay smaller. On a GPU in bfloat16, which does; a
    CPU takes twice as long for that as for float32.
    """
    a, b, c = _COEFFICIENTS
    found = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    if is_tall := matrix.shape[0] > matrix.shape[1]:
        found = found.T
    found = found / found.norm().clamp(min=_EPS)
    for _ in range(_STEPS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return (found.T if is_tall else found).to(matrix.dtype)


def matrices_and_vectors(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that decay, and gains, biases and other vectors: whatever is named ``bias``, of any shape."""
    named = [(name, weights) for name, weights in module.named_parameters() if weights.requires_grad]
    is_vector = {name: weights.dim() <= 1 or name.rpartition(".")[2] == "bias" for name, weights in named}
    return (
        [weights for name, weights in named if not is_vector[name]],
        [weights for name, weights in named if is_vector[name]],
    )


def groups_of(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:  # Any: torch's
    """The parameters by what optimises them: Muon all matrices but the first, the head and embeddings.

    So does the reference of its authors (KellerJordan/Muon): first convolution, head, embeddings, gains and biases are
    AdamW's; vectors do not decay. The head is the last linear layer or convolution, also where it has an embedding's
    weights.
    """
    layers = list(module.modules())
    others = {id(layer.weight) for layer in layers if isinstance(layer, nn.Embedding)}
    heads = [layer for layer in layers if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)]
    others |= {id(head.weight) for head in heads[-1:]}
    matrices, vectors = matrices_and_vectors(module)
    others |= {id(weights) for weights in matrices[:1]}
    return [
        {
            "params": [weights for weights in matrices if id(weights) not in others],
            "weight_decay": weight_decay,
            "muon": True,
        },
        {
            "params": [weights for weights in matrices if id(weights) in others],
            "weight_decay": weight_decay,
            "muon": False,
        },
        {"params": vectors, "weight_decay": 0.0, "muon": False},
    ]
