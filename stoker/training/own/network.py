"""A classifier of images with a network of the user's own: a function that returns an nn.Module, no class of ours."""

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from stoker.plugins import one_line, suggestion
from stoker.training.errors import TrainingError
from stoker.training.networks.classifiers import Normalised
from stoker.training.pictures import augmentation
from stoker.training.run.image_classifier import ImageClassifier
from stoker.training.run.model import Schema
from stoker.training.run.options import TrainOptions

_KINDS = (bool, int, float, str)  # of options that --set can give
_OURS = ("num_classes", "channels", "pixels")  # arguments that we give, where the function takes them
_TAKEN = (
    "colour",
    "shift",
    "flip",
    "label_smoothing",
    "function",
    "name",
    "own_options",
    "own_identity",
    "added",
    "shown",
    "defaults",
)
# Options that leave a run's identity as it was while they have their default.
_ADDED: tuple[tuple[str, Any, Any], ...] = (  # Any: types, fields
    ("crop", augmentation.CropName, dataclasses.field(default="squeeze")),
    ("crop_area", float, dataclasses.field(default=0.08)),
    ("mixup", float, dataclasses.field(default=0.0)),
    ("cutmix", float, dataclasses.field(default=0.0)),
)
_NOT_THEIRS = (Path(torch.__file__).parent, Path(__file__).parents[2])
_EXAMPLE = "def build(num_classes, channels, **options) -> nn.Module"


class OwnClassifier(ImageClassifier):
    """What the classes of ``model_class`` have in common. Their options are ours and those of the function."""

    function: ClassVar[Callable[..., Any]]  # Any: it is the user's
    name: ClassVar[str]  # as it was given: file.py:function
    own_options: ClassVar[tuple[str, ...]]
    own_identity: ClassVar[Mapping[str, str]]

    def __post_init__(self) -> None:
        """Check our own options; the function checks its."""
        if not 8 <= self.pixels <= 1024:
            raise TrainingError(f"{self.name}: pixels = {self.pixels}; expected 8 to 1024")
        if not 0 <= self.shift < self.pixels // 2:
            raise TrainingError(f"{self.name}: shift {self.shift}; expected 0 to {self.pixels // 2 - 1}")
        if not 0 <= self.label_smoothing < 1:
            raise TrainingError(f"{self.name}: label_smoothing = {self.label_smoothing}; expected 0 to below 1")
        for option, (lowest, highest) in augmentation.BOUNDS.items():
            if not lowest <= getattr(self, option) <= highest:
                raise TrainingError(f"{self.name}: {option} = {getattr(self, option)}; expected {lowest} to {highest}")

    def build(self, schema: Schema) -> nn.Module:
        """See Model: the function's module, tried on a batch of two, behind the normalisation of images."""
        classes, channels = len(schema["classes"]), 1 if schema["grey"] else 3
        given = {"num_classes": classes, "channels": channels, "pixels": self.pixels}
        own = {name: getattr(self, name) for name in self.own_options}
        accepted = inspect.signature(self.function).parameters
        takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in accepted.values())
        arguments = {name: value for name, value in given.items() if takes_all or name in accepted} | own
        try:
            module = type(self).function(**arguments)
        except Exception as error:
            reason = f"{one_line(error)}{_place(error)}"
            raise TrainingError(f"{self.name}: it fails with {_shown(arguments)}: {reason}") from error
        if not isinstance(module, nn.Module):
            raise TrainingError(f"{self.name}: it returns {type(module).__name__}, expected an nn.Module: {_EXAMPLE}")
        network = _Network(self.name, module, schema)
        self._try(network, channels, classes)
        if not any(weights.requires_grad for weights in module.parameters()):
            raise TrainingError(f"{self.name}: its module has no weights to train")
        return network

    def _try(self, network: nn.Module, channels: int, classes: int) -> None:
        """Refuse a network whose output is not (B, classes); a lazy one gets its weights by this."""
        try:
            with torch.no_grad():
                logits = network.eval()(torch.zeros(2, self.pixels, self.pixels, channels, dtype=torch.uint8))
        finally:
            network.train()
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if shape != (2, classes):
            raise TrainingError(
                f"{self.name}: its module makes {shape} of {(2, channels, self.pixels, self.pixels)} floats, expected "
                f"(2, {classes}): a number for each class"
            )


class _Network(Normalised):
    """The user's module behind the normalisation of images; where it fails, one line says on what, and where."""

    def __init__(self, name: str, module: nn.Module, schema: Schema) -> None:
        super().__init__(module, schema["mean"], schema["deviation"])
        self._name = name

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, classes) logits."""
        if torch.compiler.is_compiling():  # what torch's compiler and exporter cannot trace they say themselves
            return super().forward(images)
        batch, height, width, channels = images.shape
        try:
            return super().forward(images)
        except TrainingError:  # of another rank
            raise
        except Exception as error:
            if "DTensor" in str(error):  # weights that are divided among ranks: see ``fsdp``
                raise
            raise TrainingError(
                f"{self._name}: its module fails on {(batch, channels, height, width)} floats: {one_line(error)}"
                f"{_place(error)}"
            ) from error

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """In the order of a new tensor, as ``view`` wants it."""
        return super().normalise(images).contiguous()


@functools.cache
def model_class(text: str) -> type[OwnClassifier]:
    """The model of a function, named as ``package.module:function`` or ``folder/file.py:function``.

    Raises TrainingError, in one line, for whatever keeps it from being imported or used.
    """
    where, _, attribute = text.rpartition(":")
    module = _module_of_file(text, where) if where.endswith(".py") else _module_by_name(text, where)
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
        raise TrainingError(f"{text}: {where} has no function {attribute!r}; {suggestion(attribute, known)}")
    fields = _fields(text, function)
    namespace = {
        "function": staticmethod(function),
        "name": text,
        "own_options": tuple(name for name, *_ in fields),
        "own_identity": {"class": f"{module.__name__}:{attribute}", "sha256": _digest(module)},
        "added": tuple(name for name, *_ in _ADDED),
        "__doc__": inspect.getdoc(function) or "A network of the user's own.",
    }
    ours: list[tuple[str, Any, Any]] = [  # Any: types, fields
        ("pixels", int, dataclasses.field(default=32)),
        ("colour", Literal["auto", "grey", "rgb"], dataclasses.field(default="auto")),
        *_ADDED,
        ("shift", int, dataclasses.field(default=2)),
        ("flip", bool, dataclasses.field(default=False)),
        ("label_smoothing", float, dataclasses.field(default=0.0)),
    ]
    ordered = sorted([*fields, *ours], key=lambda field: len(field))  # those that must be given come first
    return dataclasses.make_dataclass(
        _identifier(attribute), ordered, bases=(OwnClassifier,), namespace=namespace, frozen=True
    )


def run_name(text: str) -> str:
    """What the names of its runs begin with.

    >>> run_name("./nets/My net.py:build"), run_name("package.nets:small")
    ('My-net', 'package-nets')
    """
    where = text.rpartition(":")[0]
    stem = Path(where).stem if where.endswith(".py") else where
    return "".join(letter if (letter.isascii() and letter.isalnum()) or letter == "_" else "-" for letter in stem)[:40]


def _fields(text: str, function: Callable[..., Any]) -> list[tuple[Any, ...]]:  # Any: the user's; name, type, default
    """The function's parameters as options: those with a default that --set can give, and those without any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise TrainingError(f"{text}: it does not say which arguments it takes; {_EXAMPLE}") from None
    if not any(one.name == "num_classes" or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        raise TrainingError(f"{text}: it takes no num_classes; {_EXAMPLE}")
    training = {field.name for field in dataclasses.fields(TrainOptions)}
    found: list[tuple[Any, ...]] = []
    for one in parameters:
        if one.name in _OURS or one.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            continue
        if one.name in (*training, *_TAKEN) or hasattr(OwnClassifier, one.name):
            raise TrainingError(f"{text}: its parameter {one.name!r} is a name that training uses; rename it")
        kind = type(one.default) if one.annotation not in _KINDS else one.annotation
        if one.default is inspect.Parameter.empty:
            found.append((one.name, kind if kind in _KINDS else str))
        elif kind in _KINDS:
            found.append((one.name, kind, dataclasses.field(default=one.default)))
    return found


def _module_of_file(text: str, where: str) -> ModuleType:
    path = Path(where).expanduser().resolve()
    if not path.is_file():
        raise TrainingError(f"{text}: no file {path}; expected FILE.py:FUNCTION")
    name = f"stoker_own_{_identifier(path.stem)}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _add_path(path.parent)  # as Python does for a script: files beside it can be imported
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise TrainingError(f"{text}: its import fails: {one_line(error)}") from error
    return module


def _module_by_name(text: str, where: str) -> ModuleType:
    if not where or where[0] == "." or "/" in where:
        raise TrainingError(f"{text}: {where!r} names no module; expected FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION")
    _add_path(Path.cwd())
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(f"{error.name}.")):
            file = f"./{where.replace('.', '/')}.py:{text.rpartition(':')[2]}"
            raise TrainingError(
                f"{text}: no module {error.name!r} here or in PYTHONPATH; a file is named as {file}"
            ) from None
        raise TrainingError(f"{text}: its import fails: {one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise TrainingError(f"{text}: its import fails: {one_line(error)}") from error


def _add_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: it hides no installed package


def _digest(module: ModuleType) -> str:
    """The SHA-256 of the module's file: a changed one is another model."""
    path = getattr(module, "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and os.path.isfile(path) else ""


def _identifier(text: str) -> str:
    name = "".join(letter if letter.isalnum() else "_" for letter in text)
    return name if name.isidentifier() else f"_{name}"


def _place(error: BaseException) -> str:
    """The line of the user's code where an error came up, if it was in a file of theirs."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if not any(path.is_relative_to(folder) for folder in _NOT_THEIRS) and path.is_file():
            return f" ({path.name}, line {frame.lineno})"
    return ""


def _shown(arguments: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())[:200]
