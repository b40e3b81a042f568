"""Models: one class a file, found by the file's name; the hooks' old names still work, with a warning."""

import pickle
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.models.cnn import Cnn
from stoker.training.run import model as models
from stoker.training.run.model import Corpus, Schema, StepOutput
from tests.conftest import HANGS_S
from tests.distributions import install
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, run


@dataclass(frozen=True)
class OldNames:
    """A model as plug-ins defined it before its hooks were renamed: a Cnn inside."""

    width: int = 4
    pixels: int = 16

    @property
    def _cnn(self) -> Cnn:
        return Cnn(width=self.width, pixels=self.pixels)

    def learn(self, corpus: Corpus, split: str) -> Schema:
        return self._cnn.prepare(corpus, split)

    def feed(self, corpus: Corpus, split: str, facts: Schema, *, batch_size: int, seed: int, training: bool) -> Stream:
        return self._cnn.data(corpus, split, facts, batch_size=batch_size, seed=seed, training=training)

    def build(self, facts: Schema) -> nn.Module:
        return self._cnn.build(facts)

    def outcome(self, module: nn.Module, batch: Any, carried: tuple[Tensor, ...], device: torch.device) -> StepOutput:
        output = self._cnn.compute_loss(module, batch, carried, device)
        with pytest.warns(DeprecationWarning, match="Outcome is now called StepOutput"):
            outcome: Any = models.Outcome
        renamed: StepOutput = outcome(output.loss, output.examples, carried=(torch.zeros(1),))
        assert outcome(output.loss, 1, carried=(torch.zeros(1),)).carried == (torch.zeros(1),)
        return renamed

    def evaluate(
        self, module: nn.Module, batches: Iterable[Any], facts: Schema, device: torch.device
    ) -> dict[str, Any]:
        return self._cnn.evaluate(module, batches, facts, device)

    def sample(self, module: nn.Module, facts: Schema, device: torch.device, seed: int) -> str:
        return "written by sample()"


@dataclass(frozen=True)
class Child(Cnn):
    """A new model with an old hook, which counts more than the new one of its base."""

    def learn(self, corpus: Corpus, split: str) -> Schema:
        return {"grey": True}


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package whose entry points name classes of this module, and modules without exactly one."""
    points = {"models old_names": f"{__name__}:OldNames", "models child": f"{__name__}:Child"}
    none, two = "", "from stoker.training.models.cnn import Cnn\nclass A(Cnn): ...\nclass B(Cnn): ...\n"
    install(tmp_path, "stoker-old", points | {"models none": "none_", "models two": "two_"}, none_=none, two_=two)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("plug_in")
def test_a_model_that_defines_the_old_hooks_is_trained_with_a_warning(digits: Small) -> None:
    with pytest.warns(DeprecationWarning, match="now called") as warned:
        result = run(
            digits, "old_names", {name: value for name, value in CNN.items() if name != "epochs"} | {"epochs": 1}
        )
    assert {text.split(" ")[0].rpartition(".")[2] for text in map(str, (warning.message for warning in warned))} == {
        "learn",
        "feed",
        "outcome",
        "sample",
    }
    assert (result.step, result.sample) == (10, "written by sample()")
    model = models.find("old_names")()
    assert pickle.loads(pickle.dumps(model)) == model  # so worker processes can have it


@pytest.mark.usefixtures("plug_in")
def test_an_old_hook_of_a_subclass_is_called_rather_than_the_new_one_of_its_base() -> None:
    with pytest.warns(DeprecationWarning, match=r"Child\.learn is now called prepare"):
        found: Any = models.find("child")
    assert found().prepare(None, "train") == {"grey": True}


@pytest.mark.usefixtures("plug_in")
@pytest.mark.parametrize(("name", "count"), [("none", 0), ("two", 2)])
def test_a_file_must_define_exactly_one_model(name: str, count: int) -> None:
    with pytest.raises(TrainingError, match=f"{name}_.py: defines {count} models.*, expected exactly one"):
        models.find(name)


def test_models_are_found_by_the_names_of_their_files() -> None:
    assert {"cnn", "lstm"} <= set(models.names())
    assert models.find("cnn") is Cnn
    with pytest.warns(DeprecationWarning, match="Facts is now called Schema"):
        assert models.Facts is Schema


def test_gradients_of_narrow_networks_stay_in_their_buffers() -> None:
    """oneDNN's of a strided 1 x 1 convolution did not, which ended the process."""
    code = (
        "import torch\n"
        "from stoker.training.networks.convolutions import Projection\n"
        "for channels in (4, 8, 16):\n"
        "    for batch in (45, 64):\n"
        "        images = torch.rand(batch, 32, 32, channels).permute(0, 3, 1, 2).requires_grad_()\n"
        "        Projection(channels, 2 * channels, 2)(images).sum().backward()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=HANGS_S)
