"""Residual blocks: what enters them, what they add, and what is left out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stoker.training.networks.norms import StochasticDepth
from stoker.training.networks.resnet import Block
from tests.training.networks.deep_runs import accuracy
from tests.training.networks.small_networks import build, images


def hidden(network: nn.Module, batch: torch.Tensor) -> list[torch.Tensor]:
    """What each block gives."""
    found: list[torch.Tensor] = []
    blocks = [layer for layer in network.modules() if isinstance(layer, Block)]
    for block in blocks:
        block.register_forward_hook(lambda _, __, output: found.append(output))
    network.eval()(batch)
    return found


def test_with_scales_of_0_every_block_is_the_identity_and_learns_nevertheless() -> None:
    network = build(stages=1, blocks=50, norm="none", branch_scale="zero")
    first, *_, last = hidden(network, images())
    assert torch.equal(first, last)
    nn.functional.cross_entropy(network(images()), torch.zeros(16, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]  # torch
    factors = [weights.grad for name, weights in network.named_parameters() if name.endswith("factor")]
    assert len(factors) == 50
    assert all(gradient is not None and gradient != 0 for gradient in factors)


def test_without_scales_or_norms_a_deep_residual_net_explodes_and_by_fixup_it_begins_as_the_identity() -> None:
    plain, fixed = (build(stages=1, blocks=100, norm="none", branch_scale=scale) for scale in ("one", "fixup"))
    first, *_, last = hidden(plain, images())
    assert last.norm() > 1e6 * first.norm()
    first, *_, last = hidden(fixed, images())
    assert torch.equal(first, last)
    assert not fixed(images()).any()  # the last layer is 0, too


@pytest.mark.parametrize("blocks", [4, 64])
def test_a_step_changes_a_fixup_net_of_any_depth_alike(blocks: int) -> None:
    network = build(stages=1, blocks=blocks, norm="none", branch_scale="fixup")
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(3):  # the head is 0 at first, then the second convolutions
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images()), torch.arange(16) % 10).backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
    assert 1e-3 < network(images()).abs().mean() < 3


def test_preactivation_leaves_the_way_through_clear_and_the_original_does_not() -> None:
    before, after = build(blocks=2), build(blocks=2, preactivation=False)
    assert min(float(output.min()) for output in hidden(before, images())) < 0
    assert min(float(output.min()) for output in hidden(after, images())) >= 0  # each block ends with its activation


def test_without_the_addition_gradients_are_gone_after_60_layers_without_norms() -> None:
    def first_gradient(residual: bool) -> float:
        network = build(stages=1, blocks=30, norm="none", residual=residual, initialisation="glorot")
        nn.functional.cross_entropy(network(images()), torch.arange(16) % 10).backward()  # type: ignore[no-untyped-call]  # torch
        (first,) = (weights for name, weights in network.named_parameters() if name == "network.0.weight")
        assert first.grad is not None
        return float(first.grad.norm())

    assert first_gradient(False) < 1e-4 * first_gradient(True)


def test_stochastic_depth_leaves_a_branch_out_of_its_share_of_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop, branch = StochasticDepth(0.25), torch.ones(4000, 2, 2)
    output = drop(branch)
    assert output.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(output[:, 0, 0], output[:, 1, 1])  # all of a sample or nothing
    assert output.mean() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(branch), branch)


def test_later_blocks_are_left_out_more_often() -> None:
    network = build(blocks=2, stochastic_depth=0.6)
    shares = [block.drop.share for block in network.modules() if isinstance(block, Block)]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "least"),
    [
        ({"epochs": 4, "learning_rate": 0.05, "clip": 0}, 0.95),
        ({"norm": "none", "branch_scale": "zero", "optimiser": "adam", "learning_rate": 0.003}, 0.93),
    ],
    ids=["pre-activation", "ReZero"],
)
def test_a_residual_net_of_1004_layers_learns(tmp_path: Path, values: dict[str, Any], least: float) -> None:
    assert accuracy(tmp_path, {"net": "resnet", "blocks": 167, "batch_size": 32} | values) >= least


@pytest.mark.nightly
def test_a_residual_net_of_10000_layers_learns(tmp_path: Path) -> None:
    # Three stages of 1,666 blocks of two convolutions, the first convolution, two projections and the linear layer.
    # No clipping: the gradient of so many layers is long, and steps of length 1 would be next to none.
    deep = {"net": "resnet", "blocks": 1666, "width": 8, "batch_size": 32, "learning_rate": 0.05, "clip": 0}
    assert accuracy(tmp_path, deep | {"epochs": 2}) > 0.4
