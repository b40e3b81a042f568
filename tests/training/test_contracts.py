"""Every model that can be trained keeps its contract: a new one is tested by existing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from stoker.testing import ModelContract, sample_corpus
from stoker.training.models.cnn import Cnn
from stoker.training.models.lstm import Lstm
from stoker.training.run.model import Corpus, Model, Schema, StepOutput, names

SMALL: dict[str, tuple[Model, Literal["images", "texts"]]] = {
    "cnn": (Cnn(pixels=8, width=4, shift=1), "images"),
    "lstm": (Lstm(hidden=16, embedding=8, window=16, layers=2, sample_length=20), "texts"),
}


class TestEveryModel(ModelContract):
    @pytest.fixture(params=names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def model(self, name: str) -> Model:
        return SMALL[name][0]

    @pytest.fixture
    def corpus(self, name: str, tmp_path: Path) -> Corpus:
        return Corpus(*sample_corpus(300, kind=SMALL[name][1]), cache=tmp_path / "cache")


@dataclass(frozen=True)
class Attached(Lstm):
    """It back-propagates into the batches before, and names its vocabulary by what is no JSON."""

    def prepare(self, corpus: Corpus, split: str) -> Schema:
        return {**super().prepare(corpus, split), "classes": ("a", "b")}

    def compute_loss(
        self, module: nn.Module, batch: Any, state: tuple[Tensor, ...], device: torch.device
    ) -> StepOutput:
        logits, after = module(batch[0], state)
        return StepOutput(logits.mean(), batch[1].numel(), after)


def test_a_model_whose_state_has_gradients_or_whose_schema_is_no_json_does_not_pass(tmp_path: Path) -> None:
    corpus, model = Corpus(*sample_corpus(100), cache=tmp_path), Attached(hidden=4, embedding=4, window=8)
    with pytest.raises(AssertionError):
        ModelContract().test_a_loss_is_a_finite_mean_with_gradients_and_a_state_without(model, corpus)
    with pytest.raises(AssertionError):
        ModelContract().test_the_schema_is_json_and_the_same_each_time(model, corpus)
