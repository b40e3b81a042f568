"""A stack of convolutions with nothing between but activations: what initialisation alone makes trainable.

Xiao et al., "Dynamical isometry and a mean field theory of CNNs: how to train 10,000-layer vanilla convolutional
neural networks", ICML 2018.
"""

from torch import Tensor, nn

from stoker.training.networks.activations import ACTIVATIONS
from stoker.training.networks.convolutions import convolution
from stoker.training.networks.norms import dropout, norm_planes
from stoker.training.networks.options import NetworkOptions

_SIDE = 8  # pixels that the planes are made smaller to, by the first layers, as in the paper (28 to 7)
_FEATURE_SCALE = 10.0  # tanh shrinks the features of 1,000 layers about tenfold, and a linear layer learns slowly then


def plain(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """``depth - 1`` convolutions of 3 x 3, and a linear layer of all that they give.

    Not of the mean over the plane: at the start a delta-orthogonal net looks at each pixel by itself.
    """
    layers: list[nn.Module] = []
    side, before = options.pixels, channels
    for _ in range(options.depth - 1):
        stride = 2 if side > _SIDE else 1
        side = (side + stride - 1) // stride
        layers.append(convolution(options, before, options.width, 3, padding=1, stride=stride, dense=not layers))
        if options.norm != "none":
            layers.append(norm_planes(options, options.width))
        layers.append(ACTIVATIONS[options.activation]())
        before = options.width
    head = [nn.Flatten(), _Scaled(_FEATURE_SCALE), *dropout(options), nn.Linear(options.width * side**2, classes)]
    return nn.Sequential(*layers, *head)


class _Scaled(nn.Module):
    """Its input, times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        """As it came, in shape."""
        return features * self.factor
