"""Networks for the tests of this folder."""

from typing import Any

import torch
from torch import Tensor, nn

from stoker.training.models.cnn import Cnn

GREY = {"classes": list("0123456789"), "grey": True, "mean": [0.5], "deviation": [0.25]}


def build(**options: Any) -> nn.Module:
    """A network of model cnn for ten classes, the same each time."""
    torch.manual_seed(0)
    return Cnn(**{"pixels": 8, "shift": 0, "width": 8} | options).build(GREY)


def images(samples: int = 16, side: int = 8) -> Tensor:
    """Noise, as batches hold images."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (samples, side, side, 1), dtype=torch.uint8, generator=generator)


def weights_of(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())
