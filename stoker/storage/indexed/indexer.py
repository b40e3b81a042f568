"""Indexing of one external tar: its index and statistics, reused from the store or made by reading the tar once."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound
from stoker.storage.indexed.scan import scan
from stoker.storage.shards import records
from stoker.storage.shards.kinds import INDEX
from stoker.storage.shards.row_checksum import MEMBERS_CRC32C
from stoker.storage.statistics.licences import EXTERNAL, count_licences
from stoker.storage.statistics.summary import summarise
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.versions import layout
from stoker.storage.versions.content import checksum_of
from stoker.storage.versions.manifest import TAR, Shard
from stoker.storage.versions.sealed import CHECKSUM
from stoker.storage.versions.verified import checksum, put, verified_table

_log = logging.getLogger(__name__)

MOVED_TO = "moved_to"  # in a marker: the group where the tar's index and marker are
# Of indexes; raise it when the index of the same tar changes. 2: lists and objects of records are columns; 3: groups
FORMAT = 3


@dataclass(frozen=True)
class IndexedTar:
    """One tar with its index in the store."""

    shard: Shard
    statistics: Mapping[str, Any]  # Any: JSON of a Summary
    licences: Mapping[str, int]  # samples by licence
    first_key: str  # the least key of its samples, in order of text
    last_key: str  # the greatest
    repeated: int  # samples whose key was in the tar before
    left_out: int  # files that belong to no sample
    losses: tuple[str, ...] = ()  # see Scanned, as the next two
    notes: tuple[str, ...] = ()
    damage: str = ""
    file_changed: str = ""  # of the listing, see StoredObject; "": unknown, as in markers of older releases
    new: bool = False  # the tar was read in this run

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The content of the tar's marker in the store, with a checksum of itself."""
        content = {
            "shard": self.shard.to_json(),
            "statistics": self.statistics,
            "licences": self.licences,
            "least": self.first_key,
            "most": self.last_key,
            "repeated": self.repeated,
            "left_out": self.left_out,
            "losses": list(self.losses),
            "notes": list(self.notes),
            "damage": self.damage,
        } | ({"file_changed": self.file_changed} if self.file_changed else {})
        return content | {CHECKSUM: _checksum(content)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], corpus: str, group: str) -> "IndexedTar":  # Any: JSON values
        """Reverses ``to_json``. Raises KeyError, TypeError or ValueError for other content, or of another group."""
        if CHECKSUM in content and content[CHECKSUM] != _checksum(content):  # older markers have none
            raise ValueError("it differs from its own checksum")
        shard = Shard(**content["shard"])
        if (shard.group, shard.index) != (group, layout.index(corpus, group, shard.split, 0)):
            raise ValueError("it is of another tar")
        return cls(
            shard=shard,
            statistics=content["statistics"],
            licences=content["licences"],
            first_key=content["least"],
            last_key=content["most"],
            repeated=content["repeated"],
            left_out=content["left_out"],
            losses=tuple(content.get("losses", ())),
            notes=tuple(content.get("notes", ())),
            damage=content.get("damage", ""),
            file_changed=content.get("file_changed", ""),
        )


@dataclass
class Indexer:
    """Indexes tars, each on the thread that calls."""

    tars: Store
    to: Store  # for the indexes
    corpus: str
    progress: Callable[[int, int], None]  # called with bytes and samples so far
    stop: Callable[[], bool]  # asked after each read
    rule: str = "first"  # where keys end, see ``key_of``
    damaged: bool = False  # take the samples before a damage
    again: bool = False  # read also what is known
    named: Mapping[str, str] = field(default_factory=dict)  # key of an index → SHA-256 that the newest version names
    bytes_done: int = 0
    samples: int = 0

    def __post_init__(self) -> None:
        self._lock = Lock()

    def index(self, tar: StoredObject, split: str) -> "IndexedTar | CorruptShard | None":
        """The tar, indexed now or before; None when asked to stop, the error when the tar is corrupt."""
        if self.stop():
            return None
        digest = digest_of(self.tars.url, tar, split, self.rule)
        indexed = None if self.again else load_known(self.to, self.corpus, digest, tar)
        if indexed is not None and indexed.damage and not self.damaged:
            return CorruptShard(f"{self.tars.url}/{tar.key}: {indexed.damage}")
        if indexed is not None:
            self._count(tar.size, indexed.shard.samples)
            return indexed
        try:
            scanned = scan(self.tars, tar, read=self._read, rule=self.rule, damaged=self.damaged)
        except CorruptShard as error:
            return error
        if scanned is None:
            return None
        if not tar.change_token:  # a listing without change tokens cannot tell it from other bytes of the same size
            digest = digest_of(self.tars.url, replace(tar, change_token=scanned.sha256), split, self.rule)
        table = scanned.index.append_column("split", pa.array([split] * scanned.index.num_rows, pa.string()))
        keys = table["key"].to_pylist()
        shard = Shard(
            key=tar.key,
            split=split,
            samples=table.num_rows,
            size=tar.size,
            sha256=scanned.sha256,
            index="",
            index_size=0,
            index_sha256="",
            group=digest,
        )
        indexed = IndexedTar(
            shard=shard,
            statistics=summarise(table.drop_columns(["key"])).to_json(),
            licences=dict(sorted(count_licences(table, EXTERNAL).items())),
            first_key=min(keys, default=""),
            last_key=max(keys, default=""),
            repeated=scanned.repeated,
            left_out=scanned.left_out,
            losses=scanned.losses,
            notes=scanned.notes,
            damage=scanned.damage,
            file_changed=tar.file_changed,
        )
        self._count(0, table.num_rows)
        return replace(self._save(indexed, table), new=True)

    def with_prefix(self, tar: IndexedTar) -> IndexedTar:
        """The same tar with its name before each key; the tar is not read again."""
        digest = prefixed_digest(tar.shard.group)
        prefixed = load_indexed(self.to, self.corpus, digest)
        if prefixed is None or prefixed.shard.sha256 != tar.shard.sha256:
            table = verified_table(self.to, tar.shard.index, INDEX, sha256=tar.shard.index_sha256)
            group = replace(tar, shard=replace(tar.shard, group=digest))
            prefixed = self._save(group, with_names(table, tar.shard.key))
        elif prefixed.file_changed != tar.file_changed:
            prefixed = replace(prefixed, file_changed=tar.file_changed)
            _write_marker(self.to, self.corpus, prefixed)
        return replace(prefixed, new=tar.new)

    def _save(self, tar: IndexedTar, table: pa.Table) -> IndexedTar:
        """Write the index and then the marker; returns the tar with its index's key.

        An older version may name the index of what the tar held before: it stays, and the new one gets a group of its
        own. An index without checksums, as older releases wrote it, stays as it is.
        """
        payload = records.encode(table)
        older = records.encode(table.drop_columns(set(table.column_names) & {MEMBERS_CRC32C}))
        digest = group = tar.shard.group
        key = layout.index(self.corpus, group, tar.shard.split, 0)
        if self.named.get(key) == records.sha256(older):  # lost
            payload = older
        try:
            self.to.create(key, payload)
        except AlreadyExists:
            existing = checksum(self.to, key)
            payload = older if existing == records.sha256(older) else payload
            if existing != records.sha256(payload):
                group = hashed([digest, records.sha256(payload)])
                key = layout.index(self.corpus, group, tar.shard.split, 0)
                put(self.to, key, payload, sha256=records.sha256(payload))
        sha256 = records.sha256(payload)
        shard = replace(tar.shard, group=group, index=key, index_size=len(payload), index_sha256=sha256)
        saved = replace(tar, shard=shard)
        _write_marker(self.to, self.corpus, saved)
        if group != digest:
            self.to.write(layout.group(self.corpus, digest), json.dumps({MOVED_TO: group}).encode())
        return saved

    def _read(self, size: int) -> bool:
        self._count(size, 0)
        return not self.stop()

    def _count(self, size: int, samples: int) -> None:
        with self._lock:
            self.bytes_done += size
            self.samples += samples
            self.progress(self.bytes_done, self.samples)


def digest_of(url: str, tar: StoredObject, split: str, rule: str = "first") -> str:
    """Identifies a tar by its listing: it changes when the bytes change, as far as a listing shows that."""
    other = [rule] if rule != "first" else []
    return hashed([FORMAT, url, tar.key, tar.size, tar.change_token, split, *other])


def prefixed_digest(digest: str) -> str:
    """The digest of the same tar with its name before each key."""
    return hashed([digest, "prefixed"])


def hashed(content: object) -> str:
    """A digest of JSON values, in the form that stands in keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[: layout.DIGEST]


def tar_name(key: str) -> str:
    """The prefix for a tar's keys where they are not unique.

    >>> tar_name("train/0001.tar")
    'train/0001'
    """
    return key[: -len(TAR)]


def with_names(index: pa.Table, key: str) -> pa.Table:
    """The index of the tar with this key, with its name before each key of a sample."""
    keys = [f"{tar_name(key)}/{sample}" for sample in index["key"].to_pylist()]
    return index.set_column(0, "key", pa.array(keys, pa.string()))


def are_unique(tars: Sequence[IndexedTar], to: Store) -> bool:
    """Whether no key is in two tars.

    Reads keys only if the key ranges of two tars overlap. Memory then: 8 bytes per sample.
    """
    ranges = sorted((tar.first_key, tar.last_key) for tar in tars if tar.shard.samples)
    if all(before[1] < after[0] for before, after in pairwise(ranges)):
        return True
    hashes = [np.fromiter(map(hash, _keys(tar, to)), np.int64, tar.shard.samples) for tar in tars]
    distinct, counts = np.unique(np.concatenate(hashes), return_counts=True)
    if distinct[counts > 1].size == 0:
        return True
    collisions, seen = set(distinct[counts > 1].tolist()), set()
    for tar in tars:  # different keys may have the same hash
        for key in _keys(tar, to):
            if hash(key) in collisions:
                if key in seen:
                    return False
                seen.add(key)
    return True


def _keys(tar: IndexedTar, to: Store) -> list[str]:
    index = verified_table(to, tar.shard.index, INDEX, sha256=tar.shard.index_sha256, columns=["key"])
    keys: list[str] = index["key"].to_pylist()
    return keys


def load_known(to: Store, corpus: str, digest: str, tar: StoredObject) -> IndexedTar | None:
    """A tar that was indexed before, if the listing shows the same file; None if it must be read.

    Size and time are in the digest. A file whose time was set back to that of another one is told by ``file_changed``:
    it is read again. A marker of an older release does not know it: the tar is taken as it is, and remembered from now.
    """
    known = load_indexed(to, corpus, digest) if tar.change_token else None
    if known is None or known.file_changed == tar.file_changed:
        return known
    if known.file_changed:
        return None
    known = replace(known, file_changed=tar.file_changed)
    _write_marker(to, corpus, known)
    return known


def load_indexed(to: Store, corpus: str, digest: str) -> IndexedTar | None:
    """A tar that was indexed before, from its marker; None if there is none, or it is damaged."""
    key = layout.group(corpus, digest)
    try:
        payload = to.read(key)
    except NotFound:
        return None
    try:
        content = json.loads(payload)
        moved_to = content.get(MOVED_TO)
        if isinstance(moved_to, str) and moved_to != digest:
            return load_indexed(to, corpus, moved_to)
        return IndexedTar.from_json(content, corpus, digest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _log.warning("%s/%s: not a tar's marker (%s); the tar is read again", to.url, key, error)
        to.delete(key)
        return None


def _write_marker(to: Store, corpus: str, tar: IndexedTar) -> None:
    to.write(layout.group(corpus, tar.shard.group), json.dumps(tar.to_json(), sort_keys=True).encode())


def _checksum(content: Mapping[str, Any]) -> str:  # Any: JSON values
    """The SHA-256 of a marker without its checksum."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return checksum_of(json.loads(json.dumps(rest)))  # as a reader finds it
