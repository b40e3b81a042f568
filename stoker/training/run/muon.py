"""Muon for the matrices and convolutions inside a network, AdamW for all else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim._muon import (  # torch.optim.Muon refuses what is not a matrix (pytorch/pytorch#166209)
    DEFAULT_A,
    DEFAULT_B,
    DEFAULT_C,
    DEFAULT_NS_STEPS,
    EPS,
    muon,
)

_MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """Momentum whose update is made orthogonal; a convolution is the matrix of its filters.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. Updates are scaled to the
    size of AdamW's, so that one learning rate does for both: Liu et al., "Muon is scalable for LLM training", arXiv
    2025.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float = _MOMENTUM) -> None:  # Any: torch's
        """``groups``: as torch has them, each with ``muon``: whether its updates are orthogonal."""
        super().__init__([{"momentum": momentum, **group} for group in groups], lr=lr)

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
        used = [weights for weights in group["params"] if weights.grad is not None]
        matrices = [weights.flatten(1) for weights in used]  # copies of those in channels_last
        for weights, matrix in zip(used, matrices, strict=True):
            if not self.state[weights]:  # AdamW reads states again only if each has its count of steps
                self.state[weights] = {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(matrix)}
            self.state[weights]["step"] += 1
        muon(
            matrices,
            [weights.grad.flatten(1) for weights in used],
            [self.state[weights]["momentum_buffer"] for weights in used],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            nesterov=True,
            ns_coefficients=(DEFAULT_A, DEFAULT_B, DEFAULT_C),
            ns_steps=DEFAULT_NS_STEPS,
            eps=EPS,
            adjust_lr_fn="match_rms_adamw",
            has_complex=False,
        )
        for weights, matrix in zip(used, matrices, strict=True):
            if matrix.data_ptr() != weights.data_ptr():
                weights.copy_(matrix.view(weights.shape))


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
