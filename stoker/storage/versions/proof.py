"""Proof that the objects which a version is to name are there: presence, size and change token, from listings.

A change token (S3's entity tag, a file's time of change) tells that an object was written again, not what it holds. So
an object whose token is another than at the last proof is read and compared with its checksum, once; the new token is
remembered. Price: one listing of the corpus, 1,000 objects a request. What a disk alters under an unchanged token is
found by whoever reads it, and by `stoker verify`.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards import records
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Decisions, Part, Shard
from stoker.storage.versions.verified import checksum

_log = logging.getLogger(__name__)

_READERS = 8  # objects read at a time
_COLUMNS = ("key", "sha256", "change_token")
_FOLDERS = ("raw", "shards", "decisions")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a manifest says of an object; ``size`` is None where it says nothing of it."""

    key: str
    size: int | None  # bytes
    sha256: str


def claims(parts: Iterable[Part], shards: Iterable[Shard], decisions: Decisions) -> Iterator[Claim]:
    """What a manifest with these parts, shards and decisions says of the objects of its own store."""
    for part in parts:
        yield Claim(part.tar, part.tar_size, part.tar_sha256)
        yield Claim(part.records, None, part.records_sha256)
    for shard in shards:
        yield Claim(shard.key, shard.size, shard.sha256)
        yield Claim(shard.index, shard.index_size, shard.index_sha256)
    yield Claim(decisions.key, decisions.size, decisions.sha256)


def find_damaged(store: Store, corpus: str, claimed: Iterable[Claim]) -> dict[str, str]:
    """The objects that are not as claimed: what is wrong, by key. Remembers the others. Raises StorageError."""
    by_key = {claim.key: claim for claim in claimed}
    known = _load(store, corpus)
    listed = _listing(store, corpus, by_key.keys() | known.keys())
    damaged: dict[str, str] = {}
    # Checksum and change token, by key. What is damaged keeps its old token until it is healed, and what is not claimed
    # stays, because older versions may name it.
    proven = {key: before for key, before in known.items() if key in listed}
    changed: list[tuple[Claim, StoredObject]] = []
    for claim in by_key.values():
        before, stored = known.get(claim.key), listed.get(claim.key)
        if stored is None:
            damaged[claim.key] = "is missing"
        elif claim.size is not None and stored.size != claim.size:
            damaged[claim.key] = f"has {stored.size} bytes, expected {claim.size}"
        elif before is None or before == (claim.sha256, stored.change_token):
            proven[claim.key] = claim.sha256, stored.change_token
        else:
            changed.append((claim, stored))
    if changed:
        _log.info("%s/%s: %d objects were written again; they are read", store.url, corpus, len(changed))
    with ThreadPoolExecutor(_READERS, thread_name_prefix="stoker-proof") as pool:
        actual = pool.map(lambda pair: _checksum(store, pair[0].key), changed)
        for (claim, stored), sha256 in zip(changed, actual, strict=True):
            if sha256 == claim.sha256:
                proven[claim.key] = sha256, stored.change_token
            else:
                damaged[claim.key] = f"sha256 {sha256[:12]}, expected {claim.sha256[:12]}" if sha256 else "is missing"
    if proven and proven != known:
        _save(store, corpus, proven)
    return damaged


def _listing(store: Store, corpus: str, keys: Collection[str]) -> dict[str, StoredObject]:
    """Those of the objects that are there."""
    folders = (store.list(f"{corpus}/{folder}/") for folder in _FOLDERS)
    return {stored.key: stored for stored in chain.from_iterable(folders) if stored.key in keys}


def _checksum(store: Store, key: str) -> str:
    try:
        return checksum(store, key)
    except NotFound:  # removed since it was listed
        return ""


def _load(store: Store, corpus: str) -> dict[str, tuple[str, str]]:
    """What was remembered; nothing where it cannot be read: it only spares work."""
    try:
        table = records.decode(store.read(layout.proofs(corpus)))
        columns = (table[name].to_pylist() for name in _COLUMNS)
        return {key: (sha256, token) for key, sha256, token in zip(*columns, strict=True)}
    except (NotFound, CorruptShard, KeyError):
        return {}


def _save(store: Store, corpus: str, proven: Mapping[str, tuple[str, str]]) -> None:
    rows = [(key, *proof) for key, proof in sorted(proven.items())]
    columns = (pa.array(column, pa.string()) for column in zip(*rows, strict=True))
    store.write(layout.proofs(corpus), records.encode(pa.table(dict(zip(_COLUMNS, columns, strict=True)))))
