"""Trainings under torchrun, on CPUs by gloo, give the weights of one process, and stop and resume together."""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from stoker.storage.stores.store import Store
from stoker.training.errors import TrainingError
from stoker.training.run.steps.parallel import Copies
from stoker.training.run.steps.ranks import Ranks, backend_of, explained_step, gpu_of, joined, synchronise_norms
from tests.training.run import training_rank
from tests.training.run.launching import launch
from tests.training.run.small_runs import CNN, LSTM
from tests.training.run.steps import joined_rank
from tests.training.run.steps.small_ranks import Part, alone, launch_parts, results_of, small_store, state_of

STEADY = {"optimiser": "nesterov", "learning_rate": 0.01, "device": "cpu", "workers": 1}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an empty share of the last batch": ("cnn", "digits", CNN | STEADY | {"batch_size": 49, "epochs": 3}),
    "in parts": ("cnn", "digits", CNN | STEADY | {"batch_size": 20, "accumulate": 3, "norm": "none"}),
    "rows that do not divide": ("lstm", "texts", LSTM | STEADY | {"batch_size": 5, "dropout": 0.0, "max_steps": 12}),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return small_store(tmp_path)


def part(name: str, *, resume: bool = False, stop: int = 0, who: int = 0) -> Part:
    model, corpus, options = RUNS[name]
    return Part(model, corpus, options, resume=resume, stop=stop, who=who)


def torchrun(folder: Path, world_size: int, parts: list[Part]) -> list[list[str]]:
    return results_of(launch_parts(training_rank.__file__, folder, world_size, parts))


@pytest.mark.slow
def test_two_ranks_train_as_one_process_does_and_resume_what_another_number_began(store: Store, tmp_path: Path) -> None:
    expected, begun = {}, {}
    for name in RUNS:
        expected[name] = alone(tmp_path, store, part(name))
    for name in list(RUNS)[1:]:
        begun[name] = alone(tmp_path, store, part(name, stop=4))
    parts = [part(name, resume=True) for name in begun] + [part(name) for name in RUNS]
    first = next(iter(RUNS))
    parts += [part(first, stop=5, who=1)]  # another rank than the first is asked to stop
    results = torchrun(tmp_path, 2, parts)
    stopped = results.pop()
    assert stopped[1:] == ["0", "5", "True"]
    rest = alone(tmp_path, store, part(first, resume=True))
    assert (rest.run, rest.resumed_at) == (stopped[0], 5)
    results.append([rest.run, "5", str(rest.step), "False"])
    for name, (run, *_) in zip([*begun, *RUNS, first], results, strict=True):
        corpus = RUNS[name][1]
        whole, got = (state_of(store, corpus, one) for one in (expected[name].run, run))
        assert got["stream"] == whole["stream"], name
        assert got["step"] == whole["step"], name
        assert got["metrics"]["loss"] == pytest.approx(whole["metrics"]["loss"], abs=1e-4)
        assert whole["module"].keys() == got["module"].keys()
        for weights, tensor in whole["module"].items():
            torch.testing.assert_close(got["module"][weights], tensor, atol=1e-5, rtol=0, msg=f"{name} {weights}")
    assert [int(result[1]) for result in results] == [4, 4, 0, 0, 0, 5]


def test_a_process_alone_asks_nobody() -> None:
    with joined() as ranks:
        assert (ranks.first, ranks.world_size) == (True, 1)
        assert ranks.sum([1.0, 2.0]) == [1.0, 2.0]
        assert ranks.least(3) == 3
        assert ranks.from_first({"a": [1]}) == {"a": [1]}


def test_a_recurrent_state_is_shared_by_rows() -> None:
    state = (torch.arange(10.0).reshape(1, 5, 2),)
    shares = [Ranks(rank, 2).share_of_state(state, 5)[0] for rank in range(2)]
    assert torch.equal(torch.cat(shares, 1), state[0])
    assert sorted(share.shape[1] for share in shares) == [2, 3]


def test_each_rank_draws_numbers_of_its_own() -> None:
    draws = []
    for rank in range(4):
        Ranks(rank, 4).seed_random(7)
        draws.append(torch.rand(8))
    torch.manual_seed(7)
    assert torch.equal(draws[0], torch.rand(8))  # as a process alone
    assert all(not torch.equal(draws[a], draws[b]) for a in range(4) for b in range(a))


def test_ranks_that_a_checkpoint_has_no_random_numbers_of_draw_their_own() -> None:
    torch.manual_seed(7)
    saved = {"random": torch.get_rng_state(), "random_of_others": [], "cuda_random": [], "step": 7}
    draws = []
    for rank in range(3):
        Ranks(rank, 3).restore_random(saved, torch.device("cpu"))
        draws.append(torch.rand(8))
    assert all(not torch.equal(draws[a], draws[b]) for a in range(3) for b in range(a))


def test_each_rank_goes_on_with_its_own_state_of_a_gpu() -> None:
    states = [torch.full((16,), number, dtype=torch.uint8) for number in range(8)]
    saved = {"cuda_random": states[:1], "cuda_random_of_others": states[1:]}
    assert [Ranks(rank, 8).cuda_state_of(saved, rank) for rank in range(8)] == states
    assert Ranks(8, 9).cuda_state_of(saved, 8) is None
    older = {"cuda_random": states}  # of all GPUs, by rank 0
    assert Ranks().cuda_state_of(older, 0) is states[0]
    assert Ranks().cuda_state_of(older, 3) is states[3]
    assert Ranks(1, 2).cuda_state_of(older, 1) is None
    assert Ranks().cuda_state_of({"cuda_random": []}, 0) is None


def test_ranks_that_train_on_cpus_do_not_meet_by_what_wants_a_gpu_of_each() -> None:
    assert [backend_of(device, 8) for device in ("auto", "cuda", "cuda:1", "cpu")] == ["nccl", "nccl", "nccl", "gloo"]
    assert [backend_of(device, 0) for device in ("auto", "cpu")] == ["gloo", "gloo"]
    assert gpu_of(1, 2) == 1
    with pytest.raises(TrainingError, match=r"^local rank 2 has no GPU of its own, found 2; .*--nproc-per-node 2"):
        gpu_of(2, 2)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class _Doubled(nn.BatchNorm2d):
    def forward(self, planes: Tensor) -> Tensor:
        return 2 * super().forward(planes)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(3, momentum=None),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.BatchNorm2d(3, affine=False),
        _Doubled(3),
    ],
    ids=["plain", "mean of all", "untracked", "without weights", "of one's own"],
)
def test_norms_that_see_the_batches_of_all_ranks_compute_what_they_did(norm: nn.Module) -> None:
    alone = copy.deepcopy(norm)
    synchronise_norms(nn.Sequential(norm))
    synchronise_norms(nn.Sequential(norm))  # twice is as good as once
    for seed in range(2):
        planes = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) + seed
        torch.testing.assert_close(norm(planes), alone(planes))
    torch.testing.assert_close(norm.eval()(planes), alone.eval()(planes))
    torch.testing.assert_close(norm.state_dict(), alone.state_dict())


class _Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.used(rows)
        return found


@pytest.mark.usefixtures("group")
def test_weights_outside_of_the_loss_are_told_in_one_line() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of what torch is to do without soon
        wrapped = Copies(Ranks(0, 2), torch.device("cpu")).wrap(_Unused())
    wrapped(torch.ones(3, 2)).sum().backward()
    with pytest.raises(TrainingError, match="weights that take no part in the loss"), explained_step():
        wrapped(torch.ones(3, 2))
    with pytest.raises(RuntimeError, match=r"^else$"), explained_step():
        raise RuntimeError("else")


@pytest.mark.slow
def test_ranks_join_and_part_again_and_again_and_begin_each_pass_with_the_buffers_of_the_first() -> None:
    lines = launch(joined_rank.__file__, 2).splitlines()
    assert [line for line in lines if line.startswith("SUM")] == [
        f"SUM {number} {2.0 * number + 1.0}" for number in range(5)
    ]
    # Of the first pass rank 0 has 2; the second gives it 2 more, and rank 1 has 4 more.
    assert [line for line in lines if line.startswith("SEEN")] == ["SEEN 4.0 6.0"]
