"""Activations by name, and the factor by which initial weights make up for each.

ReLU: Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010. Leaky ReLU: Maas,
Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013. ELU: Clevert, Unterthiner
and Hochreiter, "Fast and accurate deep network learning by exponential linear units", ICLR 2016. SELU: Klambauer et
al., "Self-normalizing neural networks", NeurIPS 2017. GELU: Hendrycks and Gimpel, "Gaussian error linear units",
arXiv 2016. SiLU: Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units", Neural Networks 2018.
"""

import math
from collections.abc import Mapping

from torch import nn

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def gain(activation: str) -> float:
    """The factor for orthogonal weights: about half of what enters a rectifier is lost, next to nothing in others.

    >>> round(gain("relu") ** 2, 6), gain("tanh")
    (2.0, 1.0)
    """
    return 1.0 if activation in ("tanh", "sigmoid", "selu") else math.sqrt(2)
