"""Options compared with their types: an error names the option, what was given and what is expected."""

import dataclasses
import reprlib
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from stoker.storage.stores.store import Store
from stoker.training.errors import TrainingError

_WORDS: Mapping[Any, str] = {  # Any: types
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    types.NoneType: "None",
    Callable: "a function",
    Sequence: "a list",
    Mapping: "a dictionary",
    Store: "a store: open_store(url)",
}
_PLAIN = (str, bytes, PurePath, Real, Collection, types.NoneType)  # of which none keeps a protocol of ours


def check_options(stream: Any) -> None:  # Any: a dataclass
    """Raise TrainingError if an option of a stream has not the type that its class declares."""
    options = {option.name: getattr(stream, option.name) for option in dataclasses.fields(stream) if option.init}
    check_types(type(stream).__name__, get_type_hints(type(stream)), options)


def check_types(owner: str, kinds: Mapping[str, Any], options: Mapping[str, object]) -> None:  # Any: types
    """Raise TrainingError for the first option whose value is not of its kind.

    >>> check_types("Loader", {"workers": int}, {"workers": "two"})
    Traceback (most recent call last):
    stoker.training.errors.TrainingError: Loader: workers = 'two'; expected a whole number
    """
    for name, value in options.items():
        if not _fits(kinds[name], value):
            raise TrainingError(f"{owner}: {name} = {reprlib.repr(value)}; expected {words_for(kinds[name])}")


def _fits(kind: Any, value: Any) -> bool:  # Any: a type; what was given
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(argument, value) for argument in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is Callable:
        return callable(value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(arguments[1], element) for element in value.values())
    if origin is not None and issubclass(origin, Sequence):  # sets of names do as well
        plain = isinstance(value, str | bytes | Mapping)
        return isinstance(value, Collection) and not plain and all(_fits(arguments[0], element) for element in value)
    if kind in (int, float, bool):
        if isinstance(value, bool | np.bool_) or kind is bool:
            return kind is bool and isinstance(value, bool | np.bool_)
        return isinstance(value, Integral if kind is int else Real)
    if getattr(kind, "_is_protocol", False):
        return not isinstance(value, _PLAIN) and not isinstance(value, type)
    return isinstance(value, kind)


def words_for(kind: Any) -> str:  # Any: a type
    """How a type is called in a message: ``int`` is "a whole number"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(words_for(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is not None and issubclass(origin, Collection):
        return f"{_WORDS[origin]} of {words_for(arguments[-1]).removeprefix('a ')}s"
    return _WORDS.get(origin or kind) or f"a {kind.__name__}"
