"""The samples of a version as a page asks for them: a few at a time, by ranged reads, with bounded memory."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.flows.report.cache import Cache
from stoker.storage.errors import NotFound
from stoker.storage.indexed.tars import store_of_tars
from stoker.storage.shards import records
from stoker.storage.shards.sample import is_key
from stoker.storage.shards.shard import Member
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Shard, load_manifest

FACETS = ("label", "language", "licence", "source", "author")  # columns that a page may be filtered by
_NOT_SHOWN = ("minhash", "image_hash")  # signatures: bulky, and nothing for a person
_TABLES = 192 * 2**20  # bytes of indexes and records that are held
_MANIFESTS = 50_000  # shards and parts of the manifests that are held
_MANIFEST_S = 10.0  # a manifest is read again after so long: somebody may have begun a new store in the old one's place
_SCANNED = 500  # indexes that one request looks through, at most


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample in a version: where it lies, and all that its index says of it."""

    key: str
    split: str
    shard: int  # place in the manifest
    members: tuple[Member, ...]
    record: Mapping[str, Any]  # Any: Parquet values

    def member(self, *extensions: str) -> Member | None:
        """The first of its fields that has one of these extensions, in their order."""
        own = {member.extension: member for member in self.members}
        return next((own[extension] for extension in extensions if extension in own), None)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of many: ``total`` of them, or at least so many when not ``complete``."""

    entries: tuple[Entry, ...]
    number: int  # from 1
    size: int
    total: int
    complete: bool = True

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // self.size))


class Shelf:
    """Versions, their samples and their bytes, out of one store. Safe to use from many threads."""

    def __init__(self, store: Store | Callable[[], Store]) -> None:
        self._given = store
        self._opened: Store | None = None
        self._lock = threading.Lock()
        self._tables: Cache[pa.Table] = Cache(_TABLES, lambda table: table.nbytes)
        self._manifests: Cache[Manifest] = Cache(_MANIFESTS, lambda one: len(one.shards) + len(one.parts) + 1)

    @property
    def store(self) -> Store:
        """The store, opened when first asked for. Raises what opening raises, and tries again the next time."""
        with self._lock:
            if self._opened is None:
                self._opened = self._given() if callable(self._given) else self._given
            return self._opened

    @property
    def url(self) -> str:
        """The store's URL if it is open: nothing is opened for it."""
        return "" if self._opened is None else self._opened.url

    def corpora(self) -> list[str]:
        """The names of all corpora."""
        return catalog.corpora(self.store)

    def versions(self, corpus: str) -> list[int]:
        """The versions of a corpus, oldest first."""
        return sorted(catalog.versions(self.store, corpus))

    def manifest(self, corpus: str, version: int | None = None) -> Manifest:
        """A version's manifest; the newest if none is named. Raises NotFound."""
        if version is None:
            version = max(self.versions(corpus), default=None)
        if version is None:
            return load_manifest(self.store, corpus)  # says what exists
        lately = int(time.monotonic() / _MANIFEST_S)
        return self._manifests.get((corpus, version, lately), lambda: load_manifest(self.store, corpus, version))

    def index(self, shard: Shard) -> pa.Table:
        """A shard's index, without signatures."""
        return self.table(shard.index, shard.index_sha256)

    def table(self, key: str, sha256: str) -> pa.Table:
        """A Parquet object without signatures; held under its checksum, so that no other one is taken for it."""

        def read() -> pa.Table:
            table = records.decode(self.store.read(key))
            return table.drop_columns([name for name in _NOT_SHOWN if name in table.column_names])

        return self._tables.get((key, sha256), read)

    def page(
        self, manifest: Manifest, *, split: str = "", where: Mapping[str, str] | None = None, number: int = 1, size: int
    ) -> Page:
        """A page of the samples of a split (or all) whose columns have the given values."""
        chosen = [(place, shard) for place, shard in enumerate(manifest.shards) if split in ("", shard.split)]
        scanned = chosen if not where else chosen[:_SCANNED]
        if where:
            found = [(place, _matching(self.index(shard), where)) for place, shard in scanned]
        else:
            found = [(place, range(shard.samples)) for place, shard in scanned]
        total = sum(len(rows) for _, rows in found)
        number = min(max(1, number), max(1, -(-total // size)))
        wanted = _slice(found, (number - 1) * size, size)
        entries = tuple(
            _entry(manifest, place, self.index(manifest.shards[place]), row) for place, rows in wanted for row in rows
        )
        return Page(entries, number, size, total, complete=len(scanned) == len(chosen))

    def find(self, manifest: Manifest, key: str, hint: int = -1) -> Entry:
        """The sample with a key; the shard at ``hint`` is looked at first. Raises NotFound."""
        if manifest.is_indexed or is_key(key):
            order = list(range(len(manifest.shards)))
            if 0 <= hint < len(order):
                order.insert(0, order.pop(hint))
            for place in order[: 4 * _SCANNED]:
                table = self.index(manifest.shards[place])
                row = pc.index(table["key"], pa.scalar(key, table.schema.field("key").type)).as_py()
                if row >= 0:
                    return _entry(manifest, place, table, row)
        raise NotFound(
            f"{manifest.reference} holds no sample {key[:100]!r}; ask `stoker why {manifest.reference} {key[:100]}` "
            "what became of it"
        )

    def read(self, tar: str, member: Member, *, most: int, of: Manifest | None = None) -> bytes:
        """The first bytes of a field, at most ``most``, by one ranged read; ``of``: the version that the tar is of."""
        store = self.store if of is None else store_of_tars(self.store, of)
        return store.read(tar, start=member.offset, size=min(member.size, most)) if member.size else b""


def _matching(table: pa.Table, where: Mapping[str, str]) -> Sequence[int]:
    mask: pa.ChunkedArray | None = None
    for column, value in where.items():
        if column not in table.column_names:
            return []
        equal = pc.fill_null(pc.equal(pc.cast(table[column], pa.string()), value), False)
        mask = equal if mask is None else pc.and_(mask, equal)
    return [] if mask is None else pc.indices_nonzero(mask).to_pylist()


def _slice(found: Sequence[tuple[int, Sequence[int]]], first: int, size: int) -> list[tuple[int, Sequence[int]]]:
    """The rows [first, first + size) of runs laid end to end, by run."""
    taken = []
    for place, rows in found:
        if first < len(rows) and size > 0:
            piece = rows[first : first + size]
            taken.append((place, piece))
            size -= len(piece)
            first = 0
        else:
            first -= min(first, len(rows))
    return taken


def _entry(manifest: Manifest, place: int, table: pa.Table, row: int) -> Entry:
    record = table.slice(row, 1).to_pylist()[0]
    members = members_of(record.pop("members"))
    for name in ("start", "stop"):
        record.pop(name, None)
    return Entry(record["key"], manifest.shards[place].split, place, members, record)


def members_of(values: Sequence[Mapping[str, Any]] | None) -> tuple[Member, ...]:  # Any: Parquet values
    """The fields of a row of an index or of a part's records."""
    return tuple(Member(one["extension"], one["offset"], one["size"]) for one in values or ())
