"""The parent: the version that the next one is decided against, and must be published right after."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe, rules_in
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Part, load_manifest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parent:
    """The newest version of a corpus when a curation began."""

    version: int
    checksum: str | None  # of its manifest; None: that is damaged, and nothing is known of what it holds


def parent_of(store: Store, corpus: str) -> Parent | None:
    """The newest version; None if there is none. Raises StorageUnavailable, and StorageRefused for a newer schema."""
    newest = max(catalog.versions(store, corpus), default=None)
    if newest is None:
        return None
    try:
        return Parent(newest, load_manifest(store, corpus, newest).checksum)
    except (CorruptShard, NotFound) as error:
        _log.warning("%s", error)
        return Parent(newest, None)


def manifest_of(store: Store, corpus: str, parent: Parent | None) -> Manifest | None:
    """The version whose samples are elders: the parent, or the newest one before it that is not damaged."""
    numbers = catalog.versions(store, corpus) if parent else []
    for number in sorted((number for number in numbers if parent and number <= parent.version), reverse=True):
        try:
            return load_manifest(store, corpus, number).read_lists()
        except (CorruptShard, NotFound) as error:
            _log.warning("%s; what it holds is not known", error)
    return None


def decides_alike(recipe: Recipe, parts: Sequence[Part], before: Manifest) -> bool:
    """Whether nothing is to be decided: recipe and parts are those of the version, whose decisions hold then."""
    return recipe.digest == before.recipe_digest and _bytes_of(parts) == _bytes_of(before.parts)


def _bytes_of(parts: Sequence[Part]) -> list[tuple[str, str, str, tuple[int, ...]]]:
    """What determines the samples of parts that are in groups of shards."""
    held = (part for part in parts if part.grouped and part.counted.kept)
    return [(part.digest, part.tar_sha256, part.records_sha256, part.left_out) for part in held]


def has_rules_of(recipe: Recipe, before: Manifest) -> bool:
    """Whether a version was made by rules of the same names and options, whatever release had them."""
    stated = before.recipe.get("rules", [])
    if stated == recipe.document.get("rules", []):
        return True
    try:
        return rules_in({"rules": stated}, before.reference) == recipe.rules
    except RecipeError:  # of a plug-in that is not installed, or with an option that is none any more
        return False
