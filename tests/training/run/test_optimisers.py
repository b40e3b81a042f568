"""Optimisers do what their names say; Muon's updates are orthogonal."""

from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from stoker.training.errors import TrainingError
from stoker.training.models.cnn import Cnn
from stoker.training.models.lstm import Lstm
from stoker.training.networks.recurrent import Recurrent
from stoker.training.run.muon import Muon, groups_of
from stoker.training.run.optimisers import build_optimiser, load_optimiser
from stoker.training.run.options import TrainOptions, parse_options, run_identity
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, after, equal, run, weights

NAMES = get_args(get_type_hints(TrainOptions)["optimiser"])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 10), nn.LayerNorm(10)
    )


def step(module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 1, 8, 8, generator=generator)
    nn.functional.cross_entropy(module(inputs), torch.arange(32) % 10).backward()  # type: ignore[no-untyped-call]  # torch
    optimiser.step()


def steps(*names: str, count: int = 3) -> list[Tensor]:
    """The weights after some steps of each."""
    ends = []
    for name in names:
        module = network()
        optimiser = build_optimiser(module, TrainOptions(optimiser=name, learning_rate=0.01))  # type: ignore[arg-type]  # one of them
        for _ in range(count):
            step(module, optimiser)
        ends.append(nn.utils.parameters_to_vector(module.parameters()).detach())
    return ends


def test_every_optimiser_goes_its_own_way() -> None:
    ends = steps(*NAMES)
    for number, end in enumerate(ends):
        assert not any(torch.equal(end, other) for other in ends[:number]), NAMES[number]


def test_sgd_has_no_momentum_and_momentum_none_before_the_second_step() -> None:
    plain, heavy = steps("sgd", "momentum", count=1)
    assert torch.equal(plain, heavy)


@pytest.mark.parametrize("rows", [12, 40])
def test_an_update_of_muon_on_a_matrix_is_that_of_torch_and_orthogonal(rows: int) -> None:
    torch.manual_seed(0)
    ours, gradient = nn.Parameter(torch.randn(rows, 24)), torch.randn(rows, 24)
    theirs, before = nn.Parameter(ours.detach().clone()), ours.detach().clone()
    one = Muon([{"params": [ours], "muon": True, "weight_decay": 0.0}], lr=0.5)
    other = torch.optim.Muon([theirs], lr=0.5, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(2):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()  # type: ignore[no-untyped-call]  # torch
        assert (ours - theirs).norm() < 0.02 * (ours - before).norm()  # torch's are of bfloat16
    singular = torch.linalg.svdvals(before - ours.detach()) / (2 * 0.5 * 0.2 * max(rows, 24) ** 0.5)
    assert singular.min() > 0.5  # Newton and Schulz's five steps give values from about 0.7 to 1.2
    assert singular.max() < 1.5
    assert torch.linalg.svdvals(gradient).min() < 0.5 * torch.linalg.svdvals(gradient).max()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_a_convolution_as_the_matrix_of_its_filters(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    weights, gradient = torch.randn(8, 6, 3, 3), torch.randn(8, 6, 3, 3)
    ours = nn.Parameter(weights.clone(memory_format=layout))
    theirs = nn.Parameter(weights.flatten(1).clone())
    one = Muon([{"params": [ours], "muon": True, "weight_decay": 0.1}], lr=0.1)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(2):
        ours.grad, theirs.grad = gradient.clone(memory_format=layout), gradient.flatten(1)
        one.step()
        other.step()  # type: ignore[no-untyped-call]  # torch
    moved = (theirs - weights.flatten(1)).norm()
    assert (ours.flatten(1) - theirs).norm() < 0.02 * moved  # torch's are of bfloat16


def test_muon_leaves_the_first_convolution_the_head_vectors_and_embeddings_to_adamw() -> None:
    module = network()
    orthogonal = [weights.shape for weights in groups_of(module, 0.1)[0]["params"]]
    assert orthogonal == [module[1].weight.shape, module[3].weight.shape]
    (none, *rest) = groups_of(nn.Sequential(nn.Linear(3, 4), nn.Embedding(5, 4), nn.Linear(4, 2)), 0.1)
    assert none["params"] == []
    assert [group["muon"] for group in rest] == [False, False]
    assert rest[1]["weight_decay"] == 0


def shapes(module: nn.Module, group: int) -> list[list[int]]:
    return [list(weights.shape) for weights in groups_of(module, 0.1)[group]["params"]]


def test_muon_takes_the_inner_matrices_of_lenet1989_and_leaves_biases_of_every_pixel() -> None:
    module = Cnn(net="lenet1989", pixels=16, norm="none").build(
        {"grey": True, "classes": list("0123456789"), "mean": [0.5], "deviation": [0.5]}
    )
    assert shapes(module, 0) == [[4, 8, 5, 5]] * 3 + [[30, 192]]
    assert shapes(module, 1) == [[12, 1, 5, 5], [10, 30]]
    assert shapes(module, 2) == [[12, 8, 8], [12, 4, 4], [30], [10]]
    decay, others = build_optimiser(module, TrainOptions(weight_decay=0.1)).param_groups
    assert (decay["weight_decay"], others["weight_decay"]) == (0.1, 0)
    assert [list(weights.shape) for weights in others["params"]] == [[12, 8, 8], [12, 4, 4], [30], [10]]


@pytest.mark.parametrize("tied", [False, True])
def test_muon_takes_all_recurrent_matrices_whether_or_not_the_head_is_the_embedding(tied: bool) -> None:
    module = Recurrent(Lstm(hidden=6, embedding=6, layers=1, tied=tied), 9)
    assert shapes(module, 0) == [[24, 6], [24, 6]]
    assert shapes(module, 1) == [[9, 6]] * (1 if tied else 2)


def test_a_checkpoint_whose_optimiser_let_other_weights_decay_is_refused_in_one_line() -> None:
    optimiser = build_optimiser(network(), TrainOptions())
    state = optimiser.state_dict()
    state["param_groups"][0]["params"].append(state["param_groups"][1]["params"].pop())
    with pytest.raises(TrainingError, match=r"groups of \[.*\] weights, expected \[.*\]: .* begin the run anew"):
        load_optimiser(optimiser, state, torch.device("cpu"))


def test_the_other_weights_step_as_those_of_adamw() -> None:
    module, other = network(), network()
    muon = build_optimiser(module, TrainOptions(optimiser="muon"))
    adamw = build_optimiser(other, TrainOptions(optimiser="adamw"))
    step(module, muon)
    step(other, adamw)
    ours, theirs = module.state_dict(), other.state_dict()
    differ = [name for name in ours if not torch.allclose(ours[name], theirs[name])]  # AdamW is fused
    assert differ == ["1.weight", "3.weight"]


@pytest.mark.parametrize("name", ["muon", "adagrad", "momentum"])
def test_a_run_is_resumed_bit_for_bit(digits: Small, name: str) -> None:
    values = CNN | {"optimiser": name, "learning_rate": 0.01, "epochs": 1}
    whole = run(digits, "cnn", values)
    stopped = run(digits, "cnn", values | {"seed": 0}, stop=after(4))
    assert stopped.stopped
    resumed = run(digits, "cnn", values, resume=True)
    assert resumed.run == stopped.run
    assert equal(weights(digits, whole.run), weights(digits, resumed.run))


@pytest.mark.parametrize(
    ("optimiser", "saved", "momentum"), [("nesterov", "sgd", 0.9), ("sgd", "sgd", 0.0), ("momentum", "momentum", 0.9)]
)
def test_runs_of_sgd_from_before_it_lost_its_momentum_go_on_as_nesterov(
    optimiser: str, saved: str, momentum: float
) -> None:
    identity = run_identity("cnn", *parse_options("cnn", {"optimiser": optimiser}))["training"]
    assert (identity["optimiser"], identity["momentum"]) == (saved, momentum)
