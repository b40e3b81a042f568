"""Sources, steps and rules, found by the name of their file."""

import difflib
import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType
from typing import TypeVar

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.step import Step

Part = TypeVar("Part", Source, Step, Rule)
_FOLDERS: dict[type, str] = {Source: "sources", Step: "steps", Rule: "rules"}


def names(kind: type[Part]) -> list[str]:
    """The names that a recipe may use, sorted; nothing is imported."""
    folder = _FOLDERS[kind]
    package = importlib.import_module(f"stoker.pipelines.{folder}")
    own = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(own | {point.name for point in entry_points(group=f"stoker.{folder}")})


def find(kind: type[Part], name: str) -> type[Part]:
    """The class called ``name`` in recipes. Raises RecipeError with the nearest right name."""
    folder = _FOLDERS[kind]
    known = names(kind)
    if name not in known:
        raise RecipeError(f"no {folder[:-1]} is called {name!r}; {suggestion(name, known)}")
    for point in entry_points(group=f"stoker.{folder}"):
        if point.name == name:
            return _only(kind, importlib.import_module(point.module))
    return _only(kind, importlib.import_module(f"stoker.pipelines.{folder}.{name}"))


def suggestion(name: str, known: list[str]) -> str:
    """The end of a message about a wrong name.

    >>> suggestion("lowercas", ["lowercase", "resize"])
    "did you mean 'lowercase'?"
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def name_of(part: Source | Step | Rule) -> str:
    """The name a part has in recipes: that of its file."""
    return type(part).__module__.rpartition(".")[2]


def _only(kind: type[Part], module: ModuleType) -> type[Part]:
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, kind) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise RecipeError(f"{module.__file__}: defines {len(found)} {kind.__name__}s, expected exactly one")
    return found[0]
