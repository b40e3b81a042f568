"""A fully connected network of any depth: the multilayer perceptron.

Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 1986.
"""

from torch import nn

from stoker.training.networks.activations import ACTIVATIONS
from stoker.training.networks.norms import dropout, norm_vectors
from stoker.training.networks.options import NetworkOptions


def mlp(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """``depth - 1`` layers of ``width`` units, and a linear one."""
    layers: list[nn.Module] = [nn.Flatten()]
    before = channels * options.pixels**2
    for _ in range(options.depth - 1):
        act = ACTIVATIONS[options.activation]()
        layers += [nn.Linear(before, options.width), *norm_vectors(options, options.width), act, *dropout(options)]
        before = options.width
    return nn.Sequential(*layers, nn.Linear(before, classes))
