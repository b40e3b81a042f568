"""The recipe of a version, from its manifest."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

from stoker.pipelines.recipe import Recipe, parse
from stoker.storage.versions.manifest import Manifest

_MOST = 6  # splits whose orders are all tried: 720


def recipe_in(manifest: Manifest, *, root: Path = Path()) -> Recipe:
    """The recipe that a version was made by, its splits in their order. Raises RecipeError.

    The JSON of a manifest has the splits by name, but a group's place among them depends on their order. The order is
    the one with which the recipe has the digest that the manifest states; if other code gives it another digest, that
    of the statistics.
    """
    recipe = parse(manifest.recipe, root=root, where=manifest.reference)
    told = [name for name in manifest.statistics if name in recipe.splits]
    likely = [*told, *(name for name in recipe.splits if name not in told)]
    orders = [tuple(likely)]
    if len(likely) <= _MOST:
        orders += list(permutations(likely))
    for order in orders:
        ordered = _ordered(recipe, order)
        if ordered.digest == manifest.recipe_digest:
            return ordered
    return _ordered(recipe, tuple(likely))


def _ordered(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    splits = {name: recipe.splits[name] for name in names}
    document: Mapping[str, Any] = recipe.document  # Any: TOML
    if "splits" in document:
        document = {**document, "splits": {name: document["splits"][name] for name in names}}
    return replace(recipe, splits=splits, document=document)
