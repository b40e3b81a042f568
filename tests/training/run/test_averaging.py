"""The average of the weights: what it is, that it is evaluated, saved beside the weights, and changes no training."""

import pytest
import torch
from torch import nn

from stoker.training.errors import TrainingError
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.averaging import Average, weights_of
from stoker.training.run.checkpoint import Checkpoint
from stoker.training.run.options import TrainOptions, parse_options, run_identity
from stoker.training.trained.load import load_trained
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, after, equal, run

EMA = CNN | {"ema": 0.9, "epochs": 1}


def saved(small: Small, name: str) -> Checkpoint:
    found = checkpoints.newest(small.store, small.manifest.corpus, name)
    assert found is not None
    return found


def test_the_average_follows_the_weights_slower_later_on_and_buffers_with_them() -> None:
    module = nn.BatchNorm1d(2)
    average, expected = Average(module, 0.5), 1.0
    for number, value in enumerate((3.0, 7.0, -2.0, 4.0)):
        with torch.no_grad():
            module.weight.fill_(value)
            module.running_var.fill_(value)  # type: ignore[union-attr]  # it has some
            module.num_batches_tracked.fill_(number)  # type: ignore[union-attr]  # it has some
        average.update_parameters(module)
        decay = 0.0 if not number else min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
        averaged = average.module.state_dict()
        assert averaged["weight"].tolist() == averaged["running_var"].tolist() == pytest.approx([expected] * 2)
        assert averaged["num_batches_tracked"] == number
    assert average.n_averaged == 4


def test_the_average_of_noisy_steps_is_nearer_to_the_minimum_than_the_last_weights() -> None:
    torch.manual_seed(0)
    module = nn.Linear(50, 1, bias=False)
    average = Average(module, 0.99)
    for _ in range(500):  # x² has its minimum at 0; gradients have noise of deviation 1
        with torch.no_grad():
            module.weight -= 0.1 * (2 * module.weight + torch.randn_like(module.weight))
        average.update_parameters(module)
    averaged = average.module.state_dict()["weight"]
    assert averaged.norm() < 0.5 * module.weight.norm()


def test_the_average_is_evaluated_and_changes_no_training(digits: Small) -> None:
    plain, averaged = run(digits, "cnn", EMA | {"ema": 0}), run(digits, "cnn", EMA)
    state, other = saved(digits, averaged.run).state, saved(digits, plain.run).state
    assert equal(state["module"], other["module"])
    assert not equal(state["module"], dict(weights_of(state)))
    assert averaged.metrics["loss"] != plain.metrics["loss"]
    assert state["average"]["n_averaged"] == averaged.step
    assert other["average"] == {}
    assert weights_of(other) is other["module"]


def test_a_trained_model_is_that_of_the_averaged_weights(digits: Small) -> None:
    name = run(digits, "cnn", EMA).run
    trained = load_trained(digits.store, name, device="cpu")
    state = saved(digits, name).state
    assert equal({key: values.cpu() for key, values in trained.module.state_dict().items()}, dict(weights_of(state)))


def test_a_resumed_run_has_the_same_average_bit_for_bit(digits: Small) -> None:
    whole = saved(digits, run(digits, "cnn", EMA).run).state
    stopped = run(digits, "cnn", EMA, stop=after(4))
    resumed = run(digits, "cnn", EMA, resume=True)
    assert (resumed.run, resumed.resumed_at) == (stopped.run, 4)
    state = saved(digits, resumed.run).state
    assert equal(state["average"], whole["average"])
    assert equal(state["module"], whole["module"])


def test_a_decay_of_1_is_refused_and_none_leaves_the_identity_as_it_was() -> None:
    with pytest.raises(TrainingError, match=r"ema = 1\.0; expected a decay from 0 to below 1"):
        TrainOptions(ema=1.0)
    assert "ema" not in run_identity("cnn", *parse_options("cnn", {}))["training"]
    assert run_identity("cnn", *parse_options("cnn", {"ema": "0.99"}))["training"]["ema"] == 0.99
