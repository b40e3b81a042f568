"""What a model file offers, and how one is found by the name of its file."""

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast, get_args, get_type_hints

import torch
from torch import Tensor, nn

from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream

Facts = Mapping[str, Any]  # Any: JSON values; what a model learned of its corpus before training, kept with its weights


@dataclass(frozen=True)
class Corpus:
    """The pinned version that is trained on, and where its shards may be cached."""

    store: Store
    manifest: Manifest
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch gave."""

    loss: Tensor  # mean over the examples, a scalar
    examples: int  # samples or tokens
    carried: tuple[Tensor, ...] = ()  # what the next batch of the same pass needs, without gradients


class Model(Protocol):
    """A frozen dataclass in ``training/models/<name>.py``, its fields the options; named as its file.

    A pass over data is: ``carried = ()``, then for each batch of a feed ``outcome(module, batch, carried)``.
    """

    def learn(self, corpus: Corpus, split: str) -> Facts:
        """What must be known of the corpus first: classes, channels, means. Raises TrainingError if it does not fit."""
        ...

    def feed(self, corpus: Corpus, split: str, facts: Facts, *, batch_size: int, seed: int, training: bool) -> Stream:
        """The batches of a split; augmented and shuffled only for training."""
        ...

    def build(self, facts: Facts) -> nn.Module:
        """The network, its weights drawn from torch's random numbers."""
        ...

    def outcome(self, module: nn.Module, batch: Any, carried: tuple[Tensor, ...], device: torch.device) -> Outcome:
        """Loss of one batch."""
        ...

    def evaluate(self, module: nn.Module, batches: Iterable[Any], facts: Facts, device: torch.device) -> dict[str, Any]:
        """Metrics over held-out batches as JSON values; ``score`` among them, greater is better."""
        ...

    def sample(self, module: nn.Module, facts: Facts, device: torch.device, seed: int) -> str:
        """A text that the model wrote; empty for models that write none."""
        ...


def names() -> list[str]:
    """The models that can be trained, sorted; nothing is imported."""
    package = importlib.import_module("stoker.training.models")
    own = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(own | {point.name for point in entry_points(group="stoker.models")})


def find(name: str) -> type[Model]:
    """The class of a model. Raises TrainingError with the nearest right name."""
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        what = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        raise TrainingError(f"no model is called {name!r}; {what}")
    for point in entry_points(group="stoker.models"):
        if point.name == name:
            return _only(importlib.import_module(point.module))
    return _only(importlib.import_module(f"stoker.training.models.{name}"))


def _only(module: ModuleType) -> type[Model]:
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and hasattr(value, "outcome")
    ]
    if len(found) != 1:
        raise TrainingError(f"{module.__file__}: defines {len(found)} models, expected exactly one")
    return cast(type[Model], found[0])  # it has what Model asks for


def options_of(made: type[Any]) -> dict[str, tuple[Any, Any]]:
    """Name → (type, default) of a dataclass's options."""
    hints = get_type_hints(made)
    return {one.name: (hints[one.name], one.default) for one in dataclasses.fields(made) if one.init}


def convert(where: str, name: str, kind: Any, value: object) -> Any:  # Any: what the option holds
    """An option's value from a command line's text or from JSON. Raises TrainingError."""
    choices = get_args(kind)
    if choices and all(isinstance(choice, str) for choice in choices):
        if value in choices:
            return value
        raise TrainingError(f"{where}: {name} = {value!r}; expected one of: {', '.join(choices)}")
    try:
        if kind is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError("broken")
        return kind(value)  # int, float or str
    except (ValueError, KeyError, TypeError):
        raise TrainingError(f"{where}: {name} = {value!r}; expected {kind.__name__}") from None
