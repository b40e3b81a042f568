"""Initial weights, by the name of the method."""

import torch
from torch import nn


def initialise(module: nn.Module, name: str) -> None:
    """Draw the weights of every convolution and linear layer; biases start at 0. ``default``: left as torch draws them.

    He: He et al., "Delving Deep into Rectifiers", ICCV 2015. Glorot: Glorot and Bengio, "Understanding the difficulty
    of training deep feedforward neural networks", AISTATS 2010. Orthogonal: Saxe, McClelland and Ganguli, "Exact
    solutions to the nonlinear dynamics of learning in deep linear neural networks", ICLR 2014.
    """
    if name == "default":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if name == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            elif name == "glorot":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def open_forget_gates(lstm: nn.LSTM) -> None:
    """Start with the forget gates open: bias 1.

    Source: Jozefowicz, Zaremba and Sutskever, "An Empirical Exploration of Recurrent Network Architectures", ICML
    2015. PyTorch orders the gates i, f, g, o and adds two biases, so one of them is set to 1 and the other to 0.
    """
    size = lstm.hidden_size
    with torch.no_grad():
        for name, bias in lstm.named_parameters():
            if name.startswith("bias_ih"):
                bias[size : 2 * size] = 1.0
            elif name.startswith("bias_hh"):
                bias[size : 2 * size] = 0.0
