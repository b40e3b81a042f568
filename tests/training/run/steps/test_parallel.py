"""Copies of a network on each rank: alone it is the network itself, and one that cannot be copied says why."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from stoker.training.errors import TrainingError
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.parallel import Copies, parallel_of
from stoker.training.run.steps.ranks import Ranks
from stoker.training.run.train import Event
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, run

CPU = torch.device("cpu")


@pytest.mark.parametrize("fsdp", [False, True])
def test_a_process_alone_trains_the_network_itself(fsdp: bool) -> None:
    parallel, module = parallel_of(TrainOptions(fsdp=fsdp), Ranks(), CPU), nn.Linear(1, 1)
    parallel.place(module)
    assert parallel.wrap(module) is module
    assert parallel.evaluates
    assert parallel.gather({"module": module.weight})["module"] is module.weight


def test_a_process_alone_says_that_there_is_nothing_to_divide_among(digits: Small) -> None:
    events: list[Event] = []
    run(digits, "cnn", CNN | {"fsdp": True, "max_steps": 1}, progress=events.append)
    notes = next(event.notes for event in events if event.kind == "start")
    assert "fsdp: not used, since this process trains alone; torchrun starts several" in notes


def test_a_network_that_ranks_cannot_train_together_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        with pytest.raises(
            TrainingError, match=r"^this network cannot be trained on several ranks: .*parameter"
        ) as told:
            Copies(Ranks(0, 2), CPU).wrap(nn.Flatten())
    finally:
        dist.destroy_process_group()
    assert "\n" not in str(told.value)
