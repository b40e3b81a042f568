"""Pairs of near-duplicate images among samples of raw parts, kept with their distances: objects beside a version.

They are hints that save a search: all pairs within a distance (``Kept.distance``) that samples of some records make
with each other and with those of older objects. What they lead to is what a search would find.
"""

import hashlib
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.listed.lists import PAIRS as KIND
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.listed.named import Part
from stoker.storage.versions.memory.sealed_parquet import SealedReader
from stoker.storage.versions.memory.sealed_writer import SealedWriter
from stoker.storage.versions.sealed import canonical
from stoker.storage.versions.verified import put, verified_bytes

PAIRS = pa.schema([("a", pa.string()), ("b", pa.string()), ("distance", pa.uint8())])  # hashes in hex; a <= b
MIN_QUALITY = 50  # of the images whose pairs are kept
_ABOUT, _DISTANCE, _QUALITY = "files", "distance", "quality"  # in the footer's metadata
_REMEDY = "near-duplicates are looked for without it, and the next version has another"


@dataclass(frozen=True)
class Kept:
    """Pairs, and what they are of.

    Args:
        files: names of the records, see ``name_of``, in order.
        distance: bits: all pairs up to it are there.
        table: PAIRS, sorted.
    """

    files: tuple[str, ...]
    distance: int
    table: pa.Table

    @classmethod
    def of(cls, files: Sequence[str], distance: int, table: pa.Table) -> "Kept":
        """Each pair once, in order."""
        table = table.filter(pc.less_equal(table["distance"], distance))
        is_ordered = pc.less_equal(table["a"], table["b"])
        ends = [pc.if_else(is_ordered, table["a"], table["b"]), pc.if_else(is_ordered, table["b"], table["a"])]
        table = pa.table([*ends, table["distance"]], schema=PAIRS).group_by(PAIRS.names).aggregate([])
        order = [("a", "ascending"), ("b", "ascending")]
        return cls(tuple(sorted(set(files))), distance, table.select(PAIRS.names).sort_by(order).combine_chunks())

    def joined(self, other: "Kept") -> "Kept":
        """Those of both, up to the smaller distance."""
        table = pa.concat_tables([self.table, other.table])
        return Kept.of((*self.files, *other.files), min(self.distance, other.distance), table)

    def only(self, names: Collection[str], hashes: pa.ChunkedArray) -> "Kept":
        """Those of some names alone, and of hashes that are still there."""
        there = hashes.unique()
        is_there = pc.and_(*(pc.is_in(self.table[name], value_set=there) for name in ("a", "b")))
        return Kept(tuple(name for name in self.files if name in names), self.distance, self.table.filter(is_there))


def name_of(part: Part) -> str:
    """A name of the samples of a raw part: of its records, and of the rows that are none any more."""
    if not part.left_out:
        return part.records
    return f"{part.records} {hashlib.sha256(canonical(list(part.left_out))).hexdigest()[:16]}"


def records_in(name: str) -> str:
    """The key of the records in such a name."""
    return name.partition(" ")[0]


def encode(corpus: str, kept: Kept) -> tuple[ListFile, bytes]:
    """The object of pairs: how a manifest names it, and its bytes. The same files and pairs give the same."""
    file = io.BytesIO()
    said = {_ABOUT: list(kept.files), _DISTANCE: kept.distance, _QUALITY: MIN_QUALITY}
    writer = SealedWriter(file, PAIRS, more=said)
    writer.write(kept.table)
    written = writer.close()
    key = layout.version_list(corpus, KIND, written.sha256)
    return ListFile(key, written.size, written.sha256, written.rows), file.getvalue()


def put_pairs(store: Store, objects: Iterable[tuple[ListFile, bytes]]) -> None:
    """Write objects of pairs. Raises StorageError."""
    for file, payload in objects:
        put(store, file.key, payload, sha256=file.sha256)


def read_pairs(store: Store, file: ListFile) -> Kept:
    """What an object of pairs says. Raises CorruptShard, NotFound, StorageError."""
    where = f"{store.url}/{file.key}"
    payload = verified_bytes(store, file.key, sha256=file.sha256, size=file.size)
    reader = SealedReader(
        lambda start, stop: payload[start:stop], size=file.size, schema=PAIRS, where=where, remedy=_REMEDY
    )
    files, distance, quality = (reader.said.get(name) for name in (_ABOUT, _DISTANCE, _QUALITY))
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise CorruptShard(f"{where}: it does not say which records it is about; {_REMEDY}")
    if not isinstance(distance, int) or quality != MIN_QUALITY:
        raise CorruptShard(f"{where}: it is about other images; {_REMEDY}")
    return Kept(tuple(files), distance, reader.table(reader.groups))
