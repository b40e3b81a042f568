"""Residual networks: pre-activation, original, without norms, or without the addition.

He et al., "Deep residual learning for image recognition", CVPR 2016, and "Identity mappings in deep residual networks"
(pre-activation), ECCV 2016. A scalar that starts at 0 on each branch: Bachlechner et al., "ReZero is all you need",
UAI 2021; De and Smith, "Batch normalization biases residual blocks towards the identity function in deep networks"
(SkipInit), NeurIPS 2020. Fixup: Zhang, Dauphin and Ma, "Fixup initialization", ICLR 2019.
"""

import torch
from torch import Tensor, nn

from stoker.training.networks.activations import ACTIVATIONS
from stoker.training.networks.convolutions import Projection, convolution
from stoker.training.networks.norms import StochasticDepth, dropout, norm_planes
from stoker.training.networks.options import NetworkOptions


def resnet(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """``stages`` stages of blocks, each but the first at half the size and twice the channels of the one before."""
    width = options.width
    layers: list[nn.Module] = [convolution(options, channels, width, 3, padding=1, dense=True)]
    if not options.preactivation:
        layers += [_norm(options, width), ACTIVATIONS[options.activation]()]
    in_channels, number = width, 0
    for stage in range(options.stages):
        for block in range(options.blocks):
            number += 1
            drop = options.stochastic_depth * number / (options.stages * options.blocks)  # linear, as in its paper
            stride = 2 if stage and not block else 1
            layers.append(Block(options, in_channels, width << stage, stride=stride, drop=drop))
            in_channels = width << stage
    if options.preactivation:
        layers += [_norm(options, in_channels), ACTIVATIONS[options.activation]()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout(options), nn.Linear(in_channels, classes)]
    return nn.Sequential(*layers, *head)


class Block(nn.Module):
    """Two convolutions, each after (pre-activation) or before a norm and an activation; the block's input is added."""

    def __init__(self, options: NetworkOptions, in_channels: int, out_channels: int, stride: int, drop: float) -> None:
        super().__init__()
        self.preactivation = options.preactivation
        self.first_norm = _norm(options, in_channels if self.preactivation else out_channels)
        self.second_norm = _norm(options, out_channels)
        self.first = convolution(options, in_channels, out_channels, 3, padding=1, stride=stride)
        self.second = convolution(options, out_channels, out_channels, 3, padding=1)
        self.act = ACTIVATIONS[options.activation]()
        self.residual = options.residual
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = Projection(in_channels, out_channels, stride)
        self.branch_scale: nn.Module = nn.Identity()
        if options.branch_scale == "zero":
            self.branch_scale = Scale(0.0)
        elif options.branch_scale == "fixup":
            self.first, self.second = nn.Sequential(Shift(), self.first), nn.Sequential(Shift(), self.second)
            self.branch_scale = nn.Sequential(Scale(1.0), Shift())
        self.drop = StochasticDepth(drop)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, out_channels, H / stride, W / stride)."""
        if self.preactivation:
            hidden = self.first(self.act(self.first_norm(planes)))
            branch = self.second(self.act(self.second_norm(hidden)))
        else:
            hidden = self.act(self.first_norm(self.first(planes)))
            branch = self.second_norm(self.second(hidden))
        output: Tensor = self.branch_scale(branch)
        if self.residual:
            output = self.shortcut(planes) + self.drop(output)
        if not self.preactivation:
            output = self.act(output)
        return output


def _norm(options: NetworkOptions, channels: int) -> nn.Module:
    """A norm; for Fixup, which does without, the scalar that stands in its place."""
    return Shift() if options.branch_scale == "fixup" else norm_planes(options, channels)


class Scale(nn.Module):
    """Times one learned number."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(start))

    def forward(self, planes: Tensor) -> Tensor:
        """As it came, in shape."""
        return planes * self.factor


class Shift(nn.Module):
    """Plus one learned number, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, planes: Tensor) -> Tensor:
        """As it came, in shape."""
        return planes + self.bias


def fixup(network: nn.Module) -> None:
    """Scale the weights of residual branches, so that a step changes a net of any depth as much as one of few layers.

    Branches' first convolutions times blocks ** -0.5, their second ones and the last linear layer 0.
    """
    blocks = [layer for layer in network.modules() if isinstance(layer, Block)]
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for block in blocks:
            convolutions = [layer for layer in block.first.modules() if isinstance(layer, nn.Conv2d)]
            convolutions[-1].weight *= len(blocks) ** -0.5
            for layer in block.second.modules():
                if isinstance(layer, nn.Conv2d):
                    last = layer
            nn.init.zeros_(last.weight)
        nn.init.zeros_(linear[-1].weight)
