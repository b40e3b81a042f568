"""Trainings whose weights are divided among ranks, on CPUs by gloo, give the weights of one process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import load_manifest
from stoker.training.errors import TrainingError
from stoker.training.networks.recurrent import Recurrent
from stoker.training.networks.resnet import Block, Scale
from stoker.training.run.averaging import weights_of
from stoker.training.run.model import find
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps import fsdp
from stoker.training.run.steps.ranks import Ranks
from stoker.training.trained.evaluate import evaluate
from stoker.training.trained.export import export
from stoker.training.trained.load import load_trained
from tests.training.run.small_runs import CNN, LSTM
from tests.training.run.steps import fsdp_rank
from tests.training.run.steps.small_ranks import Part, alone, launch_parts, results_of, small_store, state_of

STEADY = {"optimiser": "nesterov", "learning_rate": 0.01, "device": "cpu", "workers": 1}
ADAMW = {"optimiser": "adamw", "learning_rate": 0.0003}
CLIPPED = {"clip": 0.05, "ema": 0.9}
PICTURES = Part("cnn", "digits", CNN | STEADY | CLIPPED | {"batch_size": 49})  # the last share of an epoch is empty
IN_PARTS = Part("cnn", "digits", CNN | STEADY | ADAMW | {"batch_size": 20, "accumulate": 3, "norm": "none"})
TEXTS = Part("lstm", "texts", LSTM | STEADY | CLIPPED | {"batch_size": 5, "dropout": 0.0, "max_steps": 12})
MUON = Part("cnn", "digits", CNN | STEADY | {"batch_size": 40, "optimiser": "muon", "learning_rate": 0.001})
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.first = nn.Conv2d(channels, 7, 3, stride=4)
        self.blocks = nn.ModuleList(nn.Linear(7, 7) for _ in range(9))
        self.head = nn.Linear(7, num_classes)

    def forward(self, planes):
        values = self.first(planes).relu().mean((2, 3))
        for block in self.blocks:
            values = values + block(values).tanh()
        return self.head(values)

def build(num_classes, channels):
    return Net(channels, num_classes)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return small_store(tmp_path)


def divided(part: Part, **changes: Any) -> Part:
    return replace(part, options=part.options | {"fsdp": True}, **changes)


def assert_close(found: Any, expected: Any, *, within: float, what: str = "") -> None:
    """Of the same form, with tensors that are close; within 0: bit for bit."""
    if isinstance(expected, torch.Tensor):
        assert type(found) is torch.Tensor, what
        torch.testing.assert_close(found, expected, atol=within, rtol=within, msg=lambda text: f"{what}: {text}")
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), what
        for name in expected.keys() - {"fused", "foreach"}:  # how torch computes a step: otherwise of shards
            assert_close(found[name], expected[name], within=within, what=f"{what} {name}")
    elif isinstance(expected, list):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, within=within, what=f"{what} {number}")
    else:
        assert found == expected, what


def assert_same_run(found: dict[str, Any], expected: dict[str, Any], *, within: float = 1e-5) -> None:
    for name in ("stream", "step", "module", "average", "carried"):
        assert_close(found[name], expected[name], within=within, what=name)
    # Sums of gradients differ more than weights do: they are divided by the root of their squares, or by lengths.
    assert_close(found["optimiser"], expected["optimiser"], within=20 * within, what="optimiser")
    assert found["metrics"]["loss"] == pytest.approx(expected["metrics"]["loss"], abs=1e-4)


def with_options(part: Part, **changes: Any) -> Part:
    return replace(part, options=part.options | changes)


@pytest.mark.slow
def test_ranks_that_divide_the_weights_train_as_one_process_does_and_resume_what_another_number_began(
    store: Store, tmp_path: Path
) -> None:
    runs = [PICTURES, MUON, IN_PARTS, TEXTS]
    pictures, muon, in_parts, texts = (state_of(store, part.corpus, alone(tmp_path, store, part).run) for part in runs)
    begun = alone(tmp_path, store, replace(IN_PARTS, stop=4))
    parts = [PICTURES, MUON, replace(IN_PARTS, resume=True), replace(TEXTS, stop=5, who=1)]
    output = launch_parts(fsdp_rank.__file__, tmp_path, 2, [divided(part) for part in parts])
    assert "view tensor" not in output  # torch's warning, of an LSTM
    whole, whole_muon, resumed, left = results_of(output)
    assert (resumed[:2], left[1:]) == ([begun.run, "4"], ["0", "5", "True"])
    assert_same_run(state_of(store, "digits", whole[0]), pictures)
    assert_same_run(state_of(store, "digits", whole_muon[0]), muon)
    assert_same_run(state_of(store, "digits", begun.run), in_parts)
    rest = alone(tmp_path, store, replace(TEXTS, resume=True))
    assert (rest.run, rest.resumed_at) == (left[0], 5)
    assert_same_run(state_of(store, "texts", rest.run), texts)
    shards, copies = (int(size) for size in output.partition("HELD ")[2].split()[:2])
    assert copies / 2 <= shards < 0.55 * copies


@pytest.mark.nightly
def test_a_divided_run_goes_on_bit_for_bit_and_its_checkpoint_is_evaluated_and_exported(
    store: Store, tmp_path: Path
) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    adamw = with_options(PICTURES, **ADAMW)
    runs = [PICTURES, IN_PARTS, TEXTS, adamw]
    parts = [part for whole in runs for part in (whole, replace(whole, stop=4), replace(whole, resume=True))]
    results = results_of(launch_parts(fsdp_rank.__file__, tmp_path, 2, [divided(part) for part in parts]))
    for number, part in enumerate(runs):
        one = alone(tmp_path, store, part)
        whole, left, again = (name for name, *_ in results[3 * number : 3 * number + 3])
        assert left == again
        found, resumed, expected = (state_of(store, part.corpus, name) for name in (whole, again, one.run))
        assert_same_run(resumed, found, within=0)
        assert_same_run(found, expected)
        trained, theirs = (
            load_trained(store, f"{part.corpus}/{name}", checkpoint="last", device="cpu") for name in (whole, one.run)
        )
        assert_close(dict(trained.module.state_dict()), dict(weights_of(found)), within=0)
        manifest = load_manifest(store, part.corpus)
        report, alike = (evaluate(of, store, manifest, split="validation").metrics for of in (trained, theirs))
        assert report["loss"] == pytest.approx(alike["loss"], abs=1e-5)
        export(trained, "safetensors", tmp_path / f"{number}.safetensors")
        exported = safetensors.load_file(tmp_path / f"{number}.safetensors")
        assert_close(exported, {name: weights_of(found)[name] for name in exported}, within=0)


@pytest.mark.nightly
@pytest.mark.parametrize("world_size", [2, 3])
def test_all_optimisers_networks_and_precisions_can_be_divided(store: Store, tmp_path: Path, world_size: int) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = Part(f"{tmp_path}/own.py:build", "digits", STEADY | {"batch_size": 20, "epochs": 1, "threads": 1})
    optimisers = ("adamw", "adam", "rmsprop", "adagrad", "sgd", "momentum")
    options: list[dict[str, Any]] = [{"optimiser": name, "learning_rate": 0.001} for name in optimisers]
    options += [{"norm": "batch"}, {"clip": 0.05}, {"clip": 0}, {"on_nan": "skip:2"}, {"net": "lenet5", "pixels": 28}]
    runs = [with_options(IN_PARTS, accumulate=1, **more) for more in options]
    runs += [own, with_options(own, **ADAMW), with_options(own, optimiser="muon")]
    runs += [with_options(TEXTS, tied=True, embedding=16, mogrifier=2), with_options(TEXTS, **ADAMW)]
    rough = [
        with_options(PICTURES, precision=kind, **more)
        for kind in ("bfloat16", "float16")
        for more in ({}, ADAMW, {"optimiser": "adam", "learning_rate": 0.0003}, {"optimiser": "muon"})
    ]
    output = launch_parts(fsdp_rank.__file__, tmp_path, world_size, [divided(part) for part in runs + rough])
    for part, (name, *_) in zip(runs + rough, results_of(output), strict=True):
        expected = alone(tmp_path, store, part)
        states = [state_of(store, part.corpus, run) for run in (name, expected.run)]
        within = 0.02 if part in rough else 1e-5
        assert_close(states[0]["module"], states[1]["module"], within=within, what=str(part.options))


def test_blocks_are_the_layers_of_a_network_but_not_its_norms() -> None:
    network = find("cnn")(blocks=3).build({"grey": True, "classes": ["a", "b"], "mean": [0], "deviation": [1]})  # type: ignore[call-arg]
    kinds = [type(block) for block in fsdp.blocks(network)]
    assert kinds.count(Block) >= 6
    assert kinds[0] is nn.Conv2d  # the first; blocks that hold more than an eighth are divided
    assert kinds[-1] is nn.Linear
    assert nn.BatchNorm2d not in kinds
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2, enable_nested_tensor=False)
    assert [type(block) for block in fsdp.blocks(nn.Sequential(nn.Embedding(9, 8), encoder))] == [
        nn.Embedding,
        nn.TransformerEncoderLayer,
        nn.TransformerEncoderLayer,
    ]


@pytest.mark.parametrize(
    ("tied", "layers"), [(False, [nn.Embedding, nn.LSTM, nn.LSTM, nn.Linear]), (True, [nn.LSTM, nn.LSTM])]
)
def test_layers_that_share_weights_are_no_blocks(tied: bool, layers: list[type]) -> None:
    options = find("lstm")(hidden=8, embedding=8, layers=2, tied=tied)  # type: ignore[call-arg]
    assert [type(block) for block in fsdp.blocks(Recurrent(options, 257))] == layers  # type: ignore[arg-type]


def test_what_cannot_be_divided_is_refused_in_one_line() -> None:
    with pytest.raises(TrainingError, match=r"^options fsdp and channels_last: "):
        TrainOptions(fsdp=True, channels_last=True)
    with pytest.raises(TrainingError, match=r"^fsdp: torch divides no network among devices of type mps; leave fsdp"):
        fsdp.shards(Ranks(0, 2), torch.device("mps"))
    with pytest.raises(TrainingError, match=r"^fsdp: weight 1.factor is a single number, .*; leave fsdp out$"):
        fsdp.refuse_indivisible(nn.Sequential(nn.Linear(1, 1), Scale(1.0)))
    with pytest.raises(
        TrainingError, match=r"^fsdp: the network has weights of several types \(torch.bfloat16, torch.fl"
    ):
        fsdp.refuse_indivisible(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).bfloat16()))


@pytest.mark.nightly
def test_a_network_that_uses_weights_of_a_layer_without_calling_it_is_refused_in_one_line(
    store: Store, tmp_path: Path
) -> None:
    aside = OWN.replace("self.head(values)", "nn.functional.linear(values, self.head.weight)")
    (tmp_path / "own.py").write_text(aside)
    own = Part(f"{tmp_path}/own.py:build", "digits", STEADY | {"batch_size": 20, "epochs": 1, "threads": 1})
    with pytest.raises(
        AssertionError, match=r"TrainingError: fsdp: the network uses a layer's weights without calling"
    ):
        launch_parts(fsdp_rank.__file__, tmp_path, 2, [divided(own)])
