"""The interface of a model file, and the lookup of a model by its file's name."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from stoker.plugins import Lookup, dataclass_problem, method_problem, one_line
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.run import renamed

Schema = Mapping[str, Any]  # Any: JSON values; what a model reads off a corpus before training, saved with its weights


@dataclass(frozen=True)
class Corpus:
    """The pinned version to train on, and where its shards may be cached.

    ``skip_budget``: samples that a stream of ``data`` may leave out because they do not decode:
    ``ShardStream(..., on_corrupt="skip_samples", skip_budget=corpus.skip_budget)``. ``rank``, ``world_size``: the share
    of each batch that this process trains on, for the stream. An empty share is given to ``compute_loss`` as it is,
    which then calls the network with it: the ranks exchange gradients, and norms, at each pass.
    """

    store: Store
    manifest: Manifest
    cache: Path | None = None
    skip_budget: int = 0
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, slots=True)
class StepOutput:
    """The loss of one batch, and the state for the next one."""

    loss: Tensor  # mean over the examples, a scalar
    examples: int  # samples or tokens in the batch
    # Of a recurrent model, for the next batch of the same epoch; detached. Rows are along dimension 1, as in nn.LSTM.
    state: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Traceable:
    """A network as it is exported: examples of its inputs, and names for those who run it.

    ``module`` takes the first input by position and any others as ``*state``, and returns a tensor, or a tuple of the
    output and the state after it.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]  # of a batch of two or more
    batch_dimensions: tuple[int, ...]  # of each input
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


class Model(Protocol):
    """A frozen dataclass in ``training/models/<name>.py``; its fields are the options.

    It may have a method ``prepare_weights(module, batches, device)``, too: called once, before the first step of a run
    and not when it is resumed, with the network and an iterator over the first batches, to set weights by what the
    network makes of them. ``added``: names of options that leave a run's identity as it was while they have their
    default, so that runs from before they were there go on. ``takes_device_batches = True``: ``compute_loss`` does not
    mind if the tensors of a batch are on the device already; to a GPU they are copied while it computes then.

    An epoch is: ``state = ()``, then ``output = compute_loss(module, batch, state, device)`` and
    ``state = output.state`` for each batch of ``data``.

    A model may also have ``adapt(schema, corpus, split)``: the schema of a trained model for evaluating on a split of
    another version; what the model cannot use of that split is in its ``left_out``. Without it ``prepare`` says that.
    And ``predict(module, payloads, schema, device)`` for `stoker predict`: for the bytes of each file a dictionary of
    probabilities by class, or a text that says why it has none. And ``traceable(module, schema)`` for `stoker export`.
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
    return _LOOKUP.names()


def find(name: str) -> type[Model]:
    """The class of a model; ``module:function`` and ``file.py:function`` name a network of the user's own.

    Raises TrainingError with the nearest right name, or what is wrong with it.
    """
    if is_own(name):
        return cast(type[Model], import_module(_OWN).model_class(name))
    return cast(type[Model], _LOOKUP.find(name))  # it has the methods that Model asks for


def is_own(name: str) -> bool:
    """Whether a name is that of a function that builds a network: code of the user's own."""
    return ":" in name


def run_name(name: str) -> str:
    """What the names of a model's runs begin with."""
    return str(import_module(_OWN).run_name(name)) if is_own(name) else name


def name_of(model: Model) -> str:
    """The name that a model has on the command line: that of its entry point, or of its file."""
    return _LOOKUP.name_of(type(model))


def plugin_identity(model: Model) -> dict[str, str]:
    """Distribution and class of a plug-in's model, which tell its runs from those of another; empty if built-in."""
    own: Mapping[str, str] | None = getattr(type(model), "own_identity", None)
    return dict(own) if own is not None else _LOOKUP.identity(type(model))


def _is_model(value: object) -> bool:
    return isinstance(value, type) and value is not Model and renamed.has_loss(value)


def _model_problem(part: type) -> str:
    renamed.add_new_methods(part)
    return method_problem(part, Model, _METHODS, kind="model") or dataclass_problem(part) or _option_problem(part)


def _option_problem(part: Any) -> str:  # Any: a dataclass
    """What is wrong with the types of the options; "" if nothing is."""
    try:
        kinds = get_type_hints(part)
    except Exception as error:  # noqa: BLE001  # annotations are expressions, which may raise anything
        return f"the types of its options cannot be read: {one_line(error)}; import them where it is defined"
    for option in dataclasses.fields(part):
        where = f"option {option.name!r} of class {part.__qualname__}"
        kind, default = kinds[option.name], option.default
        is_choice = get_origin(kind) is Literal and all(isinstance(text, str) for text in get_args(kind))
        if kind not in (bool, int, float, str) and not is_choice and default is dataclasses.MISSING:
            return f"{where} has a type that --set cannot give; expected bool, int, float, str or a Literal of texts"
        try:
            json.dumps(default if default is not dataclasses.MISSING else None)
        except (TypeError, ValueError):
            return f"{where} has a default that JSON cannot hold ({type(default).__name__}); expected one that it can"
    return ""


_OWN = "stoker.training.own.network"  # imported where it is used: it stands on this module
_METHODS = ("prepare", "data", "build", "compute_loss", "evaluate", "generate")
_LOOKUP = Lookup(
    kind="model",
    group="stoker.models",
    package="stoker.training.models",
    is_one=_is_model,
    problem=_model_problem,
    error=TrainingError,
)


def __getattr__(name: str) -> Any:  # Any: a type under its old name
    if name == "Facts":
        renamed.warn("Facts", "Schema")
        return Schema
    if name == "Outcome":
        renamed.warn("Outcome", "StepOutput")
        return renamed.outcome_class(StepOutput)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
