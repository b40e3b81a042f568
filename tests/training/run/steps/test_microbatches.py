"""Parts of a batch give the gradient of the whole."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from stoker.training.errors import TrainingError
from stoker.training.run.steps.microbatches import join_state, split, split_state
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, run, weights


class Pair(NamedTuple):
    images: Tensor
    names: list[str]


@pytest.mark.parametrize(("rows", "parts", "sizes"), [(16, 3, [6, 5, 5]), (5, 8, [1] * 5), (1, 2, [1]), (0, 2, [0])])
def test_a_batch_is_divided_by_rows(rows: int, parts: int, sizes: list[int]) -> None:
    numbers = torch.arange(rows)
    names = [str(number) for number in range(rows)]
    divided = split({"pair": Pair(numbers, names), "scale": torch.tensor(2.0), "list": [numbers, 3]}, parts)
    assert [len(part["pair"].images) for part in divided] == sizes
    assert torch.equal(torch.cat([part["list"][0] for part in divided]), numbers)
    assert [name for part in divided for name in part["pair"].names] == names
    assert all(float(part["scale"]) == 2 for part in divided)
    with pytest.raises(TrainingError, match="no tensor whose rows could be divided"):
        split(names, 2)


def test_a_recurrent_state_is_divided_with_its_rows() -> None:
    state = (torch.rand(1, 5, 3), torch.rand(2, 5, 3))
    assert all(
        torch.equal(one, other) for one, other in zip(join_state(split_state(state, [2, 3])), state, strict=True)
    )
    with pytest.raises(TrainingError, match="expected them along dimension 1"):
        split_state((torch.rand(5, 3),), [2, 3])


EXACT = {"optimiser": "nesterov", "learning_rate": 0.01, "epochs": 1, "max_steps": 10}


@pytest.mark.parametrize("parts", [3, 16])
@pytest.mark.parametrize(
    ("model", "values"),
    [("cnn", CNN | EXACT | {"batch_norm": False, "clip": 0.1}), ("lstm", LSTM | EXACT | {"dropout": 0})],
)
def test_batches_in_parts_give_the_weights_of_whole_ones(
    digits: Small, handbook: Small, model: str, values: dict[str, Any], parts: int
) -> None:
    """The last batch of the digits has 6 samples, which three parts divide and 16 do not."""
    small = digits if model == "cnn" else handbook
    whole = weights(small, run(small, model, values).run)
    in_parts = weights(small, run(small, model, values | {"accumulate": parts}).run)
    assert whole.keys() == in_parts.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(in_parts[name], tensor, atol=1e-6, rtol=0)
