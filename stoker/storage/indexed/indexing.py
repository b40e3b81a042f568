"""Makes a corpus of external tars: they stay in place, and get indexes and a manifest."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from stoker.storage.clock import timestamp, utc_now
from stoker.storage.errors import (
    AlreadyExists,
    CorruptObject,
    CorruptShard,
    NotFound,
    StorageRefused,
    StorageUnavailable,
)
from stoker.storage.indexed.indexer import (
    FORMAT,
    IndexedTar,
    Indexer,
    are_unique,
    digest_of,
    hashed,
    load_known,
    prefixed_digest,
)
from stoker.storage.indexed.tars import Tars, recipe_digest, split_of
from stoker.storage.plural import plural
from stoker.storage.shards import records
from stoker.storage.statistics.summary import Summary
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Decisions, Manifest, Shard, load_manifest, publish
from stoker.storage.versions.masks.view import keep_masks
from stoker.storage.versions.proof import Claim, find_damaged
from stoker.storage.versions.top_values import with_one_kind, with_top_values
from stoker.storage.versions.verified import checksum, put
from stoker.storage.versions.work import ingest_lease

_log = logging.getLogger(__name__)

SOURCE = "webdataset"  # the source's name in the manifest
_MAX_RACES = 100  # versions that other writers publish first before this one gives up
_DECISIONS = ("key", "part", "action", "value", "rule")
_MAX_EXAMPLES = 3  # corrupt tars named in a message


@dataclass(frozen=True)
class Indexed:
    """The result of ``index``."""

    manifest: Manifest
    new: bool  # whether a version was published; False: the newest one has the same tars
    read: int = 0  # tars read in this run; the others were indexed before
    repeated: int = 0  # samples whose members were apart in a tar, or whose key came twice: a number was added to it
    prefixed: bool = False  # keys were not unique over the tars: each has its tar's name before it
    left_out: int = 0  # files that belong to no sample
    losses: tuple[str, ...] = ()  # what could not be read, each with its tar and why; damaged tars first
    notes: tuple[str, ...] = ()  # what else was found in tars


def index(
    tars: Tars,
    to: Store,
    corpus: str,
    *,
    splits: Sequence[str] = (),
    key: str = "first",
    skip_damaged: int = 0,
    again: bool = False,
    workers: int = 4,
    code: str = "unknown",
    progress: Callable[[int, int], None] = lambda size, samples: None,
    stop: Callable[[], bool] = lambda: False,
) -> Indexed | None:
    """Index tars and publish them as a version of a corpus; None when asked to stop.

    Tars that were indexed before and did not change are not read again, also after a stop: their size, their time (S3:
    their entity tag) and, on this machine, the time at which the file was last changed in any way are the same.

    Raises StorageRefused for a corpus that a recipe makes, and CorruptShard for corrupt tars, once all others are
    indexed: nothing is published.

    Args:
        tars: the tars, from ``find_tars``.
        to: the store for indexes and manifest.
        corpus: name of the corpus.
        splits: "SPLIT" or "SPLIT=PATTERN", as ``split_of`` takes them; without them, names of tars and folders decide.
        key: "first": a key ends at the first dot of a member's name, as in WebDataset; "last": at the last one.
        skip_damaged: tars that may be damaged; of these the samples before the damage are taken.
        again: read all tars, also those that did not change as far as a listing tells: a disk may alter bytes under
            the same size and time.
        workers: tars read at once.
        code: Stoker's version, for the manifest.
        progress: called with bytes and samples so far.
        stop: asked after each read; True stops.
    """
    newest = _newest(to, corpus)
    if newest is not None and not newest.is_indexed:
        raise StorageRefused(f"{newest.reference} was made by a recipe; give the indexed corpus another name")
    chosen = [(tar, split_of(tar.key, splits, tars.store.url)) for tar in tars.objects]
    if key not in ("first", "last") or skip_damaged < 0:
        raise StorageRefused(f"index: key {key!r}, skip_damaged {skip_damaged}; expected first or last, and 0 or more")
    digests = [digest_of(tars.store.url, tar, split, key) for tar, split in chosen]
    root, prefix = _tars_location(tars, to)
    if newest is not None:
        _forget_damaged(to, newest)
    last = max(catalog.versions(to, corpus), default=None)
    if (
        not again
        and newest is not None
        and newest.version == last
        and newest.tars == root
        and _same_groups(newest, digests)
        and has_decisions(to, newest)
    ):
        known = _known_tars(to, newest, tars, digests, workers)
        if known is not None:
            return _result(newest, known, new=False, prefixed=_groups(newest) != digests)
    named = {shard.index: shard.index_sha256 for shard in newest.shards} if newest is not None else {}
    indexer = Indexer(
        tars.store, to, corpus, progress, stop, rule=key, damaged=skip_damaged > 0, again=again, named=named
    )
    with ingest_lease(to, corpus):  # gc must not remove the indexes before the version names them
        result = _index_all(indexer, chosen, workers, skip_damaged)
        if result is None:
            return None
        indexed, prefixed = result
        renamed = [replace(tar, shard=replace(tar.shard, key=prefix + tar.shard.key)) for tar in indexed]
        source = {"name": SOURCE, "tars": tars.store.url} | ({"splits": list(splits)} if splits else {})
        source |= {"key": key} if key != "first" else {}
        manifest, new = _publish(to, corpus, renamed, root, source, prefixed, code)
        find_damaged(to, manifest.corpus, _claims(manifest))  # remembers them as they are now
    return _result(manifest, indexed, new=new, prefixed=prefixed)


def _result(manifest: Manifest, indexed: Sequence[IndexedTar], *, new: bool, prefixed: bool) -> Indexed:
    """What ``index`` returns: all that is known of the tars, whenever they were read."""
    return Indexed(
        manifest,
        new,
        read=sum(tar.new for tar in indexed),
        repeated=sum(tar.repeated for tar in indexed),
        prefixed=prefixed,
        left_out=sum(tar.left_out for tar in indexed),
        losses=tuple(
            [f"{tar.shard.key}: {tar.damage}; what follows was not read" for tar in indexed if tar.damage]
            + [f"{tar.shard.key}: {loss}" for tar in indexed for loss in tar.losses]
        ),
        notes=tuple(f"{tar.shard.key}: {text}" for tar in indexed for text in tar.notes),
    )


def _forget_damaged(to: Store, newest: Manifest) -> None:
    """Remove the markers of indexes that are lost or damaged, so that their tars are read again."""
    damaged = find_damaged(to, newest.corpus, _claims(newest))
    for shard in newest.shards:
        if shard.index in damaged:
            _forget(to, newest.corpus, shard, damaged[shard.index])


def _forget(to: Store, corpus: str, shard: Shard, why: str) -> None:
    _log.warning("%s/%s: %s; its tar is read again", to.url, shard.index, why)
    for key in (shard.index, layout.group(corpus, shard.group)):
        to.delete(key)


def _claims(manifest: Manifest) -> list[Claim]:
    return [Claim(shard.index, shard.index_size, shard.index_sha256) for shard in manifest.shards]


def _known_tars(
    to: Store, newest: Manifest, tars: Tars, digests: Sequence[str], workers: int
) -> list[IndexedTar] | None:
    """The tars of a version as their markers tell; None where one is gone, damaged or of another file."""

    def load(shard: Shard, tar: StoredObject, digest: str) -> IndexedTar | None:
        if shard.group != digest:  # its keys have the tar's name: the marker without it is to know the file too
            load_known(to, newest.corpus, digest, tar)
        known = load_known(to, newest.corpus, shard.group, tar)
        return known if known is not None and known.shard.sha256 == shard.sha256 else None

    with ThreadPoolExecutor(workers, thread_name_prefix="stoker-index") as pool:
        loaded = list(pool.map(load, newest.shards, tars.objects, digests))
    known = [tar for tar in loaded if tar is not None]
    return known if len(known) == len(loaded) else None


def _index_all(
    indexer: Indexer, chosen: Sequence[tuple[StoredObject, str]], workers: int, skip_damaged: int
) -> tuple[list[IndexedTar], bool] | None:
    """All tars indexed, and whether their keys have the tar's name before them; None when asked to stop."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="stoker-index")
    try:
        indexed = _index_each(indexer, pool, chosen, skip_damaged)
        with suppress(CorruptObject, NotFound):
            return None if indexed is None else _with_unique_keys(indexer, pool, indexed)
        # Where keys are not unique, no version names the indexes without the tars' names: they are first read here.
        for tar in indexed or ():
            if not _is_whole(indexer.to, tar.shard.index, tar.shard.index_sha256):
                _forget(indexer.to, indexer.corpus, tar.shard, "it is lost or damaged")
        indexed = _index_each(indexer, pool, chosen, skip_damaged)
        return None if indexed is None else _with_unique_keys(indexer, pool, indexed)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _index_each(
    indexer: Indexer, pool: ThreadPoolExecutor, chosen: Sequence[tuple[StoredObject, str]], skip_damaged: int
) -> list[IndexedTar] | None:
    """All tars indexed; None when asked to stop."""
    tasks = [pool.submit(indexer.index, tar, split) for tar, split in chosen]
    results = [task.result() for task in tasks]
    if any(result is None for result in results):
        return None
    _raise_if_corrupt([result for result in results if isinstance(result, CorruptShard)], len(results))
    indexed = [result for result in results if isinstance(result, IndexedTar)]
    damaged = [tar for tar in indexed if tar.damage]
    if len(damaged) > skip_damaged:
        errors = [CorruptShard(f"{indexer.tars.url}/{tar.shard.key}: {tar.damage}") for tar in damaged]
        _raise_if_corrupt(errors, len(results))
    return indexed


def _with_unique_keys(
    indexer: Indexer, pool: ThreadPoolExecutor, indexed: list[IndexedTar]
) -> tuple[list[IndexedTar], bool]:
    """The tars, and whether their keys have the tar's name before them. Raises CorruptObject, NotFound."""
    if are_unique(indexed, indexer.to):
        return indexed, False
    return list(pool.map(indexer.with_prefix, indexed)), True


def _newest(to: Store, corpus: str) -> Manifest | None:
    """The newest version whose manifest is sound: the next one does not depend on those that are damaged.

    Raises CorruptShard, NotFound where one that is damaged may mask samples: they would come back.
    """
    for number in reversed(catalog.versions(to, catalog.parse_reference(corpus)[0])):
        try:
            return load_manifest(to, corpus, number).read_lists()
        except (CorruptShard, NotFound) as error:
            if catalog.has_masks(to, corpus):
                raise
            _log.warning("%s", error)
    return None


def _same_groups(newest: Manifest, digests: Sequence[str]) -> bool:
    return _groups(newest) in (list(digests), [prefixed_digest(digest) for digest in digests])


def _groups(manifest: Manifest) -> list[str]:
    return [shard.group for shard in manifest.shards]


def _tars_location(tars: Tars, to: Store) -> tuple[str | None, str]:
    """The URL of the tars' store for the manifest, and the prefix of their keys there.

    None and a prefix if the corpus's own store holds the tars: then both can be moved together.
    """
    corpus_root, root = to.url.rstrip("/"), tars.store.url.rstrip("/")
    if root == corpus_root or root.startswith(f"{corpus_root}/"):
        prefix = root[len(corpus_root) + 1 :]
        prefix += "/" if prefix else ""
        if _holds(to, [prefix + tar.key for tar in tars.objects], prefix):
            return None, prefix
    return tars.store.url, ""


def _holds(store: Store, keys: Sequence[str], prefix: str) -> bool:
    """Whether a store holds objects under all these keys, which begin with a prefix."""
    if isinstance(store, DirectoryStore):  # which refuses to list links that lead out of it
        try:
            return all(store.path(key) for key in keys)
        except StorageRefused:
            return False
    return {stored.key for stored in store.list(prefix)}.issuperset(keys)


def _raise_if_corrupt(errors: Sequence[CorruptShard], tars: int) -> None:
    if errors:
        more = f"; and {len(errors) - _MAX_EXAMPLES} more" if len(errors) > _MAX_EXAMPLES else ""
        examples = "; ".join(str(error) for error in errors[:_MAX_EXAMPLES])
        raise CorruptShard(
            f"{len(errors):,} of {plural(tars, 'tar')} cannot be read, nothing was published: {examples}{more}. Fetch "
            f"or write them again, or take them away; the same command goes on with the others done. `--skip-damaged "
            f"{len(errors)}` takes of them what lies before the damage"
        )


def _publish(
    to: Store,
    corpus: str,
    tars: Sequence[IndexedTar],
    root: str | None,
    source: Mapping[str, Any],  # Any: TOML values
    prefixed: bool,
    code: str,
) -> tuple[Manifest, bool]:
    """The version of these tars, and whether it was published now."""
    shards = tuple(tar.shard for tar in tars)
    rule = [source["key"]] if "key" in source else []  # other keys, other samples
    content = hashed([[(shard.split, shard.sha256) for shard in shards], prefixed, *rule, FORMAT])
    statistics: dict[str, Summary] = {}
    licences: Counter[str] = Counter()
    for tar in tars:
        split = tar.shard.split
        statistics[split] = statistics.get(split, Summary.empty()).merge(Summary.from_json(tar.statistics))
        licences.update(tar.licences)
    recipe = {"corpus": corpus, "source": dict(source)}
    top: dict[str, Summary] = {}
    for _ in range(_MAX_RACES):
        newest, numbers = _newest(to, corpus), catalog.numbers(to, corpus)
        last = max(numbers.existing, default=None)
        # Where the last manifest is damaged a new version is made, also of what an older one holds.
        if (
            newest is not None
            and newest.version == last
            and newest.tars == root
            and _holds_the_same(newest, content, shards, source)
            and has_decisions(to, newest)
        ):
            return newest, False
        top = top or with_top_values(with_one_kind(dict(sorted(statistics.items())), shards, to), shards, to)
        manifest = Manifest(
            corpus=corpus,
            version=numbers.last + 1,
            created_at=timestamp(utc_now()),
            stoker=code,
            recipe=recipe,
            recipe_digest=recipe_digest(recipe),
            parent=last,
            parent_checksum=newest.checksum if newest is not None and newest.version == last else None,
            content=content,
            parts=(),
            shards=shards,
            decisions=_write_decisions(to, corpus),
            statistics={split: summary.to_json() for split, summary in top.items()},
            licences=dict(sorted(licences.items())),
            tars=root,
        )
        if newest is not None and _has_key_rule(newest, source):
            manifest = keep_masks(to, newest, manifest)  # what was taken out of a tar stays out
        try:
            publish(to, manifest)
        except AlreadyExists:
            continue  # another writer was first: this one is the next version
        if newest is not None and newest.masked and not _has_key_rule(newest, source):
            _log.warning(
                "%s holds the %s samples again that %s masks, as keys are made by another rule (--key); give the "
                "command with the rule %r to leave them out, or take them out anew",
                manifest.reference,
                f"{newest.masked:,}",
                newest.reference,
                newest.recipe.get("source", {}).get("key", "first"),
            )
        return manifest, True
    raise StorageUnavailable(f"{to.url}/{corpus}: {_MAX_RACES} other writers came first; try again")


def _holds_the_same(
    newest: Manifest,
    content: str,
    shards: Sequence[Shard],
    source: Mapping[str, Any],  # Any: TOML values
) -> bool:
    """Whether the newest version is of the same tars, by the same rule; a view has another content than its tars."""
    if newest.is_packed:
        return newest.content == content and _same_keys(newest, shards)
    return _has_key_rule(newest, source) and [shard.stored() for shard in newest.shards] == list(shards)


def _has_key_rule(newest: Manifest, source: Mapping[str, Any]) -> bool:  # Any: TOML values
    """Whether the keys of its samples are made by the same rule."""
    before = newest.recipe.get("source", {})
    return bool(before.get("key", "first") == source.get("key", "first"))


def _same_keys(newest: Manifest, shards: Sequence[Shard]) -> bool:
    """Whether the tars have the same keys and indexes as before; equal content was checked by checksum."""
    return [(shard.key, shard.index_sha256) for shard in newest.shards] == [
        (shard.key, shard.index_sha256) for shard in shards
    ]


def has_decisions(to: Store, manifest: Manifest) -> bool:
    """Whether a version's decisions are whole, or are now: there are none, so that they have the same bytes always."""
    decisions = manifest.decisions
    if _is_whole(to, decisions.key, decisions.sha256):
        return True
    return _write_decisions(to, manifest.corpus) == decisions  # not if another release of Parquet's library wrote them


def _is_whole(to: Store, key: str, sha256: str) -> bool:
    try:
        return checksum(to, key) == sha256
    except NotFound:
        return False


def _write_decisions(to: Store, corpus: str) -> Decisions:
    """No decisions, in the place of damaged ones."""
    payload = records.encode(pa.table({name: pa.array([], pa.string()) for name in _DECISIONS}))
    sha256 = records.sha256(payload)
    key = layout.decisions(corpus, sha256)
    put(to, key, payload, sha256=sha256)
    return Decisions(key, len(payload), sha256, {}, 0)
