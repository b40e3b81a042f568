"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from stoker.training.run.options import TrainOptions


def optimiser_of(module: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """The optimiser of the options; biases, gains and other vectors do not decay."""
    weights = [one for one in module.parameters() if one.requires_grad and one.dim() > 1]
    vectors = [one for one in module.parameters() if one.requires_grad and one.dim() <= 1]
    groups: Iterable[dict[str, object]] = [
        {"params": weights, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    rate = options.learning_rate
    if options.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=options.momentum, nesterov=options.momentum > 0)
    if options.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=options.momentum)
    if options.optimiser == "adam":
        return torch.optim.Adam(groups, lr=rate)
    return torch.optim.AdamW(groups, lr=rate)


def rate_at(step: int, steps: int, options: TrainOptions) -> float:
    """The learning rate of a step, counted from 0: a function of the step alone, so that nothing needs to be saved.

    >>> [round(rate_at(step, 10, TrainOptions(warmup=0.2, learning_rate=1.0)), 2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.04]
    """
    warm = round(options.warmup * steps)
    if step < warm:
        return options.learning_rate * (step + 1) / warm
    passed = (step - warm) / max(1, steps - warm)
    if options.schedule == "cosine":
        return options.learning_rate * 0.5 * (1 + math.cos(math.pi * passed))
    if options.schedule == "linear":
        return options.learning_rate * (1 - passed)
    return options.learning_rate
