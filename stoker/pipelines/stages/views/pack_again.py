"""Pack a view: the next version holds the same samples in shards of its own, which any WebDataset reader can read."""

from dataclasses import replace
from pathlib import Path

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.published import recipe_in
from stoker.pipelines.stages.curate import restored
from stoker.pipelines.stages.elders.parent import parent_of
from stoker.pipelines.stages.pack import pack
from stoker.pipelines.stages.publish import Published, healed, publish
from stoker.storage.clock import Clock, utc_now
from stoker.storage.errors import StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory.tombstones import newest_number
from stoker.storage.versions.work import ingest_lease


def pack_again(store: Store, corpus: str, scratch: Path, *, compact: bool = False, now: Clock = utc_now) -> Published:
    """Publish the newest version's samples packed; nothing is decided, and no group that is whole is written again.

    A version without masks is packed already: nothing is published for it, unless ``compact``, and its shards are
    fewer or fuller then.

    Raises RecipeError, NotFound, StorageError.
    """

    def run(damaged: frozenset[str]) -> Published:
        tombstones, parent = newest_number(store, corpus), parent_of(store, corpus)
        before = load_manifest(store, corpus, parent.version if parent else None).read_lists()
        if before.is_indexed:
            raise StorageRefused(
                f"{before.reference}: its tars are external, so that it has no raw parts to be packed from; "
                "`webdataset` reads them with the masked samples, Stoker without"
            )
        if before.is_packed and not compact:
            return Published(before, new=False)
        try:
            recipe = recipe_in(before)
        except RecipeError as error:
            raise RecipeError(f"{error}; it is packed by the release, and with the plug-ins, that made it") from error
        parts = [replace(part, ends_group=False) for part in before.parts] if compact else before.parts
        curation = restored(recipe, parts, before.decisions, store, parent)
        curation = replace(curation, tombstones=tombstones)
        groups = zip(curation.groups, curation.by_group, strict=True)
        packed = [pack(recipe, group, decisions, store, scratch, damaged=damaged) for group, decisions in groups]
        return publish(recipe, parts, curation, packed, store, now=now)

    with ingest_lease(store, corpus):
        return healed(corpus, store, run, reads=False)
