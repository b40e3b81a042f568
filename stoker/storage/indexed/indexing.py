"""A corpus made of tars that somebody else wrote: they stay where they are, and get an index and a manifest."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from stoker.storage.errors import AlreadyExists, CorruptShard, StorageRefused, StorageUnavailable
from stoker.storage.indexed.indexer import Group, Indexer, are_unique, digest_of, hashed, prefixed_digest
from stoker.storage.indexed.tars import Tars, split_of
from stoker.storage.shards import records
from stoker.storage.statistics.summary import Summary
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Decisions, Manifest, Shard, load_manifest, publish
from stoker.storage.versions.work import ingesting

SOURCE = "webdataset"  # what stands for a source in the manifest
_RACES = 100  # writers that may come first before this one gives up
_DECISIONS = ("key", "part", "action", "value", "rule")
_TOLD = 3  # damaged tars that are named


@dataclass(frozen=True)
class Indexed:
    """The version of the tars; not ``new`` if the newest one held them already."""

    manifest: Manifest
    new: bool
    read: int = 0  # tars that were read now; the others were known
    repeated: int = 0  # samples whose members were apart in a tar, or whose key came twice: a number was added to it
    prefixed: bool = False  # keys were not unique over the tars: each has its tar's name before it
    left_out: int = 0  # files that belong to no sample


def index(
    tars: Tars,
    to: Store,
    corpus: str,
    *,
    splits: Sequence[str] = (),
    workers: int = 4,
    code: str = "unknown",
    progress: Callable[[int, int], None] = lambda size, samples: None,
    stop: Callable[[], bool] = lambda: False,
) -> Indexed | None:
    """The version of a corpus that these tars are; None when asked to stop.

    Tars that were indexed before and did not change are not read again; what was done before a stop stays done.
    ``progress`` is told (bytes, samples) so far; ``code``: Stoker's version, for the manifest. Raises StorageRefused
    for a corpus that a recipe makes, CorruptShard for damaged tars when all others are done: then nothing is published.
    """
    newest = _newest(to, corpus)
    if newest is not None and not newest.is_indexed:
        raise StorageRefused(f"{newest.reference} was made by a recipe; give the indexed corpus another name")
    chosen = [(tar, split_of(tar.key, splits, tars.store.url)) for tar in tars.found]
    digests = [digest_of(tars.store.url, tar, split) for tar, split in chosen]
    root, before = _place(tars, to)
    if newest is not None and newest.tars == root and _same_groups(newest, digests):
        return Indexed(newest, new=False)
    work = Indexer(tars.store, to, corpus, progress, stop)
    with ingesting(to, corpus):  # nobody may clear away the indexes before the version names them
        made = _groups(work, chosen, workers)
        if made is None:
            return None
        groups, prefixed = made
        moved = [replace(one, shard=replace(one.shard, key=before + one.shard.key)) for one in groups]
        source = {"name": SOURCE, "tars": tars.store.url} | ({"splits": list(splits)} if splits else {})
        manifest, new = _published(to, corpus, moved, root, source, prefixed, code)
    read, repeated, left_out = (sum(getattr(one, name) for one in groups) for name in ("new", "repeated", "left_out"))
    return Indexed(manifest, new, read, repeated, prefixed, left_out)


def _groups(work: Indexer, chosen: Sequence[tuple[StoredObject, str]], workers: int) -> tuple[list[Group], bool] | None:
    """What is known of each tar, and whether keys have their tar's name before them; None when asked to stop."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="stoker-index")
    try:
        tasks = [pool.submit(work.group, tar, split) for tar, split in chosen]
        found = [task.result() for task in tasks]
        if any(one is None for one in found):
            return None
        _refuse_damaged([one for one in found if isinstance(one, CorruptShard)], len(found))
        groups = [one for one in found if isinstance(one, Group)]
        if are_unique(groups, work.to):
            return groups, False
        return list(pool.map(work.prefixed, groups)), True
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _newest(to: Store, corpus: str) -> Manifest | None:
    number = max(catalog.versions(to, catalog.parse_reference(corpus)[0]), default=None)
    return None if number is None else load_manifest(to, corpus, number)


def _same_groups(newest: Manifest, digests: Sequence[str]) -> bool:
    held = [shard.group for shard in newest.shards]
    return held in (list(digests), [prefixed_digest(digest) for digest in digests])


def _place(tars: Tars, to: Store) -> tuple[str | None, str]:
    """What the manifest says of where the tars lie, and what comes before their keys there.

    Nothing if the corpus's own store holds them too: then both can be moved together.
    """
    own, root = to.url.rstrip("/"), tars.store.url.rstrip("/")
    if root == own or root.startswith(f"{own}/"):
        before = root[len(own) + 1 :]
        before += "/" if before else ""
        there = {one.key for one in to.list(before)}
        if all(before + tar.key in there for tar in tars.found):  # links that lead out are not
            return None, before
    return tars.store.url, ""


def _refuse_damaged(damaged: Sequence[CorruptShard], tars: int) -> None:
    if damaged:
        more = f"; and {len(damaged) - _TOLD} more" if len(damaged) > _TOLD else ""
        told = "; ".join(str(one) for one in damaged[:_TOLD])
        raise CorruptShard(
            f"{len(damaged)} of {tars} tars cannot be read, nothing was published: {told}{more}. Fetch or write them "
            "again, or take them away; the same command goes on with the others done"
        )


def _published(
    to: Store,
    corpus: str,
    groups: Sequence[Group],
    root: str | None,
    source: Mapping[str, Any],  # Any: TOML values
    prefixed: bool,
    code: str,
) -> tuple[Manifest, bool]:
    """The version of these groups, made or found."""
    shards = tuple(group.shard for group in groups)
    content = hashed([[(shard.split, shard.sha256) for shard in shards], prefixed])
    statistics: dict[str, Summary] = {}
    licences: Counter[str] = Counter()
    for group in groups:
        split = group.shard.split
        statistics[split] = statistics.get(split, Summary.empty()).merge(Summary.from_json(group.statistics))
        licences.update(group.licences)
    recipe = {"corpus": corpus, "source": dict(source)}
    for _ in range(_RACES):
        newest = _newest(to, corpus)
        if newest is not None and newest.content == content and newest.tars == root and _same_places(newest, shards):
            return newest, False
        manifest = Manifest(
            corpus=corpus,
            version=(newest.version if newest else 0) + 1,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            stoker=code,
            recipe=recipe,
            recipe_digest=hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
            parent=newest.version if newest else None,
            content=content,
            parts=(),
            shards=shards,
            decisions=_no_decisions(to, corpus),
            statistics={split: one.to_json() for split, one in sorted(statistics.items())},
            licences=dict(sorted(licences.items())),
            tars=root,
        )
        try:
            publish(to, manifest)
        except AlreadyExists:
            continue  # another writer was first: this one is the next version
        return manifest, True
    raise StorageUnavailable(f"{to.url}/{corpus}: {_RACES} other writers came first; try again")


def _same_places(newest: Manifest, shards: Sequence[Shard]) -> bool:
    """Whether the same bytes lie under the same keys, though they may have been written there again."""
    return [one.key for one in newest.shards] == [one.key for one in shards]


def _no_decisions(to: Store, corpus: str) -> Decisions:
    payload = records.encode(pa.table({name: pa.array([], pa.string()) for name in _DECISIONS}))
    sha256 = records.sha256(payload)
    key = layout.decisions(corpus, sha256)
    with suppress(AlreadyExists):
        to.create(key, payload)
    return Decisions(key, len(payload), sha256, {}, 0)
