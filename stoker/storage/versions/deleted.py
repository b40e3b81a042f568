"""Markers of versions that were deleted: their numbers are never used again.

The marker is written first, then the manifest goes. From the marker on the version is not listed and no ingest follows
it. If the process dies between the two, `stoker gc` removes the manifest; beside a damaged marker it keeps it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.sealed import read_sealed, seal

SCHEMA = 1
_MAX_SIZE = 2**16  # bytes
_REMEDY = (
    "restore the marker from a copy, or remove it if the version was not deleted; as long as it is there the version "
    "is not listed, and gc keeps its manifest"
)


@dataclass(frozen=True, slots=True)
class Deleted:
    """A version that is gone."""

    corpus: str
    version: int
    deleted_at: str  # ISO 8601, UTC


def delete_version(store: Store, corpus: str, version: int, *, at: str) -> None:
    """Delete a version: mark it as gone, and remove its manifest. What it alone needed is then for `stoker gc`.

    May be repeated after a crash: the first marker stays. Raises NotFound if there never was such a version.

    Args:
        store: the store that holds the corpus.
        corpus: its name.
        version: the version's number.
        at: the time, ISO 8601 in UTC.
    """
    key = layout.version(corpus, version)
    if not is_deleted(store, corpus, version):
        store.size(key)  # raises NotFound
        with suppress(AlreadyExists):
            store.create(layout.deleted(corpus, version), encode(Deleted(corpus, version, at)))
    store.delete(key)


def delete_corpus(store: Store, corpus: str, versions: Sequence[int], *, at: str) -> None:
    """Delete versions of a corpus, oldest first, and its ledger heads; what they named is then for `stoker gc`.

    What was taken out of the corpus, and the numbers of its versions, stay known. May be repeated after a crash. Who
    calls it holds the lease of a gc, so that no ingest relies on what goes.

    Args:
        store: the store that holds the corpus.
        corpus: its name.
        versions: the numbers of all its versions.
        at: the time, ISO 8601 in UTC.
    """
    for version in sorted(versions):
        delete_version(store, corpus, version, at=at)
    for stored in list(store.list(layout.ledgers(corpus))):
        if layout.number_of(stored.key) is not None:
            store.delete(stored.key)


def is_deleted(store: Store, corpus: str, version: int) -> bool:
    """Whether the version was deleted: its marker is there, also if it is damaged."""
    key = layout.deleted(corpus, version)
    return any(stored.key == key for stored in store.list(key))


def is_intact(store: Store, corpus: str, version: int) -> bool:
    """Whether the marker is there and not damaged: no other proves that somebody deleted the version."""
    try:
        load_deleted(store, corpus, version)
    except (CorruptShard, NotFound, StorageRefused):
        return False
    return True


def load_deleted(store: Store, corpus: str, version: int) -> Deleted:
    """What a marker says. Raises NotFound if there is none, CorruptShard for a damaged one, StorageRefused."""
    key = layout.deleted(corpus, version)
    document = read_sealed(store, key, newest=SCHEMA, remedy=_REMEDY, most=_MAX_SIZE)
    found = Deleted(document.text("corpus"), document.whole("version"), document.text("deleted_at"))
    if (found.corpus, found.version) != (corpus, version):
        raise CorruptShard(
            f"{store.url}/{key}: it is of {found.corpus[:80]}@{found.version}; was it copied or renamed?"
        )
    return found


def encode(deleted: Deleted) -> bytes:
    """The object of a marker."""
    return seal(asdict(deleted) | {"schema": SCHEMA})
