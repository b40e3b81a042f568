"""The convolutional networks that model ``cnn`` builds."""

from typing import Protocol

import torch
from torch import Tensor, nn


class NetworkOptions(Protocol):
    """The options of model ``cnn`` that its networks depend on."""

    @property
    def pixels(self) -> int:
        """Side of the images."""

    @property
    def width(self) -> int:
        """Channels of the first stage."""

    @property
    def blocks(self) -> int:
        """Blocks in each stage."""

    @property
    def residual(self) -> bool:
        """Whether a block's input is added to its output."""

    @property
    def batch_norm(self) -> bool:
        """Whether channels are normalised over the batch."""

    @property
    def separable(self) -> bool:
        """Whether convolutions are depthwise, then pointwise."""

    @property
    def activation(self) -> str:
        """relu, tanh, gelu, sigmoid or silu."""


_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "sigmoid": nn.Sigmoid, "silu": nn.SiLU}


class Normalised(nn.Module):
    """Images as uint8 in (B, H, W, C), normalised to float in (B, C, H, W), then the network.

    Normalising on the device moves a quarter of the bytes there.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: list[float], deviation: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, classes) logits."""
        planes = images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        logits: Tensor = self.network((planes - self.mean) / self.deviation)
        return logits


def lenet5(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """LeNet-5 for images of 28 pixels or more."""

    def norm(width: int) -> nn.Module:
        return nn.BatchNorm2d(width) if options.batch_norm else nn.Identity()

    act = _ACTIVATIONS[options.activation]
    return nn.Sequential(
        _convolution(options, channels, 6, 5, padding=2 if options.pixels == 28 else 0),
        norm(6),
        act(),
        nn.AvgPool2d(2),
        _convolution(options, 6, 16, 5),
        norm(16),
        act(),
        nn.AdaptiveAvgPool2d(5),  # 5 x 5 as in the paper for 28 and 32 pixels, and for other sizes too
        nn.Flatten(),
        nn.Linear(16 * 25, 120),
        act(),
        nn.Linear(120, 84),
        act(),
        nn.Linear(84, classes),
    )


def resnet(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """Three stages of pre-activation blocks, the second and third at half the size and twice the channels."""
    width = options.width
    layers: list[nn.Module] = [_convolution(options, channels, width, 3, padding=1, dense=True)]
    in_channels = width
    for stage, out_channels in enumerate((width, 2 * width, 4 * width)):
        for block in range(options.blocks):
            layers.append(_Block(options, in_channels, out_channels, stride=2 if stage and not block else 1))
            in_channels = out_channels
    act = _ACTIVATIONS[options.activation]
    norm = nn.BatchNorm2d(in_channels) if options.batch_norm else nn.Identity()
    return nn.Sequential(*layers, norm, act(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, classes))


class _Block(nn.Module):
    """Norm, activation, convolution, twice; the block's input is added."""

    def __init__(self, options: NetworkOptions, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        act = _ACTIVATIONS[options.activation]
        self.first_norm = nn.BatchNorm2d(in_channels) if options.batch_norm else nn.Identity()
        self.second_norm = nn.BatchNorm2d(out_channels) if options.batch_norm else nn.Identity()
        self.first = _convolution(options, in_channels, out_channels, 3, padding=1, stride=stride)
        self.second = _convolution(options, out_channels, out_channels, 3, padding=1)
        self.act = act()
        self.residual = options.residual
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = _Projection(in_channels, out_channels, stride)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, out_channels, H / stride, W / stride)."""
        hidden: Tensor = self.act(self.first_norm(planes))
        output: Tensor = self.second(self.act(self.second_norm(self.first(hidden))))
        if not self.residual:
            return output
        shortcut: Tensor = self.shortcut(planes)
        return output + shortcut


class _Projection(nn.Conv2d):
    """A 1 x 1 convolution of every ``stride``-th pixel.

    The pixels are chosen before the convolution, not by it: on processors without AVX-512, oneDNN's gradient of a
    strided 1 x 1 convolution writes past its buffer, of 8 channels too, at some sizes of batches. Until oneDNN's
    issue 6035 (uxlfoundation/oneDNN) is closed in the oldest torch that is supported.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__(before, after, 1, bias=False)
        self.every = stride

    def forward(self, planes: Tensor) -> Tensor:
        """(B, after, H / stride, W / stride), both rounded up."""
        return super().forward(planes[:, :, :: self.every, :: self.every])


def _convolution(
    options: NetworkOptions,
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    padding: int = 0,
    stride: int = 1,
    dense: bool = False,
) -> nn.Module:
    bias = not options.batch_norm
    if not options.separable or dense:
        return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=bias)
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, kernel, stride=stride, padding=padding, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=bias),
    )
