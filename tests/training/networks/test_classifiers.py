"""Every network learns with every norm, and those of old checkpoints have the weights' names that they had."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from numpy.testing import assert_array_equal

from stoker.training.errors import TrainingError
from stoker.training.models.cnn import Cnn
from stoker.training.networks.classifiers import NETWORKS
from stoker.training.run.options import parse_options, run_identity
from tests.training.networks.small_networks import build, images, weights_of


@pytest.mark.parametrize(("net", "norm"), [*itertools.product(NETWORKS, ["batch", "layer", "none"])])
def test_a_network_learns_eight_images_by_heart(net: str, norm: str) -> None:
    side = 28 if net == "lenet5" else 8
    network, batch, classes = build(net=net, norm=norm, pixels=side), images(8, side), torch.arange(8)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(batch), classes)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_network_of_1989_has_its_9760_weights_and_lenet5_61706() -> None:
    assert weights_of(build(net="lenet1989", norm="none", pixels=16)) == 9760
    assert weights_of(build(net="lenet5", norm="none", pixels=32)) == 61706


def test_mobilenet_has_an_eighth_of_the_weights_of_its_dense_twin() -> None:
    wide = {"width": 32, "blocks": 2}
    assert 7 < weights_of(build(net="mobilenet_dense", **wide)) / weights_of(build(net="mobilenet", **wide)) < 9


def test_networks_have_the_depth_that_is_asked_for() -> None:
    def layers(**options: Any) -> int:
        network = build(**options)
        return sum(isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) for layer in network.modules())

    assert layers(net="plain", depth=40) == layers(net="mlp", depth=40) == 40
    assert layers(net="resnet", stages=1, blocks=20) == 42


def test_weights_of_old_checkpoints_have_their_names() -> None:
    resnet, lenet5 = build(blocks=1).state_dict(), build(net="lenet5", pixels=28).state_dict()
    assert {"network.1.first_norm.running_var", "network.2.shortcut.weight", "network.8.bias"} <= resnet.keys()
    assert {"network.1.weight", "network.9.weight", "network.13.weight"} <= lenet5.keys()


def test_new_options_that_are_not_used_leave_the_identity_of_a_run_as_it_was() -> None:
    old = run_identity("cnn", *parse_options("cnn", {"batch_norm": "false"}))["options"]
    assert old.keys() == {
        *("net", "pixels", "colour", "width", "blocks", "residual", "batch_norm", "separable", "activation"),
        *("initialisation", "shift", "flip"),
    }
    assert "norm" in run_identity("cnn", *parse_options("cnn", {"norm": "layer"}))["options"]


def test_the_old_name_of_no_norm_still_works() -> None:
    assert build(batch_norm=False).state_dict().keys() == build(norm="none").state_dict().keys()
    assert Cnn(batch_norm=False, norm="layer", branch_scale="one")  # the new name counts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "depth = 1; expected 2 to"),
        ({"dropout": float("nan")}, "dropout = nan; expected 0 to"),
        ({"branch_scale": "fixup"}, "set norm=none"),
        ({"pretrain": "rbm"}, "set net=mlp and norm=none"),
        ({"pretrain": "rbm", "net": "mlp", "norm": "none"}, "rbm needs activation sigmoid, found relu"),
        ({"width": 1024, "stages": 6}, "at most 16384"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Cnn(**options)


@pytest.mark.parametrize(("shift", "channels"), [(1, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize("flip", [False, True])
def test_an_image_is_moved_by_its_draws_and_goes_on_as_it_ends(shift: int, channels: int, flip: bool) -> None:
    model = Cnn(pixels=8, shift=shift, flip=flip, norm="none")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, channels), np.uint8)
    border = (shift, shift)
    for down in range(2 * shift + 1):
        for along, mirrored in ((0, 0), (shift, 1), (2 * shift, 0)):
            start = pixels[:, ::-1] if flip and mirrored else pixels
            padded = np.pad(start, (border, border, (0, 0)), mode="edge")
            moved = model.augment(pixels, bytes([down, along, mirrored]))
            assert_array_equal(moved, padded[down : down + 8, along : along + 8])
