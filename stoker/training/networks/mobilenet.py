"""MobileNet and its twin of dense convolutions.

Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications", arXiv 2017.
"""

from torch import nn

from stoker.training.networks.activations import ACTIVATIONS
from stoker.training.networks.norms import dropout, norm_planes
from stoker.training.networks.options import NetworkOptions


def mobilenet(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """Depthwise, norm, activation, pointwise, norm, activation, again and again.

    ``stages`` stages of ``blocks`` such pairs; each stage but the first halves the size, each doubles the channels.
    """
    return _stack(options, channels, classes, dense=False)


def mobilenet_dense(options: NetworkOptions, channels: int, classes: int) -> nn.Module:
    """The same with a dense 3 x 3 convolution for every pair: 7 to 9 times the weights."""
    return _stack(options, channels, classes, dense=True)


def _stack(options: NetworkOptions, channels: int, classes: int, *, dense: bool) -> nn.Module:
    before = options.width
    layers = _layer(options, channels, before, 3)
    for stage in range(options.stages):
        for block in range(options.blocks):
            stride, after = 2 if stage and not block else 1, options.width << stage + 1
            if dense:
                layers += _layer(options, before, after, 3, stride=stride)
            else:
                layers += _layer(options, before, before, 3, stride=stride, groups=before)
                layers += _layer(options, before, after, 1)
            before = after
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout(options), nn.Linear(before, classes)]
    return nn.Sequential(*layers, *head)


def _layer(
    options: NetworkOptions, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    bias = options.norm == "none"
    return [
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias),
        norm_planes(options, after),
        ACTIVATIONS[options.activation](),
    ]
