"""Whether an ingest would do nothing: seen from the ledger and the newest version, before anything is started."""

import logging

from stoker.pipelines.memory.known import NOTHING_AGAIN
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.source import Context
from stoker.pipelines.stages.elders.parent import decides_alike
from stoker.pipelines.stages.forgetting.matching import Forgotten, holds_forgotten
from stoker.pipelines.stages.pinning import pinned
from stoker.pipelines.stages.publish import has_too_many_rejects
from stoker.pipelines.stages.remembering.rounds import Rounds
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.proof import claims, find_damaged
from stoker.storage.versions.work import ingest_lease

_log = logging.getLogger(__name__)


def find_unchanged(recipe: Recipe, store: Store, context: Context) -> Manifest | None:
    """The newest version, where an ingest of the recipe would find nothing to do; None: it has to run, or to tell.

    Then nothing is to be asked for, the version was decided from the parts that there are by this recipe, and what it
    names is there as an ingest proves it. Takes an ingest's lease, as an ingest does. Raises what ``Rounds`` raises,
    RecipeError, StorageError.
    """
    recipe = pinned(recipe, context, store)
    with ingest_lease(store, recipe.corpus):
        try:
            return _find(recipe, store, context)
        except (CorruptShard, NotFound) as error:
            _log.info("%s", error)  # the ingest heals it, or says what helps
            return None


def _find(recipe: Recipe, store: Store, context: Context) -> Manifest | None:
    newest = max(catalog.versions(store, recipe.corpus), default=None)
    if newest is None:
        return None
    latest = load_manifest(store, recipe.corpus, newest).read_lists()
    if latest.recipe_digest != recipe.digest:
        return None
    parts = Rounds(recipe, context, store, again=NOTHING_AGAIN).known_parts()
    if parts is None or not decides_alike(recipe, parts, latest) or has_too_many_rejects(recipe, parts):
        return None
    if holds_forgotten(store, latest, Forgotten.load(store, recipe.corpus)):
        return None
    if find_damaged(store, recipe.corpus, claims(latest.parts, latest.shards, latest.decisions)):
        return None
    return latest if _has_markers(store, latest) else None


def _has_markers(store: Store, manifest: Manifest) -> bool:
    """Whether each group of shards has its marker, without which it is packed again."""
    wanted = {layout.group(manifest.corpus, shard.group) for shard in manifest.shards}
    folders = f"{manifest.corpus}/shards/"
    return not wanted or wanted <= {stored.key for stored in store.list(folders) if stored.key.endswith(".json")}
