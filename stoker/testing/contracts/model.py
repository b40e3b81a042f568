"""What a training run asks of a model: for the same seed the same batches, network and losses, which go down.

A run that was stopped goes on from its checkpoint, which holds JSON values and tensors alone, and ends as if it had not
been. For that the schema has to be JSON, weights must load without pickle, and the seed must decide everything.
"""

import dataclasses
import io
import json
import math
import pickle
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from stoker.testing.contracts.component import example_of
from stoker.training.loader.loader import Loader
from stoker.training.run.model import Corpus, Model, Schema, find, name_of
from stoker.training.run.options import parse_options

_CPU = torch.device("cpu")
_STEPS = 10


class ModelContract:
    """Tests of a model. Override the fixtures ``model`` (a small one) and ``corpus``.

    The corpus is small, and something can be learned of it by heart: ten steps on its first batch must lower the loss.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training.models.lstm import Lstm
    >>> class TestLstm(ModelContract):
    ...     @pytest.fixture
    ...     def model(self) -> Model:
    ...         return Lstm(hidden=16)
    ...     @pytest.fixture
    ...     def corpus(self, tmp_path) -> Corpus:
    ...         return Corpus(*sample_corpus(64), cache=tmp_path)
    """

    split: ClassVar[str] = "train"
    held_out: ClassVar[str] = "train"  # split that is evaluated on
    batch_size: ClassVar[int] = 8
    learning_rate: ClassVar[float] = 0.01  # of AdamW

    @pytest.fixture
    def model(self) -> Model:
        """A small model."""
        raise NotImplementedError("override the fixture `model`")

    @pytest.fixture
    def corpus(self) -> Corpus:
        """A small version that it can be trained on."""
        raise NotImplementedError("override the fixture `corpus`")

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        """So small a network is slower on many threads, above all beside other tests."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    def test_it_is_a_frozen_dataclass_that_is_found_by_the_name_of_its_file(self, model: Model) -> None:
        assert dataclasses.is_dataclass(type(model))
        options = {option.name: getattr(model, option.name) for option in dataclasses.fields(model)}  # type: ignore[arg-type]  # a dataclass: see above
        for name, value in options.items():
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(model, name, value)
        assert type(model) is find(name_of(model))
        json.dumps(options)

    def test_the_example_in_its_docstring_is_a_command_with_options_that_it_has(self, model: Model) -> None:
        words = shlex.split(example_of(type(model).__doc__))
        assert words[:3] == ["stoker", "train", name_of(model)]
        values = [value for flag, value in pairwise(words) if flag == "--set"]
        parse_options(name_of(model), dict(value.split("=", 1) for value in values))

    def test_the_schema_is_json_and_the_same_each_time(self, model: Model, corpus: Corpus) -> None:
        schema = model.prepare(corpus, self.split)
        assert json.loads(json.dumps(schema, allow_nan=False)) == schema
        assert model.prepare(corpus, self.split) == schema

    @pytest.mark.parametrize("training", [True, False])
    def test_one_seed_gives_the_same_batches(self, model: Model, corpus: Corpus, training: bool) -> None:
        schema = model.prepare(corpus, self.split)
        first, second = (self._batches(model, corpus, schema, 3, training=training) for _ in range(2))
        assert first
        assert _equal(first, second)

    def test_one_seed_gives_the_same_network(self, model: Model, corpus: Corpus) -> None:
        schema = model.prepare(corpus, self.split)
        with _seeded():
            first = model.build(schema)
        with _seeded():
            second = model.build(schema)
        assert first.state_dict()
        assert _equal(first.state_dict(), second.state_dict())

    def test_its_weights_load_without_pickle(self, model: Model, corpus: Corpus) -> None:
        """And back into a network that was made of the schema as it comes out of a checkpoint."""
        schema = model.prepare(corpus, self.split)
        module = model.build(schema)
        file = io.BytesIO()
        torch.save({"schema": dict(schema), "module": module.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        other = model.build(saved["schema"])
        other.load_state_dict(saved["module"])
        assert _equal(other.state_dict(), module.state_dict())

    def test_a_loss_is_a_finite_mean_with_gradients_and_a_state_without(self, model: Model, corpus: Corpus) -> None:
        schema = model.prepare(corpus, self.split)
        (batch, *_) = self._batches(model, corpus, schema, 1)
        module = model.build(schema).train()
        output = model.compute_loss(module, batch, (), _CPU)
        assert output.loss.shape == ()
        assert math.isfinite(output.loss.item())
        assert output.examples > 0
        assert not any(tensor.requires_grad for tensor in output.state)
        output.loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        assert any(parameter.grad is not None for parameter in module.parameters())
        model.compute_loss(module, batch, output.state, _CPU)

    def test_ten_steps_lower_the_loss_and_one_seed_gives_the_same_losses(self, model: Model, corpus: Corpus) -> None:
        losses = self._losses(model, corpus)
        assert losses[-1] < losses[0]
        assert self._losses(model, corpus) == losses

    def test_an_evaluation_gives_a_score_and_changes_nothing(self, model: Model, corpus: Corpus) -> None:
        schema = model.prepare(corpus, self.split)
        module = model.build(schema).eval()
        before = pickle.dumps({name: tensor.tolist() for name, tensor in module.state_dict().items()})
        first, second = (self._evaluate(model, module, corpus, schema) for _ in range(2))
        assert first == second
        assert math.isfinite(first["score"])
        json.dumps(first, allow_nan=False)
        assert pickle.dumps({name: tensor.tolist() for name, tensor in module.state_dict().items()}) == before

    def test_one_seed_writes_the_same_text(self, model: Model, corpus: Corpus) -> None:
        schema = model.prepare(corpus, self.split)
        module = model.build(schema).eval()
        text = model.generate(module, schema, _CPU, 0)
        assert isinstance(text, str)
        assert model.generate(module, schema, _CPU, 0) == text

    def _batches(
        self, model: Model, corpus: Corpus, schema: Schema, count: int, *, training: bool = True
    ) -> list[Any]:  # Any: the model's own
        stream = model.data(corpus, self.split, schema, batch_size=self.batch_size, seed=0, training=training)
        try:
            return list(islice(Loader(stream), count))
        finally:
            stream.close()

    def _losses(self, model: Model, corpus: Corpus) -> list[float]:
        """Of the same batch, ten times."""
        schema = model.prepare(corpus, self.split)
        (batch, *_) = self._batches(model, corpus, schema, 1)
        losses = []
        with _seeded():
            module = model.build(schema).train()
            optimiser = torch.optim.AdamW(module.parameters(), lr=self.learning_rate)
            for _ in range(_STEPS):
                loss = model.compute_loss(module, batch, (), _CPU).loss
                losses.append(loss.item())
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
                optimiser.step()
        return losses

    @torch.no_grad()
    def _evaluate(self, model: Model, module: nn.Module, corpus: Corpus, schema: Schema) -> dict[str, Any]:
        stream = model.data(corpus, self.held_out, schema, batch_size=self.batch_size, seed=0, training=False)
        try:
            return model.evaluate(module, Loader(stream), schema, _CPU)
        finally:
            stream.close()


@contextmanager
def _seeded() -> Iterator[None]:
    """Torch's random numbers from seed 0 on; those of the caller go on behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _equal(first: Any, second: Any) -> bool:  # Any: tensors, and what holds them
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)
