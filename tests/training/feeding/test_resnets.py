"""The networks are those whose speed is published: as many weights, and the same sizes inside."""

import torch
from torch import nn

from stoker.training.feeding.resnets import resnet18, resnet50


def count(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def test_the_networks_have_as_many_weights_as_torchvisions() -> None:
    assert count(resnet18()) == 11_689_512
    assert count(resnet50()) == 25_557_032


def test_images_become_logits_and_are_halved_five_times() -> None:
    for network, channels in ((resnet18(10), 512), (resnet50(10), 2048)):
        seen: list[torch.Size] = []
        pool = next(layer for layer in network if isinstance(layer, nn.AdaptiveAvgPool2d))  # type: ignore[attr-defined]  # a Sequential
        pool.register_forward_pre_hook(lambda _, planes, seen=seen: seen.append(planes[0].shape))
        with torch.no_grad():
            assert network.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
        assert seen == [torch.Size([2, channels, 2, 2])]
