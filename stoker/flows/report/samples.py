"""Samples of a version for reports and the web page: a few at a time, by ranged reads, with bounded memory.

Indexes and manifests are cached (least recently used first out). Price: the first filter of a large version reads up to
500 indexes.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.flows.report.cache import LruCache
from stoker.pipelines.images.formats import EXTENSIONS
from stoker.pipelines.stages.forgetting.matching import Forgotten
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.index import ShardIndex
from stoker.storage.shards.kinds import INDEX, Kind
from stoker.storage.shards.row_checksum import CHECKSUMS, has_checksums
from stoker.storage.shards.sample import is_key
from stoker.storage.shards.shard import Member
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Shard, load_manifest
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.tar_store import store_of_tars
from stoker.storage.versions.verified import verified_sample, verified_table

FACETS = ("label", "language", "licence", "source", "author")  # columns that a page may be filtered by
MAX_COMPARED = 64 * 2**20  # bytes of a field that are compared with its checksum
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIGNATURES = ("minhash", "image_hash")  # large, and meaningless to people
_TABLES_CACHE = 192 * 2**20  # bytes of indexes and records
_MANIFESTS_CACHE = 50_000  # shards and parts in manifests
_MANIFEST_TTL_S = 10.0  # a cached manifest is read again after this: the store may have been replaced by another
_FORGOTTEN_CACHE = 10**6  # tombstones
_MAX_SCANNED = 500  # indexes that one request reads


@dataclass(frozen=True, slots=True)
class Proof:
    """What a field's bytes are compared with: their SHA-256, else the whole sample's checksum; false for nothing."""

    sha256: str = ""
    place: ShardIndex | None = None  # of the sample alone

    def __bool__(self) -> bool:
        return bool(self.sha256) or self.place is not None


NO_PROOF = Proof()


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """A sample in a version: its position, and all that the shard's index says about it."""

    key: str
    split: str
    shard: int  # index in the manifest
    members: tuple[Member, ...]
    record: Mapping[str, Any]  # Any: Parquet values
    place: ShardIndex | None = None  # of this sample alone, with its checksum; None: an older release wrote the index

    def proof(self, member: Member, of: Manifest, most: int = MAX_COMPARED) -> "Proof":
        """What a field is compared with, if no more than so many bytes have to be read for that."""
        if member.size <= most and (sha256 := self.checksum(member, of)):
            return Proof(sha256)
        is_small = self.place is not None and int(self.place.lengths[0]) <= most
        return Proof(place=self.place if is_small else None)

    def checksum(self, member: Member, of: Manifest) -> str:
        """The SHA-256 of the image, else of the text, as the index has it; "" for other fields and external tars."""
        # A column of that name is in external tars their own.
        return "" if of.is_indexed else stated_checksum(self.record, self.members, member)

    def member(self, *extensions: str) -> Member | None:
        """The field with the first of these extensions that the sample has; None if it has none of them."""
        return first_member(self.members, extensions)


@dataclass(frozen=True, slots=True)
class SamplePage:
    """One page of a list of samples. ``total`` is the length of the list, or a lower bound if not ``complete``."""

    entries: tuple[SampleEntry, ...]
    number: int  # from 1
    size: int
    total: int
    complete: bool = True

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // self.size))


class SampleReader:
    """Reads versions, samples and their bytes from one store. Safe to use from many threads.

    Args:
        store: the store, or a function that opens it when it is first needed.
    """

    def __init__(self, store: Store | Callable[[], Store]) -> None:
        self._store_or_opener = store
        self._opened: Store | None = None
        self._lock = threading.Lock()
        self._masks: Masks | None = None
        self._tables: LruCache[pa.Table] = LruCache(_TABLES_CACHE, lambda table: table.nbytes)
        self._forgotten: LruCache[Forgotten] = LruCache(_FORGOTTEN_CACHE, lambda one: len(one.tombstones) + 1)
        self._manifests, self._lists = (LruCache[Manifest](_MANIFESTS_CACHE, _rows) for _ in range(2))

    @property
    def store(self) -> Store:
        """The store, opened at the first use. Raises what opening raises; the next use tries again."""
        with self._lock:
            if self._opened is None:
                self._opened = self._store_or_opener() if callable(self._store_or_opener) else self._store_or_opener
            return self._opened

    @property
    def url(self) -> str:
        """The store's URL, "" as long as it is not open."""
        return "" if self._opened is None else self._opened.url

    def corpora(self) -> list[str]:
        """The names of all corpora."""
        return catalog.corpora(self.store)

    def versions(self, corpus: str) -> list[int]:
        """The versions of a corpus, oldest first."""
        return sorted(catalog.versions(self.store, corpus))

    def manifest(self, corpus: str, version: int | None = None) -> Manifest:
        """A version's manifest; the newest version's if it is None. Raises NotFound."""
        if version is None:
            version = max(self.versions(corpus), default=None)
        if version is None:
            return load_manifest(self.store, corpus)  # raises, and says what exists
        period = int(time.monotonic() / _MANIFEST_TTL_S)

        def load() -> Manifest:
            manifest = load_manifest(self.store, corpus, version)
            # With the lists that were read of the same one before.
            return self._lists.get((corpus, version, manifest.checksum), lambda: manifest)

        return self._manifests.get((corpus, version, period), load)

    def index(self, shard: Shard) -> pa.Table:
        """The samples that a version holds of a shard, as its index has them, without signatures."""
        if shard.place is None:
            return self.table(shard.index, INDEX, shard.index_sha256)
        stored, masks = self.table(shard.index, INDEX, shard.index_sha256), self._masks or Masks(self.store)
        self._masks = masks
        return self._tables.get(("live", shard.identity), lambda: masks.live(shard, stored))

    def is_forgotten(self, manifest: Manifest, record: Mapping[str, Any]) -> bool:  # Any: Parquet values
        """Whether a candidate with this record was taken out of the corpus, as was known a moment ago."""
        period = int(time.monotonic() / _MANIFEST_TTL_S)
        load = partial(Forgotten.load, self.store, manifest.corpus)
        return self._forgotten.get((manifest.corpus, period), load).of_record(record)

    def table(self, key: str, kind: Kind, sha256: str) -> pa.Table:
        """A Parquet object of a kind, without signatures, cached by key and checksum."""

        def read() -> pa.Table:
            table = verified_table(self.store, key, kind, sha256=sha256)
            return table.drop_columns([name for name in _SIGNATURES if name in table.column_names])

        return self._tables.get((key, sha256), read)

    def page(
        self, manifest: Manifest, *, split: str = "", where: Mapping[str, str] | None = None, number: int = 1, size: int
    ) -> SamplePage:
        """A page of the samples of a split ("": all) whose columns equal the values in ``where``."""
        chosen = [(index, shard) for index, shard in enumerate(manifest.shards) if split in ("", shard.split)]
        scanned = chosen if not where else chosen[:_MAX_SCANNED]
        matches: list[tuple[int, Sequence[int]]]  # (index of a shard, rows in it)
        if where:
            matches = [(index, _matching(self.index(shard), where)) for index, shard in scanned]
        else:
            matches = [(index, range(shard.samples)) for index, shard in scanned]
        total = sum(len(rows) for _, rows in matches)
        number = min(max(1, number), max(1, -(-total // size)))
        found = (
            _entry(manifest, index, self.index(manifest.shards[index]), row)
            for index, rows in _slice(matches, (number - 1) * size, size)
            for row in rows
        )
        # What was taken out of the corpus since has its place in the list, but is not shown.
        entries = tuple(entry for entry in found if not self.is_forgotten(manifest, entry.record))
        return SamplePage(entries, number, size, total, complete=len(scanned) == len(chosen))

    def find(self, manifest: Manifest, key: str, hint: int = -1) -> SampleEntry:
        """The sample with a key; the shard with index ``hint`` is searched first. Raises NotFound."""
        if manifest.is_indexed or is_key(key):
            order = list(range(len(manifest.shards)))
            if 0 <= hint < len(order):
                order.insert(0, order.pop(hint))
            for index in order[: 4 * _MAX_SCANNED]:
                table = self.index(manifest.shards[index])
                row = pc.index(table["key"], pa.scalar(key, table.schema.field("key").type)).as_py()
                if row >= 0:
                    entry = _entry(manifest, index, table, row)
                    if self.is_forgotten(manifest, entry.record):
                        raise NotFound(f"{manifest.reference}: sample {key[:100]!r} was taken out of the corpus")
                    return entry
        raise NotFound(
            f"{manifest.reference} holds no sample {key[:100]!r}; ask `stoker why {manifest.reference} {key[:100]}` "
            "what became of it"
        )

    def read(
        self, tar: str, member: Member, *, most: int, of: Manifest | None = None, proof: Proof = NO_PROOF
    ) -> bytes:
        """The first bytes of a field, at most ``most``, by one ranged read.

        With a proof all is read that its checksum is of, if that is ``MAX_COMPARED`` bytes or fewer, and compared; and
        read once more where it differs. Raises CorruptShard if it still does.

        Args:
            tar: key of the tar.
            member: the field.
            most: bytes that are returned, at most.
            of: the version if the tar is one of its shards; None for a raw part.
            proof: what the field is compared with.
        """
        store = self.store if of is None else store_of_tars(self.store, of)
        if not member.size:
            return b""
        if proof.place is not None:
            region = verified_sample(store, tar, proof.place, 0)
            start = member.offset - int(proof.place.starts[0])
            return bytes(region[start : start + member.size])[:most]
        sha256 = proof.sha256
        if not sha256 or member.size > MAX_COMPARED:
            return store.read(tar, start=member.offset, size=min(member.size, most))
        for _ in range(2):
            payload = store.read(tar, start=member.offset, size=member.size)
            if hashlib.sha256(payload).hexdigest() == sha256:
                return payload[:most]
        raise CorruptShard(
            f"{store.url}/{tar}: the bytes of .{member.extension} at byte {member.offset} are not those that its index "
            f"has the checksum of ({sha256[:12]}); `stoker verify --repair` looks at the whole version"
        )


def _rows(manifest: Manifest) -> int:
    return len(manifest.shards) + len(manifest.parts) + 1


def first_member(members: Sequence[Member], extensions: Sequence[str]) -> Member | None:
    """The field with the first of these extensions that there is; None if there is none."""
    by_extension = {member.extension: member for member in members}
    return next((by_extension[extension] for extension in extensions if extension in by_extension), None)


def stated_checksum(record: Mapping[str, Any], members: Sequence[Member], member: Member) -> str:  # Any: Parquet values
    """The SHA-256 of the image, else of the text, as the record has it; "" for other fields."""
    stated = record.get("content_sha256")
    is_known = member == first_member(members, (*EXTENSIONS, "txt"))
    return stated if is_known and isinstance(stated, str) and _SHA256.fullmatch(stated) else ""


def _matching(table: pa.Table, where: Mapping[str, str]) -> Sequence[int]:
    mask: pa.ChunkedArray | None = None
    for column, value in where.items():
        if column not in table.column_names:
            return []
        equal = pc.fill_null(pc.equal(pc.cast(table[column], pa.string()), value), False)
        mask = equal if mask is None else pc.and_(mask, equal)
    return [] if mask is None else pc.indices_nonzero(mask).to_pylist()


def _slice(matches: Sequence[tuple[int, Sequence[int]]], first: int, size: int) -> list[tuple[int, Sequence[int]]]:
    """The matches [first, first + size) of all shards counted through, by shard."""
    page = []
    for index, rows in matches:
        if first < len(rows) and size > 0:
            selected = rows[first : first + size]
            page.append((index, selected))
            size -= len(selected)
            first = 0
        else:
            first -= min(first, len(rows))
    return page


def _entry(manifest: Manifest, index: int, table: pa.Table, row: int) -> SampleEntry:
    alone = table.slice(row, 1)
    record = alone.to_pylist()[0]
    members = members_of(record.pop("members"))
    checksums = [name for name in CHECKSUMS if has_checksums(alone, name)]
    for name in ("start", "stop", *checksums):
        record.pop(name, None)
    place = ShardIndex.of(alone, manifest.shards[index].index) if checksums else None
    return SampleEntry(record["key"], manifest.shards[index].split, index, members, record, place)


def members_of(values: Sequence[Mapping[str, Any]] | None) -> tuple[Member, ...]:  # Any: Parquet values
    """The fields of a sample, from the column ``members`` of an index or of a part's records."""
    return tuple(Member(value["extension"], value["offset"], value["size"]) for value in values or ())
