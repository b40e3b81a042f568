"""The interface of a model file, and the lookup of a model by its file's name."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.run import renamed

Schema = Mapping[str, Any]  # Any: JSON values; what a model reads off a corpus before training, saved with its weights


@dataclass(frozen=True)
class Corpus:
    """The pinned version to train on, and where its shards may be cached."""

    store: Store
    manifest: Manifest
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class StepOutput:
    """The loss of one batch, and the state for the next one."""

    loss: Tensor  # mean over the examples, a scalar
    examples: int  # samples or tokens in the batch
    state: tuple[Tensor, ...] = ()  # of a recurrent model, for the next batch of the same epoch; detached


class Model(Protocol):
    """A frozen dataclass in ``training/models/<name>.py``; its fields are the options.

    An epoch is: ``state = ()``, then ``output = compute_loss(module, batch, state, device)`` and
    ``state = output.state`` for each batch of ``data``.
    """

    def prepare(self, corpus: Corpus, split: str) -> Schema:
        """What the network and its data depend on: classes, channels, means.

        Called once, before training; a resumed run reads it from its checkpoint. Raises TrainingError if the model
        cannot be trained on the corpus.
        """
        ...

    def data(self, corpus: Corpus, split: str, schema: Schema, *, batch_size: int, seed: int, training: bool) -> Stream:
        """The batches of a split; shuffled and augmented only if ``training``."""
        ...

    def build(self, schema: Schema) -> nn.Module:
        """The network, its weights drawn from torch's global random numbers."""
        ...

    def compute_loss(
        self, module: nn.Module, batch: Any, state: tuple[Tensor, ...], device: torch.device
    ) -> StepOutput:
        """The loss of one batch, for back-propagation, and the state after it."""
        ...

    def evaluate(
        self, module: nn.Module, batches: Iterable[Any], schema: Schema, device: torch.device
    ) -> dict[str, Any]:
        """Metrics over held-out batches as JSON values; ``score`` is among them, greater is better."""
        ...

    def generate(self, module: nn.Module, schema: Schema, device: torch.device, seed: int) -> str:
        """A text that the trained model writes; empty for models that write none."""
        ...


def names() -> list[str]:
    """The names of all models, sorted; imports none of them."""
    package = importlib.import_module("stoker.training.models")
    built_in = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(built_in | {point.name for point in entry_points(group="stoker.models")})


def find(name: str) -> type[Model]:
    """The class of a model. Raises TrainingError with the nearest right name."""
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
        raise TrainingError(f"no model is called {name!r}; {hint}")
    for point in entry_points(group="stoker.models"):
        if point.name == name:
            return model_class(importlib.import_module(point.module))
    return model_class(importlib.import_module(f"stoker.training.models.{name}"))


def model_class(module: ModuleType) -> type[Model]:
    """The only model that a module defines. Raises TrainingError if it defines none, or several."""
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and renamed.has_loss(value)
    ]
    if len(classes) != 1:
        raise TrainingError(f"{module.__file__}: defines {len(classes)} models, expected exactly one")
    renamed.add_new_methods(classes[0])
    return cast(type[Model], classes[0])  # it has the methods that Model asks for


def __getattr__(name: str) -> Any:  # Any: a type under its old name
    if name == "Facts":
        renamed.warn("Facts", "Schema")
        return Schema
    if name == "Outcome":
        renamed.warn("Outcome", "StepOutput")
        return renamed.outcome_class(StepOutput)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
