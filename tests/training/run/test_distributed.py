"""Distributed data parallel under torchrun gives the batches, gradients and ends of epochs of one process."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stoker.storage import open_store
from stoker.storage.shards.sample import Sample
from stoker.training.errors import TrainingError
from stoker.training.run.distributed import gradient_scale, padded
from stoker.training.stream.stream import ShardStream
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run import ddp_rank
from tests.training.run.ddp_rank import CASES, corpus, learn
from tests.training.run.launching import launch

EPOCHS = 3
WORLDS = (3, 1, 4, 2)  # each resumes the training of the one before


def torchrun(folder: Path, world_size: int, parts: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What each rank reports of the parts of trainings that it was to do, by case."""
    reports = folder / f"reports-{world_size}"
    reports.mkdir()
    (reports / "parts.json").write_text(json.dumps(parts))
    launch(
        ddp_rank.__file__,
        world_size,
        str(folder / "store"),
        str(folder / "cache"),
        str(reports / "parts.json"),
        str(reports),
    )
    return [json.loads((reports / f"{rank}.json").read_text()) for rank in range(world_size)]


def together(ranks: list[dict[str, Any]], case: str, number: int) -> tuple[list[list[str]], dict[str, Any]]:
    """The global batches of what the ranks saw, and the state that all of them ended with."""
    parts = [rank[case][number] for rank in ranks]
    assert all(part["state"] == parts[0]["state"] for part in parts)
    assert len({len(part["seen"]) for part in parts}) == 1
    return [list(itertools.chain(*shares)) for shares in zip(*(part["seen"] for part in parts), strict=True)], parts[0][
        "state"
    ]


def close_to(state: dict[str, Any], other: dict[str, Any]) -> bool:
    assert state["loader"] == other["loader"]
    weights, others = state["module"], other["module"]
    return all(torch.allclose(_tensor(weights[name]), _tensor(others[name]), atol=1e-10) for name in weights)


def _tensor(values: list[Any]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.slow
def test_ranks_learn_what_one_process_learns_and_resume_training_of_other_world_sizes(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    for samples in {size for size, _, _ in CASES.values()}:
        samples_of_case = [Sample(f"s{number:03d}", {"txt": b"x"}) for number in range(samples)]
        corpora.version(store, tmp_path, {"train": samples_of_case}, corpus=corpus(samples), per_shard=7)
    undisturbed, steps = {}, {}
    for case, (samples, batch_size, last) in CASES.items():
        steps[case] = EPOCHS * (samples // batch_size if last == "drop" else -(-samples // batch_size))
        undisturbed[case] = learn(str(tmp_path / "store"), tmp_path / "cache", case, steps[case], None)
    state: dict[str, Any] = dict.fromkeys(CASES)
    seen: dict[str, list[list[str]]] = {case: [] for case in CASES}
    for index, world_size in enumerate(WORLDS):
        parts = {
            case: [
                {"steps": steps[case], "state": None},
                {"steps": _cut(steps[case], index + 1) - _cut(steps[case], index), "state": state[case]},
            ]
            for case in CASES
        }
        ranks = torchrun(tmp_path, world_size, parts)
        for case in CASES:
            whole, ended = together(ranks, case, 0)
            assert whole == undisturbed[case]["seen"], (case, world_size)
            assert close_to(ended, undisturbed[case]["state"]), (case, world_size)
            part, state[case] = together(ranks, case, 1)
            seen[case] += part
            assert sum(rank[case][0]["fetched"] for rank in ranks) == 0  # the machine has them already
        if world_size > 1:
            assert any(rank["a short batch of one"][0]["real"][5] == 0 for rank in ranks)  # an empty share
    for case in CASES:
        assert seen[case] == undisturbed[case]["seen"]
        assert close_to(state[case], undisturbed[case]["state"])


def _cut(steps: int, index: int) -> int:
    """Where a training of so many steps is taken over by the next world: in the middle of epochs too."""
    return steps * index // len(WORLDS)


@pytest.mark.parametrize("last", ["short", "drop", "pad"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_each_sample_of_an_epoch_weighs_the_same_whatever_the_shares(
    letters: Small, last: str, world_size: int
) -> None:
    steps: list[list[float]] = []
    for rank in range(world_size):
        options: Any = {"batch_size": 6, "last": last, "rank": rank, "world_size": world_size}
        stream = ShardStream(letters.store, letters.manifest, cache=letters.cache, **options)
        weights = [(len(samples) - padded(stream)) * gradient_scale(stream) / world_size for samples in stream]
        steps.append(weights)
    assert [sum(shares) for shares in zip(*steps, strict=True)] == pytest.approx([1.0] * (4 if last == "drop" else 5))


@pytest.mark.parametrize("last", ["short", "pad"])
def test_after_a_restart_with_another_batch_size_each_sample_weighs_the_same(letters: Small, last: str) -> None:
    def ranks(batch_size: int, world_size: int) -> list[ShardStream]:
        options: Any = {"batch_size": batch_size, "last": last, "world_size": world_size}
        streams = range(world_size)
        return [ShardStream(letters.store, letters.manifest, cache=letters.cache, rank=r, **options) for r in streams]

    first = ranks(6, 1)[0]
    next(iter(first))  # six samples: no multiple of the next batch size
    steps: list[list[float]] = []
    for stream in ranks(8, 2):
        stream.load_state_dict(first.state_dict())
        with pytest.raises(TrainingError, match="has had no batch"):
            gradient_scale(stream)
        weights = [(len(samples) - padded(stream)) * gradient_scale(stream) / 2 for samples in stream]
        steps.append(weights)
    assert [sum(shares) for shares in zip(*steps, strict=True)] == pytest.approx([1.0] * 3)  # 8, 8 and 4 samples
