"""A recipe whose rules say what they read beside records: asked once, as a run begins, so that all reads the same.

The version's recipe holds what was pinned. So a changed file makes another recipe, whose rules decide anew.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.registry import name_of
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Context
from stoker.storage.errors import NotFound
from stoker.storage.plain_file import open_plain
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import load_manifest


def pinned(recipe: Recipe, context: Context, store: Store) -> Recipe:
    """The recipe with what its rules read pinned; itself where they read records alone. Raises RecipeError."""
    tables = list(recipe.document.get("rules", []))
    for place, rule in enumerate(recipe.rules):
        try:
            fixed = rule.pinned(_Inputs(context, store, recipe.corpus))
        except RecipeError as error:
            named = f"rule {name_of(rule)!r}: "
            raise type(error)(f"{named}{str(error).removeprefix(named)}") from None
        if fixed != rule:
            tables[place] = dict(tables[place]) | _changed(rule, fixed)
    if tables == list(recipe.document.get("rules", [])):
        return recipe
    return parse(dict(recipe.document) | {"rules": tables}, root=recipe.root)


def _changed(rule: Rule, fixed: Rule) -> dict[str, Any]:  # Any: JSON
    """The options of a rule that have another value when it is pinned, as TOML has them."""
    names = [option.name for option in dataclasses.fields(rule)]  # type: ignore[arg-type]  # rules are dataclasses
    options = {name: getattr(fixed, name) for name in names if getattr(fixed, name) != getattr(rule, name)}
    changed: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(options, mode="json")
    return changed


@dataclass(frozen=True)
class _Inputs:
    """What ``RuleInputs`` promises."""

    context: Context
    store: Store
    corpus: str  # of the recipe

    def files(self, pattern: str, /) -> Mapping[str, str]:
        """See RuleInputs."""
        paths = self.context.glob(pattern)
        if not paths:
            raise RecipeError(f"{pattern!r}: no such file in {self.context.root}")
        digests = {}
        for path in paths:
            try:
                with open_plain(path) as file:
                    digests[os.path.relpath(path, self.context.root)] = file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
        return digests

    def path(self, name: str, /) -> Path:
        """See RuleInputs."""
        return self.context.path(name)

    def version(self, reference: str, /) -> str:
        """See RuleInputs."""
        try:
            if catalog.parse_reference(reference)[0] == self.corpus:
                raise RecipeError(f"{reference!r} is the corpus of the recipe itself; expected another")
            return load_manifest(self.store, reference).reference
        except NotFound as error:
            raise RecipeError(str(error)) from None
