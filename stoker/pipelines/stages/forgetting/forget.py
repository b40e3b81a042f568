"""Forget: samples are taken out of a corpus, and stay out.

What was asked for is remembered as tombstones, with the keys of all samples that it means: whoever reads older versions
compares keys alone. The newest version is followed by a view without the samples. Their bytes stay in the store.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.stages.forgetting.matching import Flags, Forgotten, normal_form, rows_of_shard, values_of
from stoker.storage.clock import Clock, utc_now
from stoker.storage.errors import AlreadyExists, NotFound, StorageRefused, StorageUnavailable
from stoker.storage.shards.blank import blank_rows_of
from stoker.storage.shards.kinds import DECISIONS, RECORDS
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Part, Shard, load_manifest
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.masks.view import with_masks
from stoker.storage.versions.memory.tombstones import (
    KINDS,
    Tombstones,
    add_tombstones,
    load_tombstones,
    newest_number,
    to_table,
)
from stoker.storage.versions.verified import read_side_by_side, verified_table
from stoker.storage.versions.work import ingest_lease

REASON = "forgotten"
_MAX_REASON, _LONG = 500, 4  # characters: of a reason; of a value that may not be part of it
_MAX_LOST = 20  # versions of other writers that may come first before this gives up


@dataclass(frozen=True)
class Forgetting:
    """What was taken out, or would be.

    Args:
        corpus: its name.
        asked: kind and value in its normal form.
        unknown: those of ``asked`` that no sample of any version has; they stay out all the same.
        samples: how many samples each version holds that are meant, by its number; of those that hold any.
        view: the version without them; None: the newest one holds none, or nothing was done.
        may_return: keys of samples that the rules dropped as copies or near-duplicates of them: the next run that
            decides may publish these, as nothing they are like is there any more.
        copies: keys of samples of any version that hold the same bytes and are not meant, such as those of a file
            before it was renamed: they stay.
    """

    corpus: str
    asked: tuple[tuple[str, str], ...]
    unknown: tuple[tuple[str, str], ...]
    samples: Mapping[int, int]
    view: Manifest | None = None
    may_return: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


def forget(
    store: Store,
    corpus: str,
    asked: Iterable[tuple[str, str]],
    *,
    dry_run: bool = False,
    reason: str = "",
    now: Clock = utc_now,
) -> Forgetting:
    """Take samples out of a corpus, and keep them out of it.

    Raises StorageRefused for a value that can be none of its kind, NotFound for an unknown corpus, CorruptShard,
    StorageError.

    Args:
        store: the store that holds the corpus.
        corpus: its name, without a version.
        asked: kind ("url", "key", "page", "host", "author" or "sha256") and value.
        dry_run: only tell what would be taken out.
        reason: why; it is kept, so that it must name nothing of what is taken out. At most 500 characters.
        now: the clock.

    >>> from stoker import forget, version
    >>> from stoker.testing import sample_corpus
    >>> store, _ = sample_corpus(12)
    >>> forget(store, "numbers", [("key", "n0003")]).samples
    {1: 1}
    >>> version(store, "numbers")
    <Version numbers@2: 11 samples in train 11>
    """
    values = tuple(dict.fromkeys((kind, _normal(kind, value)) for kind, value in asked))
    _check_corpus(store, corpus)
    if not values:
        raise StorageRefused(f"{corpus}: nothing is named that should be taken out")
    _check_reason(reason, values)
    if dry_run:
        return _found(store, corpus, values, now).told(corpus, values)
    with ingest_lease(store, corpus):
        found = _found(store, corpus, values, now)
        tombstones = [*(one for one in values if one not in found.numbers), *found.own]
        add_tombstones(store, corpus, tombstones, at=now(), reason=reason)
        try:
            view = _obey(store, corpus, now)
        except (StorageRefused, StorageUnavailable) as error:  # such as a full disk
            raise type(error)(
                f"{error}; what was named is remembered and no reader gets it any more, but the version without it is "
                "not there yet: the same command goes on"
            ) from error
        return found.told(corpus, values, view)


def obey(store: Store, corpus: str, *, now: Clock = utc_now) -> Manifest | None:
    """A view of the newest version without what was taken out of the corpus; None if it holds nothing of it.

    For versions that no ingest made, such as those of external tars. Raises CorruptShard, StorageError.
    """
    if not newest_number(store, corpus):
        return None
    with ingest_lease(store, corpus):
        return _obey(store, corpus, now)


def _obey(store: Store, corpus: str, now: Clock) -> Manifest | None:
    for _ in range(_MAX_LOST):
        if not catalog.versions(store, corpus):
            return None
        newest = load_manifest(store, corpus)
        scan = _Scan(store, Forgotten.load(store, corpus))
        scan.add(newest)
        if not scan.samples:
            return None
        with suppress(AlreadyExists):  # of another writer's version, which holds them perhaps
            return with_masks(store, newest, scan.keys, reason=REASON, now=now)
    raise StorageUnavailable(
        f"{store.url}/{corpus}: {_MAX_LOST} other versions were published meanwhile; what was taken out is remembered, "
        "and the same command goes on"
    )


def _normal(kind: str, value: str) -> str:
    if kind not in KINDS:
        raise StorageRefused(f"{kind!r} is nothing that samples are taken out by; expected {', '.join(KINDS)}")
    try:
        return normal_form(kind, value)
    except ValueError as error:
        raise StorageRefused(f"{kind} {value[:200]!r}: {error}") from None


def _check_reason(reason: str, values: Iterable[tuple[str, str]]) -> None:
    if len(reason) > _MAX_REASON:
        raise StorageRefused(f"the reason has {len(reason)} characters, expected at most {_MAX_REASON}")
    named = next((value for _, value in values if len(value) >= _LONG and value.lower() in reason.lower()), None)
    if named is not None:
        raise StorageRefused(
            f"the reason names {named[:80]!r}, and it is kept for ever; say it without what is taken out, such as by "
            "the number of a request"
        )


def _check_corpus(store: Store, corpus: str) -> None:
    name, version = catalog.parse_reference(corpus)
    if version is not None:
        raise StorageRefused(f"{corpus}: samples are taken out of a corpus, not of one version; name {name!r}")
    if not catalog.versions(store, corpus):
        raise NotFound(catalog.missing(store, corpus))


@dataclass
class _Scan:
    """Finds samples in versions. Price: a few columns of each index are read once."""

    store: Store
    forgotten: Forgotten
    blanks: bool = True  # find the rows of those that were purged, too
    columns: frozenset[str] = frozenset()  # more of them, of what is met
    samples: dict[int, int] = field(default_factory=dict)  # by version
    keys: set[str] = field(default_factory=set)
    met: list[pa.Table] = field(default_factory=list)  # rows of samples that are meant, of each shard
    _rows: dict[str, tuple[pa.Table, Flags]] = field(default_factory=dict)  # by index

    def add(self, manifest: Manifest) -> None:
        """Look for the samples in a version."""
        masks, count = Masks(self.store), 0
        new = {one.index_sha256: one for one in manifest.shards if one.index_sha256 not in self._rows}
        found = read_side_by_side(self.store, [*new.values()], lambda shard: shard.index, self._meant_in)
        self._rows.update(zip(new, found, strict=True))
        self.met += [meant for name in new if (meant := self._rows[name][0]).num_rows]
        for shard in manifest.shards:
            meant, told = self._rows[shard.index_sha256]
            if not meant.num_rows:
                continue
            masked = masks.of(shard)
            live = meant if masked is None else meant.filter(pa.array(~masked[np.flatnonzero(told)]))
            self.keys.update(live["key"].to_pylist())
            count += live.num_rows
        if count:
            self.samples[manifest.version] = count

    def _meant_in(self, shard: Shard) -> tuple[pa.Table, Flags]:
        """The rows of a shard's samples that are meant, and which rows those are."""
        index, told = rows_of_shard(self.store, shard, self.forgotten, {"part", "content_sha256", *self.columns})
        if not self.blanks:
            told &= ~blank_rows_of(index)
        return index.filter(pa.array(told)), told


@dataclass(frozen=True)
class _Found:
    """Samples of all versions that values mean, and the tombstones for them."""

    samples: Mapping[int, int]
    own: tuple[tuple[str, str], ...]  # kind and value: of each sample itself
    numbers: frozenset[tuple[str, str]]  # keys that are numbers of rows: other samples may get them
    unknown: tuple[tuple[str, str], ...]
    may_return: tuple[str, ...]
    copies: tuple[str, ...]

    def told(self, corpus: str, asked: tuple[tuple[str, str], ...], view: Manifest | None = None) -> Forgetting:
        return Forgetting(corpus, asked, self.unknown, self.samples, view, self.may_return, self.copies)


def _found(store: Store, corpus: str, values: tuple[tuple[str, str], ...], now: Clock) -> _Found:
    scan = _Scan(store, Forgotten(Tombstones.of([to_table(values, at=now())])), blanks=False)
    own: set[tuple[str, str]] = set()
    numbers: set[tuple[str, str]] = set()
    for version in catalog.versions(store, corpus):
        manifest = load_manifest(store, corpus, version)
        first = len(scan.met)
        scan.add(manifest)
        for key, content, identity in _own(store, manifest.parts, scan.met[first:]):
            # By the identity another recipe's row is told, whose content is another; by the content, an index' row.
            own |= {("sha256", content), ("key", identity)} if content else {("key", key)}
            numbers |= {("key", key)} if content else set()
    known = load_tombstones(store, corpus)
    more = tuple(one for one in sorted(own - set(values)) if not known.is_withdrawn(one[0], [one[1]])[0])
    kinds = {kind for kind, _ in values}
    told = {kind: {value for table in scan.met for value in values_of(kind, table)} for kind in kinds}
    unknown = tuple((kind, value) for kind, value in values if value not in told[kind])
    gone = Forgotten(Tombstones.of([to_table([*values, *own], at=now())])), Forgotten(known)
    may_return = _may_return(store, load_manifest(store, corpus), scan.keys, gone)
    copies = _copies(store, corpus, scan, gone, now)
    return _Found(scan.samples, more, frozenset(numbers), unknown, may_return, copies)


def _copies(store: Store, corpus: str, scan: "_Scan", gone: Collection[Forgotten], now: Clock) -> tuple[str, ...]:
    """The keys of samples of any version that hold the bytes of those found, and are not taken out themselves."""
    columns = [table["content_sha256"] for table in scan.met if "content_sha256" in table.column_names]
    contents = sorted({one for column in columns for one in column.to_pylist() if one})
    if not contents:
        return ()
    by_content = to_table([("sha256", one) for one in contents], at=now())
    compared = frozenset().union(*(one.columns for one in gone))
    alike = _Scan(store, Forgotten(Tombstones.of([by_content])), blanks=False, columns=compared)
    for version in catalog.versions(store, corpus):
        alike.add(load_manifest(store, corpus, version))
    return _not_out(alike.met, scan.keys, gone)


def _not_out(tables: Iterable[pa.Table], keys: set[str], gone: Collection[Forgotten]) -> tuple[str, ...]:
    """The keys of rows that are not taken out, but for some keys."""
    found: set[str] = set()
    for table in tables:
        out = np.logical_or.reduce([one.rows(table) for one in gone])
        found.update(table["key"].filter(pa.array(~out)).to_pylist())
    return tuple(sorted(found - keys))


def _may_return(store: Store, newest: Manifest, keys: set[str], gone: Collection[Forgotten]) -> tuple[str, ...]:
    """The keys of samples that the rules dropped because of these ones, and that are not taken out themselves."""
    if not keys or not newest.parts:
        return ()
    columns = ["key", "part", "action", "witness"]
    decided = verified_table(store, newest.decisions.key, DECISIONS, sha256=newest.decisions.sha256, columns=columns)
    if "witness" not in decided.column_names:
        return ()
    named = pc.fill_null(pc.is_in(decided["witness"], value_set=pa.array(sorted(keys), pa.string())), False)
    dropped = decided.filter(pc.and_(named, pc.equal(decided["action"], "drop")))
    wanted = sorted({"key"}.union(*(one.columns for one in gone)))

    def of_parts() -> Iterator[pa.Table]:
        for part in newest.parts:
            mine = dropped["key"].filter(pc.equal(dropped["part"], part.digest))
            if len(mine):
                table = verified_table(store, part.records, RECORDS, sha256=part.records_sha256, columns=wanted)
                yield table.filter(pc.is_in(table["key"], value_set=mine.combine_chunks()))

    return _not_out(of_parts(), keys, gone)


def _own(store: Store, parts: Iterable[Part], met: Iterable[pa.Table]) -> Iterator[tuple[str, str, str]]:
    """The key of each sample; its content and identity where the key is only the number of a row, else ""."""
    part_of = {part.digest: part for part in parts}
    for table in met:
        digests = table["part"].to_pylist() if "part" in table.column_names else [None] * table.num_rows
        contents = table["content_sha256"].to_pylist() if "content_sha256" in table.column_names else None
        keyless = {digest: _keyless(store, part_of[digest]) for digest in set(digests) if digest in part_of}
        for row, (key, digest) in enumerate(zip(table["key"].to_pylist(), digests, strict=True)):
            identity = keyless.get(digest, {}).get(key, "")
            content = contents[row] if contents and identity else None
            yield (key, content, identity) if content else (key, "", "")


def _keyless(store: Store, part: Part) -> Mapping[str, str]:
    """The identities of a part's candidates whose keys do not tell which they are: another run may give them others."""
    table = verified_table(store, part.records, RECORDS, sha256=part.records_sha256, columns=["key", IDENTITY])
    if IDENTITY not in table.column_names:
        return {}
    table = table.filter(pc.is_valid(table[IDENTITY]))
    return dict(zip(table["key"].to_pylist(), table[IDENTITY].to_pylist(), strict=True))
