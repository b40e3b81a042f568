"""Convolutions: dense, depthwise separable, and the projection of a residual net.

Depthwise separable: Chollet, "Xception", CVPR 2017; Howard et al., "MobileNets", arXiv 2017.
"""

from torch import Tensor, nn

from stoker.training.networks.options import NetworkOptions


def convolution(
    options: NetworkOptions,
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    padding: int = 0,
    stride: int = 1,
    dense: bool = False,
) -> nn.Module:
    """A convolution, depthwise separable if the options say so and it need not be ``dense``; no bias before a norm."""
    bias = options.norm == "none"
    if not options.separable or dense:
        return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=bias)
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, kernel, stride=stride, padding=padding, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=bias),
    )


class Projection(nn.Conv2d):
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
