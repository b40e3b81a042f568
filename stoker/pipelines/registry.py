"""Sources, steps and rules, looked up by the name of their file or entry point."""

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

Component = TypeVar("Component", Source, Step, Rule)
_FOLDERS: dict[type, str] = {Source: "sources", Step: "steps", Rule: "rules"}


def names(kind: type[Component]) -> list[str]:
    """The names that a recipe may use, sorted. No component is imported.

    >>> "exact_duplicates" in names(Rule)
    True
    """
    folder = _FOLDERS[kind]
    package = importlib.import_module(f"stoker.pipelines.{folder}")
    built_in = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(built_in | {point.name for point in entry_points(group=f"stoker.{folder}")})


def find(kind: type[Component], name: str) -> type[Component]:
    """The class called ``name`` in recipes. Raises RecipeError with the nearest right name."""
    folder = _FOLDERS[kind]
    known = names(kind)
    if name not in known:
        raise RecipeError(f"no {folder[:-1]} is called {name!r}; {suggestion(name, known)}")
    for point in entry_points(group=f"stoker.{folder}"):
        if point.name == name:
            return _only_class(kind, importlib.import_module(point.module))
    return _only_class(kind, importlib.import_module(f"stoker.pipelines.{folder}.{name}"))


def suggestion(name: str, known: list[str]) -> str:
    """The end of a message about a wrong name.

    >>> suggestion("lowercas", ["lowercase", "resize"])
    "did you mean 'lowercase'?"
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def name_of(component: Source | Step | Rule) -> str:
    """The name that a source, step or rule has in recipes: the name of its file."""
    return type(component).__module__.rpartition(".")[2]


def _only_class(kind: type[Component], module: ModuleType) -> type[Component]:
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, kind) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise RecipeError(f"{module.__file__}: defines {len(classes)} {kind.__name__}s, expected exactly one")
    return classes[0]
