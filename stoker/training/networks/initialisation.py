"""Initial weights, by the name of the method."""

import torch
from torch import Tensor, nn

from stoker.training.networks.activations import gain

_SMALL = 0.01  # deviation of "normal"
_NO_VARIANCE = 1e-6  # of a layer whose output is constant: it cannot be scaled to 1


def initialise(module: nn.Module, name: str, activation: str = "relu") -> None:
    """Draw the weights of every convolution and linear layer; biases start at 0. ``default``: left as torch draws them.

    Normal: of deviation 0.01, as Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
    neural networks", NeurIPS 2012. He: He et al., "Delving deep into rectifiers", ICCV 2015. Glorot: Glorot and Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010. Orthogonal: Saxe,
    McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    ICLR 2014. Delta-orthogonal: see ``delta_orthogonal``. LSUV: orthogonal until ``scale_to_unit_variance``.
    """
    if name == "default":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _draw(layer, name, activation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _draw(layer: nn.Conv2d | nn.Linear, name: str, activation: str) -> None:
    if name == "he":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    elif name == "glorot":
        nn.init.xavier_uniform_(layer.weight)
    elif name == "normal":
        nn.init.normal_(layer.weight, std=_SMALL)
    elif name == "delta_orthogonal" and isinstance(layer, nn.Conv2d):
        delta_orthogonal(layer, gain(activation))
    else:
        nn.init.orthogonal_(layer.weight, 1.0 if name == "lsuv" else gain(activation))


@torch.no_grad()
def delta_orthogonal(layer: nn.Conv2d, gain: float = 1.0) -> None:
    """An orthogonal matrix in the middle of the kernel, 0 around: a convolution that keeps every vector's length.

    Of more channels before than after, what is kept is the length of what gets through. Source: Xiao et al.,
    "Dynamical isometry and a mean field theory of CNNs", ICML 2018.
    """
    down, along = layer.kernel_size[0] // 2, layer.kernel_size[1] // 2
    nn.init.zeros_(layer.weight)
    if layer.groups > 1:  # depthwise: each channel by itself
        layer.weight[:, :, down, along] = gain
        return
    nn.init.orthogonal_(middle := torch.empty(layer.out_channels, layer.in_channels), gain)
    layer.weight[:, :, down, along] = middle


@torch.no_grad()
def scale_to_unit_variance(network: nn.Module, inputs: Tensor) -> None:
    """Divide each layer's weights by the deviation of what it makes of these inputs (LSUV).

    Source: Mishkin and Matas, "All you need is a good init", ICLR 2016. Layer by layer from the first, but in one
    pass: biases are 0, so that the output of the scaled weights is the scaled output.
    """

    def scale(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        deviation = output.std()
        if not deviation > _NO_VARIANCE:
            return output
        layer.weight /= deviation
        return output / deviation

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(scale) for layer in layers]
    try:
        network(inputs)
    finally:
        for hook in hooks:
            hook.remove()


def open_forget_gates(lstm: nn.LSTM, bias: float = 1.0) -> None:
    """Start with the forget gates open: bias 1.

    Source: Jozefowicz, Zaremba and Sutskever, "An Empirical Exploration of Recurrent Network Architectures", ICML
    2015. PyTorch orders the gates i, f, g, o and adds two biases, so one of them is set to 1 and the other to 0.
    """
    size = lstm.hidden_size
    with torch.no_grad():
        for name, values in lstm.named_parameters():
            if name.startswith("bias_ih"):
                values[size : 2 * size] = bias
            elif name.startswith("bias_hh"):
                values[size : 2 * size] = 0.0
