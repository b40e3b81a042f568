"""The parent: the version that the next one is decided against, and must be published right after."""

import logging
from dataclasses import dataclass

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import load_manifest

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
