"""Layer-wise pretraining: reconstruction gets better, and a deep sigmoid net that learns nothing else learns by it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stoker.training.models.cnn import Cnn
from stoker.training.networks.pretraining import pretrain, train_autoencoder, train_rbm
from tests.training.networks.small_networks import GREY


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.images, dtype=torch.float32) / 16, torch.tensor(found.target)


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_reconstruction_of_an_rbm_gets_better(gaussian: bool) -> None:
    pixels = digits()[0].flatten(1)
    inputs = (pixels - pixels.mean()) / pixels.std() if gaussian else pixels
    first, last = train_rbm(nn.Linear(64, 64), inputs, epochs=20, gaussian=gaussian)
    assert last < 0.8 * first


def test_an_rbm_gives_digits_a_lower_energy_than_noise() -> None:
    pixels, layer = digits()[0].flatten(1), nn.Linear(64, 64)
    train_rbm(layer, pixels, epochs=20, gaussian=False)

    def free_energy(visible: Tensor) -> Tensor:
        return -nn.functional.softplus(layer(visible)).sum(1) - visible @ torch.logit(pixels.mean(0), eps=0.01)

    shuffled = pixels[:, torch.randperm(64)]
    assert (free_energy(pixels) < free_energy(shuffled)).float().mean() > 0.9


def test_a_denoising_autoencoder_restores_inputs_of_which_a_share_is_0() -> None:
    pixels, layer = digits()[0].flatten(1), nn.Linear(64, 64)
    first, last = train_autoencoder(layer, nn.Sigmoid(), pixels, epochs=20)
    assert last < 0.6 * first  # small weights restore the mean from the first epoch on
    assert layer.weight.grad is None


def test_an_autoencoder_begins_with_the_weights_that_it_is_given() -> None:
    layer = nn.Linear(64, 64)
    given = layer.weight.detach().clone()
    train_autoencoder(layer, nn.Sigmoid(), digits()[0].flatten(1), epochs=1)
    assert (layer.weight - given).abs().mean() < 0.1  # a step of Adam is 0.002, and there are 15


@pytest.mark.parametrize("method", ["denoising", "rbm"])
def test_a_deep_sigmoid_net_learns_after_pretraining_and_not_without(method: str) -> None:
    """Hinton et al. 2006 and Vincent et al. 2010 in small."""
    pixels, classes = digits()
    planes = ((pixels - pixels.mean()) / pixels.std())[:, None]
    options = Cnn(net="mlp", pixels=8, shift=0, depth=6, width=64, norm="none", activation="sigmoid")
    options = replace(options, initialisation="default")
    scores = []
    for pretrained in (False, True):
        torch.manual_seed(0)
        network = options.build(GREY).network
        assert isinstance(network, nn.Sequential)
        if pretrained:
            errors = pretrain(network, method, planes[:1500], epochs=15)
            assert len(errors) == 5
            assert all(last < first for first, last in errors)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.003)
        for _ in range(5):
            for some in torch.split(torch.randperm(1500), 64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(network(planes[some]), classes[some]).backward()  # type: ignore[no-untyped-call]  # torch
                optimiser.step()
        scores.append(float((network(planes[1500:]).argmax(1) == classes[1500:]).float().mean()))
    assert scores[0] < 0.3
    assert scores[1] > scores[0] + 0.3
