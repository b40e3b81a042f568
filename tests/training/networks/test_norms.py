"""What norms and dropout change."""

import pytest
import torch

from stoker.training.models.cnn import Cnn
from stoker.training.networks.norms import norm_planes, norm_vectors
from tests.training.networks.small_networks import build, images


def test_batch_norm_makes_each_channel_normal_over_the_batch_and_layer_norm_each_sample() -> None:
    planes = 5 + 3 * torch.randn(16, 4, 6, 6) * torch.arange(1, 5).view(1, 4, 1, 1)
    batch, layer = norm_planes(Cnn(), 4)(planes), norm_planes(Cnn(norm="layer"), 4)(planes)
    assert batch.transpose(0, 1).flatten(1).mean(1).abs().max() < 1e-5
    assert batch.transpose(0, 1).flatten(1).std(1).detach().numpy() == pytest.approx(1, abs=0.01)
    assert layer.flatten(1).mean(1).abs().max() < 1e-5
    assert layer.flatten(1).std(1).detach().numpy() == pytest.approx(1, abs=0.01)
    (vectors,) = norm_vectors(Cnn(norm="layer"), 9)
    assert vectors(7 + torch.randn(2, 9)).mean(1).abs().max() < 1e-5


def test_layer_norm_gives_a_sample_the_same_result_in_any_batch_and_batch_norm_does_not() -> None:
    for norm, same in (("layer", True), ("batch", False)):
        network = build(norm=norm)
        assert torch.allclose(network(images(16))[:2], network(images(16)[:2]), atol=1e-5) is same


@pytest.mark.parametrize("net", ["lenet1989", "plain", "resnet", "mobilenet", "mlp"])
def test_dropout_changes_training_alone_and_adds_no_weights(net: str) -> None:
    network, without = build(net=net, dropout=0.5, norm="none"), build(net=net, norm="none")
    assert not torch.equal(network(images()), network(images()))
    network.eval()
    assert torch.equal(network(images()), network(images()))
    assert len(network.state_dict()) == len(without.state_dict())
