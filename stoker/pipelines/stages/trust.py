"""Whether the paths that a recipe names stay in the recipe's folder, checked before anything is read.

``Context.path`` and ``Context.glob`` check again what only reading shows, such as the rows of a list. This also looks
at options of plug-ins, which may join paths by themselves.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from stoker.pipelines.errors import OutsideRecipe
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Context, Source
from stoker.pipelines.step import Step


def check_paths(recipe: Recipe, context: Context) -> None:
    """Raise OutsideRecipe if an option of the recipe names a path outside of its folder; never if it is trusted."""
    if context.trusted:
        return
    components: list[tuple[str, Source | Step | Rule]] = [("source", recipe.source)]
    components += [("step", step) for step in recipe.steps]
    components += [("rule", rule) for rule in recipe.rules]
    for kind, component in components:
        for option, text in _paths(component, context.root):
            try:
                context.check_pattern(text)
            except OutsideRecipe as error:
                raise OutsideRecipe(f"{kind} {name_of(component)!r}: {option} {error}") from None


def _paths(component: Source | Step | Rule, root: Path) -> Iterator[tuple[str, str]]:
    """The options that name paths, and the paths; URLs are none, but for ``file:``, and such as name what is there."""
    declared = component.path_options if isinstance(component, Source | Rule) else None
    for field in dataclasses.fields(component):  # type: ignore[arg-type]  # sources, steps and rules are dataclasses
        for text in _texts(getattr(component, field.name)):
            if declared is None:
                yield from ((field.name, path) for path in _as_path(text, root))
            elif field.name in declared and text and "://" not in text:
                yield field.name, text


def _as_path(text: str, root: Path) -> Iterator[str]:
    """A text of unknown meaning, if it is the path of something, or a glob below something.

    The same text may be a pattern of URLs or a regular expression: these name nothing that is there. Or it is a mark
    between words or sentences, such as "/" or ".": a path of nothing else is no reason to refuse a recipe.
    """
    if not text.strip("./"):
        return
    if text.lstrip().lower().startswith("file:"):
        yield "/" + text  # what a library makes of it is not known: never inside, also where nothing is there
        return
    if "://" in text and not os.path.lexists(root / text):
        return  # a URL: its "?" is no wildcard
    path = os.path.expanduser(text)
    first_glob = min((path.index(char) for char in "*?[" if char in path), default=len(path))
    fixed = path if first_glob == len(path) else os.path.dirname(path[:first_glob])
    if os.path.lexists(root / fixed):
        yield path


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _texts(inner)
