"""Optimisers and learning-rate schedules by name.

Momentum: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964. Nesterov: Sutskever et al.,
"On the importance of initialization and momentum in deep learning", ICML 2013. Adagrad: Duchi, Hazan and Singer,
"Adaptive subgradient methods", JMLR 2011. RMSProp: Tieleman and Hinton, Coursera lecture 6.5, 2012. Adam: Kingma and
Ba, ICLR 2015. AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019. Muon: see ``muon``.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from stoker.training.errors import TrainingError
from stoker.training.run.muon import Muon, groups_of, matrices_and_vectors
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.shards import is_shard, shard_like

FUSED = {"cpu", "cuda"}  # devices on which one kernel updates all weights, for SGD, Adam and AdamW


def build_optimiser(module: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """The optimiser of the options; biases, gains and other vectors do not decay."""
    matrices, vectors = matrices_and_vectors(module)
    groups: Iterable[dict[str, object]] = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    lr, momentum = options.learning_rate, options.momentum
    fused = True if {tensor.device.type for tensor in (*matrices, *vectors)} <= FUSED else None
    # Of shards torch fuses Adam and AdamW alone, and takes them one by one unless it is told otherwise.
    foreach = True if any(map(is_shard, (*matrices, *vectors))) else None
    if options.optimiser in ("sgd", "momentum", "nesterov"):
        momentum = 0.0 if options.optimiser == "sgd" else momentum
        nesterov = options.optimiser == "nesterov" and momentum > 0
        fused = None if foreach else fused
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused, foreach=foreach)
    if options.optimiser == "adagrad":
        return torch.optim.Adagrad(groups, lr=lr, foreach=foreach)
    if options.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, momentum=momentum, foreach=foreach)
    if options.optimiser == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=fused)
    if options.optimiser == "muon":
        return Muon(groups_of(module, options.weight_decay), lr=lr, foreach=foreach)
    return torch.optim.AdamW(groups, lr=lr, fused=fused)


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any], device: torch.device) -> None:
    """Go on from a state, which may be of another device. Any: tensors and plain values.

    A run from before optimisers were fused goes on unfused, with the same bits. Raises TrainingError for one that had
    other weights decay.
    """
    theirs, ours = (
        [len(group["params"]) for group in some["param_groups"]] for some in (state, optimiser.state_dict())
    )
    if theirs != ours:
        raise TrainingError(
            f"the checkpoint's optimiser has groups of {theirs} weights, expected {ours}: other weights "
            "decay now; begin the run anew, without --resume"
        )
    ways: list[dict[str, Any]] = [
        {name: group[name] for name in ("fused", "foreach") if name in group} for group in optimiser.param_groups
    ]
    optimiser.load_state_dict({**state, "state": _as_held(optimiser, state["state"])})
    for group, saved, way in zip(optimiser.param_groups, state["param_groups"], ways, strict=True):
        # Only where weights were shards was foreach ever asked for.
        if any(map(is_shard, group["params"])) or saved.get("foreach"):
            group.update(way)
        elif group.get("fused") and device.type not in FUSED:
            group["fused"] = None


def _as_held(
    optimiser: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:  # Any: tensors and plain values
    """The state of each weight, divided among ranks as the weight is."""
    held = [weights for group in optimiser.param_groups for weights in group["params"]]
    return {
        number: {
            name: shard_like(value, held[number]) if isinstance(value, torch.Tensor) else value
            for name, value in of_weight.items()
        }
        for number, of_weight in state.items()
    }


def learning_rate_at(step: int, steps: int, options: TrainOptions) -> float:
    """The learning rate of a step, counted from 0: a function of the step alone, so a checkpoint need not hold it.

    >>> [round(learning_rate_at(step, 10, TrainOptions(warmup=0.2, learning_rate=1.0)), 2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.04]
    """
    warmup_steps = round(options.warmup * steps)
    if step < warmup_steps:
        return options.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if options.schedule == "cosine":
        return options.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if options.schedule == "linear":
        return options.learning_rate * (1 - progress)
    return options.learning_rate
