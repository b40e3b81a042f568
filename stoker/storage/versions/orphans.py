"""Orphans: objects under a corpus that no version needs. Found by listing, removed so that a kill at any point is safe.

What a version needs is what its manifest names, and the markers (``part.json``, ``group.json``) of that. An object
whose key is none of ours is never an orphan, and neither is anything under ``runs/`` and ``versions/``.
"""

import json
import math
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice

from stoker.storage.errors import NotFound
from stoker.storage.stores.store import PendingUpload, Store, StoredObject
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.work import Turn

PART, HALF_PART, GROUP, HALF_GROUP = "part", "half part", "group", "half group"
DECISIONS, NOTE, WRITE = "decisions", "note", "write"
KINDS = {
    PART: "raw parts that are done, of no version",
    HALF_PART: "raw parts that were never finished",
    GROUP: "groups of shards that are done, of no version",
    HALF_GROUP: "groups of shards that were never finished",
    DECISIONS: "decisions of no version",
    NOTE: "notes of work that never ended",
    WRITE: "writes that never ended",
}
_FOLDERS = {"raw", "shards", "decisions", "versions", "work"}
_MARKERS = ("/part.json", "/group.json")
_PROBES = "_probe/"
_DELETERS = 8
_BATCH = 256  # orphans that are removed between two looks at the versions
_LONGEST_S = 20.0  # the same, in seconds
_LARGEST_MARKER = 64 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Orphan:
    """What goes or stays together: an object, or a marker and what it promises."""

    kind: str
    objects: tuple[StoredObject, ...]  # the marker first: without it, nobody believes that the rest is there
    upload: PendingUpload | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.upload.size if self.upload else sum(one.size for one in self.objects)

    @property
    def keys(self) -> list[str]:
        """Keys of its objects; of an unfinished write, that of the object it was to become, or its name."""
        return [self.upload.key or self.upload.upload_id] if self.upload else [one.key for one in self.objects]

    @property
    def modified(self) -> float:
        """When its youngest object was written, in seconds since 1970; infinite if a store does not tell."""
        if self.upload:
            return self.upload.modified
        return max(math.inf if one.modified is None else one.modified for one in self.objects)


@dataclass
class Versions:
    """What all versions of all corpora of a store need; a corpus may be made of another one's shards."""

    store: Store
    needed: set[str] = field(default_factory=set)  # keys
    seen: set[tuple[str, int]] = field(default_factory=set)

    def refresh(self) -> None:
        """Take in what was published since.

        Raises StorageError for a manifest that cannot be read: nobody knows then what it needs.
        """
        for corpus in filter(layout.is_corpus, self.store.folders()):
            for number in catalog.versions(self.store, corpus):
                if (corpus, number) not in self.seen:
                    self.needed |= _needed(load_manifest(self.store, corpus, number), self.store)
                    self.seen.add((corpus, number))


def corpora(store: Store) -> list[str]:
    """Corpora with or without a version, in order of their names."""
    names = filter(layout.is_corpus, store.folders())
    return [name for name in names if not _FOLDERS.isdisjoint(store.folders(f"{name}/"))]


def find(store: Store, corpus: str, needed: Collection[str], *, own: str = "") -> Iterator[Orphan]:
    """The orphans of a corpus, those of each folder together, without the note ``own``.

    Memory holds one folder's listing.
    """
    for name in ("raw", "shards"):
        listed = (one for one in store.list(f"{corpus}/{name}/") if layout.is_ours(one.key))
        for folder, inside in groupby(listed, lambda one: layout.raw(one.key)):
            yield from _in_folder(store, folder, list(inside), needed, raw=name == "raw")
    for one in store.list(f"{corpus}/decisions/"):
        if layout.is_ours(one.key) and one.key not in needed:
            yield Orphan(DECISIONS, (one,))
    for one in store.list(layout.work(corpus)):
        if layout.is_ours(one.key) and one.key != own:
            yield Orphan(NOTE, (one,))
    for write in store.pending_uploads(f"{corpus}/"):
        if layout.is_ours(write.key):
            yield Orphan(WRITE, (), write)


def find_elsewhere(store: Store) -> Iterator[Orphan]:
    """Orphans that are no corpus's: half-written files that do not tell what they were to become, old probes."""
    for write in store.pending_uploads():
        if not write.key:
            yield Orphan(WRITE, (), write)
    for one in store.list(_PROBES):
        yield Orphan(WRITE, (one,))


def remove(turn: Turn, versions: Versions, orphans: Iterable[Orphan]) -> Iterator[Orphan]:
    """Remove orphans of a corpus, and give each that is gone.

    The versions are looked at again right before: what one that was published meanwhile needs stays. Raises
    ``work.AtWork`` as soon as an ingest begins; what was not removed by then stays whole.
    """
    left = iter(orphans)
    with ThreadPoolExecutor(_DELETERS, thread_name_prefix="stoker-gc") as pool:
        while batch := list(islice(left, _BATCH)):
            while batch:
                turn.check()
                versions.refresh()
                until = time.monotonic() + _LONGEST_S
                free = [one for one in batch if one.upload or versions.needed.isdisjoint(one.keys)]
                gone = list(pool.map(lambda one, until=until: _delete(turn, one, until), free))
                yield from (one for one, done in zip(free, gone, strict=True) if done)
                batch = [one for one, done in zip(free, gone, strict=True) if not done]


def remove_elsewhere(store: Store, orphan: Orphan) -> None:
    """Remove one that is no corpus's."""
    if orphan.upload:
        store.abort(orphan.upload)
    for one in orphan.objects:
        store.delete(one.key)


def _delete(turn: Turn, orphan: Orphan, until: float) -> bool:
    """Whether it is gone; not begun when the last look at the versions is too long ago."""
    if time.monotonic() > until:
        return False
    remove_elsewhere(turn.store, orphan)
    return True


def _needed(manifest: Manifest, store: Store) -> set[str]:
    """The keys in this store that a version names, and the markers of their folders."""
    own, tars = f"{store.url}/", f"{store.url if manifest.tars is None else manifest.tars}/"
    before = tars[len(own) :] if tars.startswith(own) else None  # None: its tars lie elsewhere
    found = {manifest.decisions.key}
    for shard in manifest.shards:
        found |= {shard.index, layout.group(manifest.corpus, shard.group)}
        if before is not None:
            found.add(before + shard.key)
    for part in manifest.parts:
        found |= {part.tar, part.records}
    return found


def _in_folder(
    store: Store, folder: str, inside: list[StoredObject], needed: Collection[str], *, raw: bool
) -> Iterator[Orphan]:
    """The orphans of one raw part's or one group's folder."""
    done, half = (PART, HALF_PART) if raw else (GROUP, HALF_GROUP)
    marker = next((one for one in inside if one.key.endswith(_MARKERS)), None)
    free = [one for one in inside if one is not marker and one.key not in needed]
    if marker is not None and (free or len(inside) == 1):
        promised = _promised(store, marker.key, folder)
        if marker.key not in needed and not (promised and all(key in needed for key in promised)):
            if promised is None:  # nobody can use it: an ingest stops there
                yield Orphan(half, (marker, *free))
                return
            yield Orphan(done, (marker, *(one for one in free if one.key in promised)))
        free = [] if promised is None else [one for one in free if one.key not in promised]
    if free:
        yield Orphan(half, tuple(free))


def _promised(store: Store, key: str, folder: str) -> set[str] | None:
    """The keys in its folder that a marker names; None if it cannot be read."""
    try:
        found = json.loads(store.read(key, size=_LARGEST_MARKER))
        if key.endswith("/part.json"):
            names = [found["tar"], found["records"]]
        else:  # one shard: the index of a tar that lies elsewhere
            shards = found["shards"] if "shards" in found else [found["shard"]]
            names = [name for one in shards for name in (one["key"], one["index"])]
        return {name for name in names if name.startswith(folder)}
    except NotFound:
        return set()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
