"""Normalisation of activations, and dropout, as options name them.

Batch: Ioffe and Szegedy, "Batch normalization", ICML 2015. Layer: Ba, Kiros and Hinton, "Layer normalization", arXiv
2016. Dropout: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014.
Stochastic depth: Huang et al., "Deep networks with stochastic depth", ECCV 2016.
"""

import torch
from torch import Tensor, nn

from stoker.training.networks.options import NetworkOptions


def norm_planes(options: NetworkOptions, channels: int) -> nn.Module:
    """For (B, channels, H, W): over the batch, or over each sample."""
    if options.norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(1, channels) if options.norm == "layer" else nn.Identity()  # one group is the layer


def norm_vectors(options: NetworkOptions, units: int) -> list[nn.Module]:
    """For (B, units): none or one module."""
    if options.norm == "batch":
        return [nn.BatchNorm1d(units)]
    return [nn.LayerNorm(units)] if options.norm == "layer" else []


def dropout(options: NetworkOptions) -> list[nn.Module]:
    """None or one module: a layer that does nothing would number the weights of old checkpoints anew."""
    return [nn.Dropout(options.dropout)] if options.dropout else []


class StochasticDepth(nn.Module):
    """Leaves a residual branch out of a share of the samples; the others' is scaled up to make up for it.

    Each sample by itself, not the whole batch as in the paper: a block that no sample goes through has no gradient,
    which replicas on several GPUs would wait for.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...), as it is when evaluated."""
        if not self.training or not self.share:
            return branch
        kept = torch.rand(len(branch), *[1] * (branch.dim() - 1), device=branch.device) >= self.share
        return branch * (kept / (1 - self.share)).to(branch.dtype)
