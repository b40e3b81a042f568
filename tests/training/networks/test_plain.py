"""Plain nets of 1,000 layers learn scikit-learn's digits on one core, if their initial weights allow it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit

from stoker.training.studies.threads import one_thread
from tests.training.networks.deep_runs import accuracy
from tests.training.networks.small_networks import build, images

PLAIN = {"net": "plain", "depth": 1002, "norm": "none"}  # 1,001 convolutions
ISOMETRY = {"activation": "tanh", "initialisation": "delta_orthogonal", "learning_rate": 0.01}


@pytest.mark.slow
def test_1001_plain_layers_learn_by_delta_orthogonal_weights(tmp_path: Path) -> None:
    assert accuracy(tmp_path, PLAIN | ISOMETRY | {"epochs": 4}) >= 0.88


@pytest.mark.slow
def test_1001_plain_layers_learn_nothing_by_those_of_he(tmp_path: Path) -> None:
    he = {"activation": "relu", "initialisation": "he", "learning_rate": 0.02, "max_steps": 10}
    assert accuracy(tmp_path, PLAIN | he) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("initialisation", "arrives"), [("delta_orthogonal", True), ("glorot", False)])
def test_the_gradient_reaches_all_of_10000_plain_layers_by_delta_orthogonal_weights_alone(
    initialisation: str, arrives: bool
) -> None:
    with one_thread():  # without the many numbers that are almost 0
        network = build(**PLAIN | {"depth": 10_001, "activation": "tanh", "initialisation": initialisation})
        loss = F.cross_entropy(network(images()), torch.arange(16) % 10)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    gradients = [weights.grad for weights in network.parameters() if weights.grad is not None]
    norms = [float(gradient.norm()) for gradient in gradients if gradient.dim() == 4]
    assert len(norms) == 10_000
    assert min(norms) > max(norms) / 20 if arrives else norms[-1] == 0


@pytest.mark.nightly
def test_10000_plain_layers_learn_nothing_by_weights_of_he(tmp_path: Path) -> None:
    he = {"activation": "relu", "initialisation": "he", "learning_rate": 0.02, "max_steps": 10}
    assert accuracy(tmp_path, PLAIN | he | {"depth": 10_000, "width": 8}) < 0.2
