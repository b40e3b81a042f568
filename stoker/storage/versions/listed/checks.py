"""Checks what a manifest and its lists say against each other, before anything is made of it."""

from collections import Counter
from collections.abc import Sequence

from stoker.storage.errors import CorruptShard
from stoker.storage.versions.document import Document
from stoker.storage.versions.listed.named import Mask, Shard


def check_recipe(recipe: Document, *, indexed: bool) -> None:
    """Raises CorruptShard if a recipe does not have the form of one: what its names mean is for those who read it."""
    for name in ("steps", "rules"):
        if recipe.has(name):
            list(recipe.documents(name))
    if recipe.has("splits"):
        recipe.mapping("splits")
    source = recipe.document("source") if recipe.has("source") else None
    if indexed and source is not None:
        for name in ("tars", "key"):
            if source.has(name):
                source.text(name)
        if source.has("splits"):
            source.texts("splits")


def check_once(splits: Sequence[str], where: str) -> None:
    """Raises CorruptShard if a split is named twice: one of the two would not be read."""
    twice = next((split for split, times in Counter(splits).items() if times > 1), None)
    if twice is not None:
        raise CorruptShard(f"{where}: names split {twice[:100]!r} twice, expected each once")


def check_masks(shards: Sequence[Shard], masks: Sequence[Mask], where: str) -> None:
    """Raises CorruptShard if masks and the shards' counts of masked samples do not belong together."""
    groups = [mask.group for mask in masks]
    masked = {shard.group for shard in shards if shard.masked}
    if len(set(groups)) != len(groups) or masked != set(groups):
        raise CorruptShard(
            f"{where}: {len(groups)} masks, but samples of {len(masked)} groups are masked; expected one for each"
        )
