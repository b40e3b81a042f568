"""Models: one class a file, found by the file's name; the hooks' old names still work, with a warning."""

import pickle
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.models.cnn import Cnn
from stoker.training.run import model as models
from stoker.training.run.model import Corpus, Schema, StepOutput
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


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ``stoker.training.models.old_names``, which holds OldNames."""
    module = ModuleType("stoker.training.models.old_names")
    module.__file__ = "old_names.py"
    model = type("OldNames", (OldNames,), {"__module__": module.__name__})
    module.OldNames = model  # type: ignore[attr-defined]  # as its file would
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(models, "names", lambda: ["cnn", "old_names"])
    return module


def test_a_model_that_defines_the_old_hooks_is_trained_with_a_warning(digits: Small, plug_in: ModuleType) -> None:
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


def test_an_old_hook_of_a_subclass_is_called_rather_than_the_new_one_of_its_base() -> None:
    class Child(Cnn):
        def learn(self, corpus: Corpus, split: str) -> Schema:
            return {"grey": True}

    module = ModuleType(Child.__module__)
    module.Child = Child  # type: ignore[attr-defined]  # as its file would
    with pytest.warns(DeprecationWarning, match=r"Child\.learn is now called prepare"):
        found: Any = models.model_class(module)
    assert found().prepare(None, "train") == {"grey": True}


@pytest.mark.parametrize("classes", [(), ("Cnn", "Other")])
def test_a_file_must_define_exactly_one_model(classes: tuple[str, ...]) -> None:
    module = ModuleType("broken")
    module.__file__ = "broken.py"
    for name in classes:
        setattr(module, name, type(name, (Cnn,), {"__module__": "broken"}))
    with pytest.raises(TrainingError, match=f"defines {len(classes)} models, expected exactly one"):
        models.model_class(module)


def test_models_are_found_by_the_names_of_their_files() -> None:
    assert {"cnn", "lstm"} <= set(models.names())
    assert models.find("cnn") is Cnn
    with pytest.warns(DeprecationWarning, match="Facts is now called Schema"):
        assert models.Facts is Schema
