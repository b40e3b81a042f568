"""LeCun's convolutional networks for digits.

``lenet1989``: LeCun et al., "Backpropagation applied to handwritten zip code recognition", Neural Computation 1989.
``lenet5``: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998.
"""

import torch
from torch import Tensor, nn

from stoker.training.networks.activations import ACTIVATIONS
from stoker.training.networks.convolutions import convolution
from stoker.training.networks.norms import dropout, norm_planes, norm_vectors
from stoker.training.networks.options import NetworkOptions

_EIGHT_OF_TWELVE = 8  # planes of the first layer that each plane of the second sees


def lenet5(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """LeNet-5 for images of 28 pixels or more."""
    act = ACTIVATIONS[options.activation]
    return nn.Sequential(
        convolution(options, channels, 6, 5, padding=2 if options.pixels == 28 else 0),
        norm_planes(options, 6),
        act(),
        nn.AvgPool2d(2),
        convolution(options, 6, 16, 5),
        norm_planes(options, 16),
        act(),
        nn.AdaptiveAvgPool2d(5),  # 5 x 5 as in the paper for 28 and 32 pixels, and for other sizes too
        nn.Flatten(),
        nn.Linear(16 * 25, 120),
        act(),
        *dropout(options),
        nn.Linear(120, 84),
        act(),
        *dropout(options),
        nn.Linear(84, classes),
    )


def lenet1989(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """The network of 1989, for images of 16 pixels, and of others; without norms 9,760 parameters for ten digits."""
    act, side = ACTIVATIONS[options.activation], (options.pixels + 1) // 2
    second = (side + 1) // 2
    return nn.Sequential(
        _SharedWeights(channels, 12, side, seen=channels),
        norm_planes(options, 12),
        act(),
        _SharedWeights(12, 12, second, seen=_EIGHT_OF_TWELVE),
        norm_planes(options, 12),
        act(),
        nn.Flatten(),
        nn.Linear(12 * second**2, 30),
        *norm_vectors(options, 30),
        act(),
        *dropout(options),
        nn.Linear(30, classes),
    )


class _SharedWeights(nn.Module):
    """A 5 x 5 convolution of stride 2 with a bias of its own for every pixel; each plane sees ``seen`` planes.

    Which eight of twelve is not in the paper: here two of three groups of four, as Karpathy's reproduction has it
    (karpathy/lecun1989-repro, 2022).
    """

    def __init__(self, before: int, after: int, side: int, seen: int) -> None:
        super().__init__()
        third = before // 3
        starts = [(group * third, (group + 1) % 3 * third) for group in range(3)] if seen < before else [(0,)]
        self.seen = [
            torch.cat([torch.arange(start, start + seen // len(group)) for start in group]).tolist() for group in starts
        ]
        self.parts = nn.ModuleList(
            nn.Conv2d(seen, after // len(starts), 5, stride=2, padding=2, bias=False) for _ in starts
        )
        self.bias = nn.Parameter(torch.zeros(after, side, side))

    def forward(self, planes: Tensor) -> Tensor:
        """(B, after, side, side)."""
        parts = [part(planes[:, seen]) for part, seen in zip(self.parts, self.seen, strict=True)]
        return torch.cat(parts, 1) + self.bias
