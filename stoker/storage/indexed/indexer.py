"""One tar of an indexed corpus: its index and what is known of it, found in the store or made."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound
from stoker.storage.indexed.scan import scan
from stoker.storage.shards import records
from stoker.storage.statistics.summary import summarise
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import TAR, Shard

_FORMAT = 1  # of indexes; raise it when the same tar gets another one than before


@dataclass(frozen=True)
class Group:
    """What is known of one tar; ``asdict`` of it is the marker in the store."""

    shard: Shard
    statistics: Mapping[str, Any]  # Any: JSON of a Summary
    licences: Mapping[str, int]
    least: str  # key
    most: str
    repeated: int
    left_out: int
    new: bool = False  # read now


@dataclass
class Indexer:
    """Indexes tars one by one, on threads."""

    tars: Store
    to: Store
    corpus: str
    progress: Callable[[int, int], None]
    stop: Callable[[], bool]
    bytes_done: int = 0
    samples: int = 0

    def __post_init__(self) -> None:
        self._lock = Lock()

    def group(self, tar: StoredObject, split: str) -> "Group | CorruptShard | None":
        """The tar's marker, found or made; None when asked to stop, the error when the tar is damaged."""
        if self.stop():
            return None
        digest = digest_of(self.tars.url, tar, split)
        known = _found(self.to, self.corpus, digest) if tar.change_token else None
        if known is not None:
            self._count(tar.size, known.shard.samples)
            return known
        try:
            scanned = scan(self.tars, tar, read=self._read)
        except CorruptShard as error:
            return error
        if scanned is None:
            return None
        if not tar.change_token:  # the listing did not tell it from other bytes of the same size
            digest = digest_of(self.tars.url, replace(tar, change_token=scanned.sha256), split)
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
        about = summarise(table.drop_columns(["key"])).to_json()
        licences, least, most = _licences(table), min(keys, default=""), max(keys, default="")
        made = Group(shard, about, licences, least, most, scanned.repeated, scanned.left_out)
        self._count(0, table.num_rows)
        return replace(_settled(self.to, self.corpus, made, table), new=True)

    def prefixed(self, group: Group) -> Group:
        """The same tar with its name before each key; its payload is not read again."""
        digest = prefixed_digest(group.shard.group)
        known = _found(self.to, self.corpus, digest)
        if known is None:
            table = records.decode(self.to.read(group.shard.index))
            keys = [f"{tar_name(group.shard.key)}/{key}" for key in table["key"].to_pylist()]
            table = table.set_column(0, "key", pa.array(keys, pa.string()))
            given = replace(group, shard=replace(group.shard, group=digest))
            known = _settled(self.to, self.corpus, given, table)
        return replace(known, new=group.new)

    def _read(self, size: int) -> bool:
        self._count(size, 0)
        return not self.stop()

    def _count(self, size: int, samples: int) -> None:
        with self._lock:
            self.bytes_done += size
            self.samples += samples
            self.progress(self.bytes_done, self.samples)


def digest_of(url: str, tar: StoredObject, split: str) -> str:
    """Stands for a tar as it was listed: no other bytes have it, as far as a listing tells."""
    return hashed([_FORMAT, url, tar.key, tar.size, tar.change_token, split])


def prefixed_digest(digest: str) -> str:
    """Stands for the same tar with its name before each key."""
    return hashed([digest, "prefixed"])


def hashed(content: object) -> str:
    """A digest of JSON values, as keys have them."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[: layout.DIGEST]


def tar_name(key: str) -> str:
    """What is put before the keys of a tar where they are not unique.

    >>> tar_name("train/0001.tar")
    'train/0001'
    """
    return key[: -len(TAR)]


def are_unique(groups: Sequence[Group], to: Store) -> bool:
    """Whether no key is in two tars. Keys that are numbered through are told by each tar's least and greatest one."""
    ranges = sorted((one.least, one.most) for one in groups if one.shard.samples)
    if all(one[1] < other[0] for one, other in pairwise(ranges)):
        return True
    hashes = [np.fromiter(map(hash, _keys(group, to)), np.int64, group.shard.samples) for group in groups]
    found, counts = np.unique(np.concatenate(hashes), return_counts=True)
    if found[counts > 1].size == 0:
        return True
    twice, seen = set(found[counts > 1].tolist()), set()
    for group in groups:  # the same hash is not yet the same key
        for key in _keys(group, to):
            if hash(key) in twice:
                if key in seen:
                    return False
                seen.add(key)
    return True


def _keys(group: Group, to: Store) -> list[str]:
    keys: list[str] = records.decode(to.read(group.shard.index), columns=["key"])["key"].to_pylist()
    return keys


def _found(to: Store, corpus: str, digest: str) -> Group | None:
    key = layout.group(corpus, digest)
    try:
        payload = to.read(key)
    except NotFound:
        return None
    try:
        content = json.loads(payload)
        return Group(**content | {"shard": Shard(**content["shard"])})
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptShard(f"{to.url}/{key}: not a tar's marker ({error}); delete it and run again") from error


def _settled(to: Store, corpus: str, group: Group, table: pa.Table) -> Group:
    """The group with its index in the store, and its marker behind it."""
    payload = records.encode(table)
    sha256 = records.sha256(payload)
    key = layout.index(corpus, group.shard.group, group.shard.split, 0)
    try:
        to.create(key, payload)
    except AlreadyExists:  # of a run that died before its marker, perhaps with another version of pyarrow
        if records.sha256(to.read(key)) != sha256:
            to.write(key, payload)
    done = replace(group, shard=replace(group.shard, index=key, index_size=len(payload), index_sha256=sha256))
    with suppress(AlreadyExists):  # another run at the same time: the same tar
        marker = {name: value for name, value in asdict(done).items() if name != "new"}
        to.create(layout.group(corpus, group.shard.group), json.dumps(marker, sort_keys=True).encode())
    return done


def _licences(table: pa.Table) -> dict[str, int]:
    name = next((one for one in ("licence", "license") if one in table.column_names), None)
    values = [None] * table.num_rows if name is None else table[name].to_pylist()
    return dict(sorted(Counter(str(value or "unknown") for value in values).items()))
