"""The networks of model ``cnn`` by name, on images as batches hold them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from stoker.training.networks.lenet import lenet5, lenet1989
from stoker.training.networks.mlp import mlp
from stoker.training.networks.mobilenet import mobilenet, mobilenet_dense
from stoker.training.networks.options import NetworkOptions
from stoker.training.networks.plain import plain
from stoker.training.networks.resnet import resnet

NETWORKS: Mapping[str, Callable[[NetworkOptions, int, int], nn.Module]] = {
    "lenet1989": lenet1989,
    "lenet5": lenet5,
    "plain": plain,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "mobilenet_dense": mobilenet_dense,
    "mlp": mlp,
}  # of the options, channels and classes


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
        logits: Tensor = self.network(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """(B, C, H, W) floats of mean 0 and deviation 1."""
        planes = images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        return (planes - self.mean) / self.deviation
