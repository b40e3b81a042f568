"""A finished run is returned as it is; one seed gives one result; the old name of an option still works."""

import pytest
import torch

from stoker.training.run.train import train
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, equal, run, weights


def test_a_finished_run_is_not_done_again(digits: Small) -> None:
    whole = run(digits, "cnn", CNN)
    again = run(digits, "cnn", CNN, resume=True)
    assert (again.run, again.resumed_at, again.metrics) == (whole.run, whole.step, whole.metrics)


def test_one_seed_gives_one_result_and_the_callers_random_numbers_stay(digits: Small) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, other = run(digits, "cnn", CNN), run(digits, "cnn", CNN)
    assert torch.equal(torch.rand(1), expected)
    assert equal(weights(digits, one.run), weights(digits, other.run))
    assert not equal(weights(digits, one.run), weights(digits, run(digits, "cnn", CNN | {"seed": 1}).run))


def test_the_old_name_of_the_options_still_works(digits: Small) -> None:
    with pytest.warns(DeprecationWarning, match="options="):
        result = train(digits.store, digits.manifest, "cnn", given=CNN | {"epochs": 1}, folder=digits.folder / "runs")
    assert result.step == 10
