"""Curate again: rules that changed decide about all samples of the newest version, and make a view of it.

Nothing is fetched, and no shard is written again: what a rule drops is masked, and what comes back is packed from the
raw parts.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.stages.curate import Decided, Judging, decide_about, put_decisions
from stoker.pipelines.stages.elders.parent import parent_of
from stoker.pipelines.stages.forgetting.matching import Forgotten, holds_forgotten
from stoker.pipelines.stages.publish import ParentMoved, Published, healed
from stoker.pipelines.stages.views import view
from stoker.release import __version__
from stoker.storage.clock import Clock, timestamp, utc_now
from stoker.storage.errors import AlreadyExists
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.content import content_of
from stoker.storage.versions.lookups.building import with_lookups
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.manifest import publish as put
from stoker.storage.versions.work import ingest_lease

_log = logging.getLogger(__name__)

_DECIDES = ("rules", "splits")  # tables of a recipe that say which samples a version holds


@dataclass(frozen=True, slots=True)
class Curated:
    """What was decided, and the version after it, which is the one before where nothing changed."""

    before: Manifest
    published: Published
    dropped: int  # samples of the version before that the new one does not hold
    added: int  # samples that the one before does not hold
    moved: int  # samples of both, in another split


def recipe_of(manifest: Manifest, changed: Mapping[str, Any], root: Path) -> Recipe:  # Any: TOML
    """The recipe of a version, with the rules and splits of another document. Raises RecipeError."""
    if manifest.is_indexed:
        raise RecipeError(
            f"{manifest.reference}: its tars are external, so that it has no raw parts of which rules could decide; "
            "`stoker forget` leaves samples out of it"
        )
    document = {name: value for name, value in manifest.recipe.items() if name not in _DECIDES}
    document |= {name: changed[name] for name in _DECIDES if name in changed}
    return parse(document, root=root, where=manifest.reference)


def decide(recipe: Recipe, before: Manifest, store: Store, scratch: Path, judging: Judging) -> Decided:
    """Decide about all samples of a version, elders among them, oldest first; stores nothing. Raises StorageError."""
    forgotten = Forgotten.load(store, recipe.corpus)
    return decide_about(recipe, before.parts, before, store, scratch, forgotten=forgotten, judging=judging)


def curate_again(recipe: Recipe, store: Store, scratch: Path, *, judging: Judging, now: Clock = utc_now) -> Curated:
    """Publish the view of the newest version that the recipe's rules make, unless it holds the same samples.

    Args:
        recipe: from ``recipe_of``.
        store: that holds the corpus.
        scratch: a folder for files.
        judging: what may be done with elders.
        now: the clock.

    Raises RecipeError, NotFound, StorageError.
    """

    def run(damaged: frozenset[str]) -> Curated:
        parent = parent_of(store, recipe.corpus)
        before = load_manifest(store, recipe.corpus, parent.version if parent else None).read_lists()
        decided = decide(recipe, before, store, scratch, judging)
        if not decided.kept.num_rows:
            raise RecipeError(f"{recipe.corpus}: the rules drop all {before.samples:,} samples; nothing was published")
        stored = view.compare(store, before, decided.kept)
        if stored.is_same:
            return Curated(before, Published(before, new=False), 0, 0, 0)
        packed = view.pack_missing(recipe, decided, stored.missing, store, scratch, damaged)
        shards, masks = view.shards_and_masks(store, before, stored, packed)
        made = Manifest(
            corpus=recipe.corpus,
            version=catalog.numbers(store, recipe.corpus).last + 1,
            created_at=timestamp(now()),
            stoker=__version__,
            recipe=recipe.document,
            recipe_digest=recipe.digest,
            parent=before.version,
            parent_checksum=before.checksum,
            content=content_of(shards, masks),
            parts=before.parts,
            shards=shards,
            decisions=put_decisions(recipe.corpus, decided, store),
            statistics={},
            licences={},
            masks=masks,
            pairs=decided.pairs.files or before.pairs,
        )
        counts = view.count(store, made, list(recipe.splits), packed)
        made = replace(made, statistics=counts.statistics, licences=counts.licences)
        made = with_lookups(store, made, before.lookups)
        if parent_of(store, recipe.corpus) != parent:
            raise ParentMoved(f"{recipe.corpus}: another version was published meanwhile")
        try:
            put(store, made)
        except AlreadyExists as error:
            raise ParentMoved(f"{recipe.corpus}: another writer took version {made.version}") from error
        if holds_forgotten(store, made, Forgotten.load(store, recipe.corpus)):
            raise ParentMoved(f"{made.reference}: it holds samples that were taken out while it was published")
        _log.info("%s: a view of %s, %d samples", made.reference, before.reference, made.samples)
        return Curated(before, Published(made, new=True), stored.leaving, stored.coming, stored.moved)

    with ingest_lease(store, recipe.corpus):
        return healed(recipe.corpus, store, run, reads=False)
