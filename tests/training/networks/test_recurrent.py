"""Recurrent layers: what each option changes, and what it leaves as it was."""

from typing import Any

import pytest
import torch
from torch import nn

from stoker.training.errors import TrainingError
from stoker.training.models.lstm import Lstm
from stoker.training.networks.recurrent import LockedDropout, Mogrifier, Recurrent
from stoker.training.run.options import parse_options, run_identity

TOKENS = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))


def build(**options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(Lstm(**{"hidden": 16, "embedding": 16, "layers": 2, "dropout": 0.0} | options), 50)


@pytest.mark.parametrize("options", [{}, {"cell": "gru"}, {"cell": "rnn"}, {"mogrifier": 3}, {"tied": True}])
def test_two_windows_give_what_one_long_one_does(options: dict[str, Any]) -> None:
    network = build(**options)
    whole, state = network(TOKENS)
    first, carried = network(TOKENS[:, :5])
    second, after = network(TOKENS[:, 5:], carried)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(after, state)


def test_a_mogrifier_begins_as_an_lstm_and_without_rounds_is_one_bit_for_bit() -> None:
    values = torch.randn(3, 12, 16)
    torch.manual_seed(0)
    lstm = nn.LSTM(16, 8, batch_first=True)
    steps = []
    state: Any = None
    for step in values.unbind(1):
        output, state = lstm(step[:, None], state)
        steps.append(output)
    for rounds in (0, 5):
        torch.manual_seed(0)
        outputs, after = Mogrifier(16, 8, rounds)(values)
        assert torch.equal(outputs, torch.cat(steps, 1))
        assert torch.equal(after[1], state[1])
    assert build(mogrifier=0).state_dict().keys() == build().state_dict().keys()
    assert isinstance(build(mogrifier=0).layers[0], nn.LSTM)
    assert not isinstance(build(mogrifier=0).layers[0], Mogrifier)


def test_each_round_of_a_mogrifier_scales_input_or_state_by_the_other() -> None:
    mogrifier, values = Mogrifier(4, 4, 2), torch.randn(2, 3, 4)
    first, second = mogrifier.gates
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    state = (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    nn.init.constant_(first.bias, -100.0)  # x * 2 sigmoid(-100) = 0
    assert torch.allclose(mogrifier(values, state)[0], mogrifier(values * 7, state)[0])
    nn.init.zeros_(first.bias)
    nn.init.constant_(second.bias, -100.0)  # the same of h
    other = (state[0] * 7, state[1])
    assert torch.allclose(mogrifier(values, state)[0], mogrifier(values, other)[0])


def test_tied_weights_are_one_tensor_in_memory_and_stay_one_when_loaded() -> None:
    network, other = build(tied=True), build(tied=True)
    other.load_state_dict(network.state_dict())
    assert network.output.weight is network.embedding.weight
    assert other.output.weight.data_ptr() == other.embedding.weight.data_ptr()
    assert sum(weights.numel() for weights in build().parameters()) - 50 * 16 == sum(
        weights.numel() for weights in network.parameters()
    )


def test_variational_dropout_leaves_the_same_units_out_at_all_times() -> None:
    locked, ordinary = LockedDropout(0.5), nn.Dropout(0.5)
    values = torch.ones(4, 9, 64)
    outputs = locked(values)
    assert torch.equal(outputs, outputs[:, :1].expand_as(outputs))
    assert not torch.equal(outputs[0], outputs[1])
    assert outputs.mean() == pytest.approx(1, abs=0.2)
    assert torch.equal(locked.eval()(values), values)
    assert not torch.equal(ordinary(values)[:, 0], ordinary(values)[:, 1])
    assert isinstance(build(variational=True, dropout=0.5).dropout, LockedDropout)


@pytest.mark.parametrize("bias", [1.0, 0.0, 3.5])
def test_forget_gates_start_with_the_bias_that_is_asked_for(bias: float) -> None:
    layer = build(forget_bias=bias).layers[0]
    assert isinstance(layer, nn.LSTM)
    biases = dict(layer.named_parameters())
    assert torch.equal((biases["bias_ih_l0"] + biases["bias_hh_l0"])[16:32], torch.full((16,), bias))


def test_open_forget_gates_keep_the_cell_and_its_gradient_over_many_steps() -> None:
    """As in Jozefowicz et al.: with a bias of 0 half of the cell is forgotten at each step."""

    def kept(bias: float) -> float:
        layer = build(forget_bias=bias, layers=1).layers[0]
        cell = torch.ones(1, 1, 16, requires_grad=True)
        _, (_, after) = layer(torch.zeros(1, 30, 16), (torch.zeros(1, 1, 16), cell))
        after.sum().backward()
        assert cell.grad is not None
        return float(cell.grad.abs().mean())

    assert kept(4.0) > 100 * kept(0.0)


def test_options_that_do_not_fit_are_refused_and_unused_ones_change_no_run() -> None:
    with pytest.raises(TrainingError, match="tied needs embedding = hidden, found 64 and 256"):
        Lstm(tied=True)
    with pytest.raises(TrainingError, match="mogrifier = 2 with cell gru"):
        Lstm(mogrifier=2, cell="gru")
    identity = run_identity("lstm", *parse_options("lstm", {}))["options"]
    assert identity.keys() == {
        *("hidden", "layers", "embedding", "dropout", "window", "sample_length", "temperature"),
    }
