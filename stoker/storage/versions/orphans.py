"""Orphans: objects of a corpus that nothing refers to. Found by listing; removal can be killed at any point.

A version refers to the objects that its manifest names, and to their markers (``part.json``, ``group.json``); the
newest ledger heads refer to what they name. Only objects with keys that Stoker creates can be orphans, and none under
``runs/``, ``tombstones/`` and ``withdrawn/``, and of ``versions/`` only what a killed deletion left.
"""

import json
import math
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.store import PendingUpload, Store, StoredObject
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.deleted import is_intact
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.memory.ledger import KEPT
from stoker.storage.versions.memory.references import MemoryKeys
from stoker.storage.versions.tar_store import keys_of_tars
from stoker.storage.versions.work import GcLease

# The values stand in the JSON output of `stoker gc`.
PART, INCOMPLETE_PART, GROUP, INCOMPLETE_GROUP = "part", "half part", "group", "half group"
DECISIONS, MASK, LIST, DELETED = "decisions", "mask", "list", "deleted version"
LEDGER, OUTCOMES, PLAN, STUDY = "ledger head", "outcomes", "plan", "study"
LEASE, INCOMPLETE_UPLOAD = "note", "write"
KINDS = {
    PART: "complete raw parts of no version",
    INCOMPLETE_PART: "incomplete raw parts, and segments of complete ones",
    GROUP: "complete groups of shards of no version",
    INCOMPLETE_GROUP: "incomplete groups of shards",
    DECISIONS: "decisions of no version",
    MASK: "masks of no version",
    LIST: "lists that neither a version nor a ledger head names",
    DELETED: "manifests of versions whose deletion did not end",
    LEDGER: f"ledger heads before the last {KEPT}",
    OUTCOMES: "outcomes that no ledger head names",
    PLAN: "plans that no ledger head names",
    STUDY: "studies of no version",
    LEASE: "leases of processes that died",
    INCOMPLETE_UPLOAD: "incomplete uploads",
}
# Folders in which each object is by itself.
_SINGLE = {
    DECISIONS: "decisions",
    MASK: "masks",
    LIST: "lists",
    LEDGER: "memory",
    OUTCOMES: "outcomes",
    PLAN: "plans",
    STUDY: "studies",
}
_FOLDERS = {"raw", "shards", "versions", "work", "tombstones", "withdrawn", *_SINGLE.values()}
_MARKERS = ("/part.json", "/group.json")
_PROBES = "_probe/"
_DELETERS = 8
_BATCH = 256  # orphans removed between two checks for new versions
_MAX_BATCH_S = 20.0
_MAX_MARKER = 64 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Orphan:
    """An object, or a marker with the objects it lists: removed or kept together."""

    kind: str
    objects: tuple[StoredObject, ...]  # the marker first: once it is gone, no ingest relies on the others
    upload: PendingUpload | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.upload.size if self.upload else sum(stored.size for stored in self.objects)

    @property
    def keys(self) -> list[str]:
        """Keys of its objects; for an incomplete upload the key of the object to be, or the upload's name."""
        return [self.upload.key or self.upload.upload_id] if self.upload else [stored.key for stored in self.objects]

    @property
    def modified(self) -> float:
        """When its newest object was written, in seconds since 1970; infinite if the store does not know."""
        if self.upload:
            return self.upload.modified
        return max(math.inf if stored.modified is None else stored.modified for stored in self.objects)


@dataclass
class ReferencedKeys:
    """The keys that any version or ledger of a store refers to; versions may use shards of other corpora.

    Of a corpus with a damaged list, or a damaged memory, they are unknown: nothing of it can be told an orphan.
    """

    store: Store
    keys: set[str] = field(default_factory=set)
    versions: set[tuple[str, int]] = field(default_factory=set)  # corpus and version of the manifests read so far
    memory: MemoryKeys = field(default_factory=MemoryKeys)
    unknown: dict[str, str] = field(default_factory=dict)  # by corpus: why what it refers to is not known

    def of(self, corpus: str) -> set[str]:
        """All keys, to find the orphans of a corpus. Raises CorruptShard if what the corpus refers to is unknown."""
        if corpus in self.unknown:
            raise CorruptShard(f"{corpus}: nothing of it is an orphan as long as it is damaged: {self.unknown[corpus]}")
        return self.keys

    def refresh(self) -> None:
        """Add the versions and ledger heads that were made since.

        Raises StorageError for a manifest that cannot be read: it may refer to shards of any corpus.
        """
        self.unknown.clear()
        for corpus in filter(layout.is_corpus, self.store.folders()):
            numbers = catalog.numbers(self.store, corpus)
            half_deleted = _half_deleted(self.store, corpus, numbers)
            for number in numbers.manifests:
                if (corpus, number) not in self.versions and self._add(corpus, number, number in half_deleted):
                    self.versions.add((corpus, number))
            try:
                self.memory.add(self.store, corpus, self.keys)
            except (CorruptShard, NotFound, StorageRefused) as error:  # it names objects of its own corpus alone
                self.unknown.setdefault(corpus, str(error))

    def _add(self, corpus: str, number: int, deleted: bool) -> bool:
        """Add what a version refers to; False where it is not known."""
        try:
            manifest = load_manifest(self.store, corpus, number)
        except (CorruptShard, NotFound):
            if deleted:  # whose deletion did not end: nothing needs it
                return True
            raise
        try:
            self.keys |= _referenced_keys(manifest, self.store)
        except (CorruptShard, NotFound) as error:
            if deleted:
                return True
            if manifest.is_indexed:  # its tars may be of any corpus
                raise
            self.unknown.setdefault(corpus, str(error))
            return False
        return True


def corpora(store: Store) -> list[str]:
    """The names of all corpora, also of those without a version, in order."""
    names = filter(layout.is_corpus, store.folders())
    return [name for name in names if not _FOLDERS.isdisjoint(store.folders(f"{name}/"))]


def find(store: Store, corpus: str, referenced: Collection[str], *, own_lease: str = "") -> Iterator[Orphan]:
    """The orphans of a corpus, folder by folder, without the lease ``own_lease``.

    Memory: the listing of one folder.
    """
    for name in ("raw", "shards"):
        listed = (stored for stored in store.list(f"{corpus}/{name}/") if layout.is_ours(stored.key))
        for folder, objects in groupby(listed, lambda stored: layout.folder_of(stored.key)):
            yield from _in_folder(store, folder, list(objects), referenced, raw=name == "raw")
    for kind, folder in _SINGLE.items():
        for stored in store.list(f"{corpus}/{folder}/"):
            if layout.is_ours(stored.key) and stored.key not in referenced:
                yield Orphan(kind, (stored,))
    half_deleted = _half_deleted(store, corpus, catalog.numbers(store, corpus))
    names = {layout.version(corpus, number) for number in half_deleted}
    for stored in store.list(layout.versions(corpus)) if names else ():
        if stored.key in names:
            yield Orphan(DELETED, (stored,))
    for stored in store.list(layout.leases(corpus)):
        if layout.is_ours(stored.key) and stored.key != own_lease:
            yield Orphan(LEASE, (stored,))
    for upload in store.pending_uploads(f"{corpus}/"):
        if layout.is_ours(upload.key) or layout.is_permanent(upload.key):
            yield Orphan(INCOMPLETE_UPLOAD, (), upload)


def find_outside_corpora(store: Store) -> Iterator[Orphan]:
    """Orphans that belong to no corpus: incomplete uploads whose keys are unknown, and old probes."""
    for upload in store.pending_uploads():
        if not upload.key:
            yield Orphan(INCOMPLETE_UPLOAD, (), upload)
    for stored in store.list(_PROBES):
        yield Orphan(INCOMPLETE_UPLOAD, (stored,))


def remove(lease: GcLease, referenced: ReferencedKeys, orphans: Iterable[Orphan]) -> Iterator[Orphan]:
    """Remove orphans of a corpus; yields each one that is gone.

    Each batch first checks for new versions: what they refer to stays. Raises ``work.CorpusBusy`` as soon as an ingest
    begins; orphans not removed by then stay complete.
    """
    remaining = iter(orphans)
    with ThreadPoolExecutor(_DELETERS, thread_name_prefix="stoker-gc") as pool:
        while batch := list(islice(remaining, _BATCH)):
            while batch:
                lease.check()
                referenced.refresh()
                keys = referenced.of(lease.corpus)
                until = time.monotonic() + _MAX_BATCH_S
                free = [orphan for orphan in batch if orphan.upload or keys.isdisjoint(orphan.keys)]
                deleted = list(pool.map(lambda orphan, until=until: _delete(lease, orphan, until), free))
                yield from (orphan for orphan, is_gone in zip(free, deleted, strict=True) if is_gone)
                batch = [orphan for orphan, is_gone in zip(free, deleted, strict=True) if not is_gone]


def remove_outside_corpora(store: Store, orphan: Orphan) -> None:
    """Remove an orphan that belongs to no corpus."""
    if orphan.upload:
        store.abort(orphan.upload)
    for stored in orphan.objects:
        store.delete(stored.key)


def _half_deleted(store: Store, corpus: str, numbers: catalog.Numbers) -> set[int]:
    """The versions whose manifest is there, and an intact marker that says that they were deleted."""
    return {number for number in set(numbers.manifests) & set(numbers.deleted) if is_intact(store, corpus, number)}


def _delete(lease: GcLease, orphan: Orphan, until: float) -> bool:
    """Whether the orphan was removed; not attempted when the last check for new versions is too long ago."""
    if time.monotonic() > until:
        return False
    remove_outside_corpora(lease.store, orphan)
    return True


def _referenced_keys(manifest: Manifest, store: Store) -> set[str]:
    """The keys in this store that a version names, and those of their groups' markers."""
    keys = {manifest.decisions.key, *(file.key for file in manifest.lists), *(mask.key for mask in manifest.masks)}
    keys |= {file.key for file in (*manifest.lookups, *manifest.pairs)}
    keys |= {layout.study(manifest.corpus, manifest.version, kind) for kind in layout.STUDIES}
    keys |= keys_of_tars(store, manifest)
    for shard in manifest.shards:
        keys |= {shard.index, layout.group(manifest.corpus, shard.group)}
    for part in manifest.parts:
        keys |= {part.tar, part.records, *part.originals}
    return keys


def _in_folder(
    store: Store, folder: str, objects: list[StoredObject], referenced: Collection[str], *, raw: bool
) -> Iterator[Orphan]:
    """The orphans in the folder of one raw part or one group."""
    complete, incomplete = (PART, INCOMPLETE_PART) if raw else (GROUP, INCOMPLETE_GROUP)
    marker = next((stored for stored in objects if stored.key.endswith(_MARKERS)), None)
    free = [stored for stored in objects if stored is not marker and stored.key not in referenced]
    if marker is None and f"{folder}part.json" in referenced:  # of a plan that is not finished: it goes on behind them
        free = [one for one in free if not (layout.is_segment(one.key) or layout.is_originals(one.key))]
    if marker is not None and (free or len(objects) == 1):
        listed = _keys_in_marker(store, marker.key, folder)
        if marker.key not in referenced and not (listed and all(key in referenced for key in listed)):
            if listed is None:  # unusable: an ingest that meets it stops
                yield Orphan(incomplete, (marker, *free))
                return
            yield Orphan(complete, (marker, *(stored for stored in free if stored.key in listed)))
        free = [] if listed is None else [stored for stored in free if stored.key not in listed]
    if free:
        yield Orphan(incomplete, tuple(free))


def _keys_in_marker(store: Store, key: str, folder: str) -> set[str] | None:
    """The keys in its folder that a marker lists; None if it cannot be parsed."""
    try:
        content = json.loads(store.read(key, size=_MAX_MARKER))
        if key.endswith("/part.json"):
            names = [content["tar"], content["records"], *content.get("originals", ())]
        else:  # "shard": the index of one external tar
            shards = content["shards"] if "shards" in content else [content["shard"]]
            names = [name for shard in shards for name in (shard["key"], shard["index"])]
        return {name for name in names if name.startswith(folder)}
    except NotFound:
        return set()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
