"""Lookups of a version that is being published: those of the one before, and one of what came since.

A lookup is never changed. What came since is laid beside those of before; small ones are merged into it, the newest
first, up to a size that is small beside the version. So a version that grows by little writes little, and there are few
lookups to ask. Price: the records and indexes that came since are read once.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.kinds import PACKED_INDEX, RECORDS, Kind
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.listed.lists import LOOKUP, ListFile
from stoker.storage.versions.lookups.table import SEARCHED, Entries, Lookup, encode, hashes_in
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.verified import put, verified_table

_log = logging.getLogger(__name__)

MOST = 8_000_000  # entries of a lookup: memory holds those of one, 12 bytes each
_LEAST = 65_536  # entries that are merged in a version of any size
_SHARE = 1000  # bytes of a version for each entry that is merged: one takes 5, so half a percent is written again
_FACTOR = 2  # a lookup is merged if it has at most so many times the entries of what comes after it

Hashes = tuple[str, npt.NDArray[np.uint64]]  # of the file with this key


def with_lookups(store: Store, manifest: Manifest, before: Sequence[ListFile]) -> Manifest:
    """The manifest, not published yet, with lookups of its parts and shards, which are written. Raises StorageError.

    ``before``: the lookups of the version before.
    """
    if not manifest.parts:
        return manifest
    sources = files_of(manifest)
    kept, stale = _usable(store, before, set(sources))
    known = {key for lookup in kept for key in lookup.files} | set(stale.files)
    new = (hashes for key in sorted(sources.keys() - known) if (hashes := _hashes_of(store, key, sources[key])))
    limit = min(MOST, max(_LEAST, manifest.size // _SHARE))
    made: list[ListFile] = []
    for entries in _some_at_a_time(stale, new):
        while kept and _is_small(kept[-1].file, entries, limit):
            entries = entries.joined(_entries_of(kept.pop(), sources))
        made.append(put_lookup(store, manifest.corpus, entries))
    return replace(manifest, lookups=(*(lookup.file for lookup in kept), *made))


def files_of(manifest: Manifest) -> dict[str, tuple[str, Kind]]:
    """The files of a version that its lookups are about: their checksums and kinds, by key."""
    files = {part.records: (part.records_sha256, RECORDS) for part in manifest.parts}
    return files | {shard.index: (shard.index_sha256, PACKED_INDEX) for shard in manifest.shards}


def hashes_of_file(store: Store, key: str, source: tuple[str, Kind]) -> npt.NDArray[np.uint64]:
    """What a lookup says of a file. Raises CorruptShard, NotFound, StorageError."""
    sha256, kind = source
    # The key alone leads to the shard: by all else the candidate is found in the records.
    columns = ["key"] if kind is PACKED_INDEX else [*SEARCHED, "reason"]
    return hashes_in(verified_table(store, key, kind, sha256=sha256, columns=columns))


def put_lookup(store: Store, corpus: str, entries: Entries) -> ListFile:
    """Write a lookup. Raises StorageError."""
    payload, written = encode(entries)
    file = ListFile(layout.version_list(corpus, LOOKUP, written.sha256), written.size, written.sha256, written.rows)
    put(store, file.key, payload, sha256=file.sha256)
    return file


def _hashes_of(store: Store, key: str, source: tuple[str, Kind]) -> Hashes | None:
    try:
        return key, hashes_of_file(store, key, source)
    except (CorruptShard, NotFound) as error:  # `stoker why` reads it then
        _log.warning("%s; it is in no lookup", error)
        return None


def _entries_of(lookup: Lookup, wanted: Iterable[str]) -> Entries:
    """What a lookup says of some files; nothing if it is damaged: the next version has a lookup of them again."""
    try:
        return lookup.entries().only(wanted)
    except (CorruptShard, NotFound) as error:
        _log.warning("%s", error)
        return Entries.of(())


def _usable(store: Store, before: Iterable[ListFile], wanted: set[str]) -> tuple[list[Lookup], Entries]:
    """The lookups that stay, oldest first, and what those say that are mostly about files that are not wanted."""
    kept: list[Lookup] = []
    stale = Entries.of(())
    for file in before:
        lookup = Lookup.of_object(store, file)
        try:
            lives = sum(key in wanted for key in lookup.files)
            if lives * 2 >= len(lookup.files):
                kept.append(lookup)
            elif lives:
                stale = stale.joined(_entries_of(lookup, wanted))
        except (CorruptShard, NotFound) as error:
            _log.warning("%s; it is made anew", error)
    return kept, stale


def _some_at_a_time(first: Entries, rest: Iterator[Hashes]) -> Iterator[Entries]:
    """All entries, at most MOST and those of one file more at a time."""
    waiting: list[Hashes] = []
    count = len(first.hashes)
    for key, hashes in rest:
        waiting.append((key, hashes))
        count += len(hashes)
        if count >= MOST:
            yield first.joined(Entries.of(waiting))
            first, waiting, count = Entries.of(()), [], 0
    if waiting or first.files:
        yield first.joined(Entries.of(waiting))


def _is_small(file: ListFile, entries: Entries, limit: int) -> bool:
    count = len(entries.hashes)
    return file.rows <= _FACTOR * count and file.rows + count <= limit
