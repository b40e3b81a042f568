"""Pairs of near-duplicate images among samples of raw parts, kept with their distances: objects beside a version.

They are hints that save a search: all pairs within a distance (``Kept.distance``) that samples of some records make
with each other and with those of older objects. What they lead to is what a search would find.
"""

import hashlib
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.listed.lists import PAIRS as KIND
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.listed.named import Part
from stoker.storage.versions.memory.sealed_parquet import SealedReader
from stoker.storage.versions.memory.sealed_writer import ROW_GROUP, SealedWriter
from stoker.storage.versions.sealed import canonical
from stoker.storage.versions.verified import put, verified_bytes

PAIRS = pa.schema([("a", pa.string()), ("b", pa.string()), ("distance", pa.uint8())])  # hashes in hex; a <= b
_CODE = pa.dictionary(pa.int32(), pa.string())
CODED = pa.schema([("a", _CODE), ("b", _CODE), ("distance", pa.uint8())])  # the same in memory: 9 bytes, not 137
MIN_QUALITY = 50  # of the images whose pairs are kept
_ABOUT, _DISTANCE, _QUALITY, _TOO_MANY = "files", "distance", "quality", "too_many"  # in the footer's metadata
_REMEDY = "near-duplicates are looked for without it, and the next version has another"


Indices = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Kept:
    """Pairs, and what they are of.

    Args:
        files: names of the records, see ``name_of``, in order.
        distance: bits: all pairs up to it are there.
        table: CODED, sorted.
        too_many: that many pairs are there up to the distance that none are kept: nobody needs to look again.
    """

    files: tuple[str, ...]
    distance: int
    table: pa.Table
    too_many: bool = False

    @classmethod
    def of(cls, files: Sequence[str], distance: int, table: pa.Table) -> "Kept":
        """Each pair of a CODED table once, in order."""
        hashes, one, other = ends_of(table)
        a, b, distances = np.minimum(one, other), np.maximum(one, other), table["distance"].to_numpy()
        near = np.flatnonzero(distances <= distance)
        _, first = np.unique(a[near] * len(hashes) + b[near], return_index=True)
        rows = near[first]
        return cls(tuple(sorted(set(files))), distance, coded(hashes, a[rows], b[rows], distances[rows]))

    def joined(self, other: "Kept") -> "Kept":
        """Those of both, up to the smaller distance."""
        table = pa.concat_tables([self.table, other.table])
        return Kept.of((*self.files, *other.files), min(self.distance, other.distance), table)

    def only(self, names: Collection[str], hashes: pa.ChunkedArray) -> "Kept":
        """Those of some names alone, and of hashes that are still there."""
        there = hashes.unique()
        named, a, b = ends_of(self.table)
        is_there = pc.is_in(named, value_set=there).to_numpy(zero_copy_only=False)
        table = self.table.filter(pa.array(is_there[a] & is_there[b]))
        return replace(self, files=tuple(name for name in self.files if name in names), table=table)


def coded(hashes: pa.Array, a: Integers, b: Integers, distances: Integers) -> pa.Table:
    """CODED pairs of the hashes with these indices."""
    is_used = np.zeros(len(hashes), np.bool_)
    is_used[a] = is_used[b] = True
    numbers = (np.cumsum(is_used) - 1).astype(np.int32)
    used = hashes.filter(pa.array(is_used))
    ends = [pa.DictionaryArray.from_arrays(pa.array(numbers[one]), used) for one in (a, b)]
    return pa.table([*ends, pa.array(distances.astype(np.uint8))], schema=CODED)


def ends_of(table: pa.Table) -> tuple[pa.Array, Indices, Indices]:
    """The hashes of a CODED table, sorted, and the indices among them of each pair's two."""
    columns = [table[name].chunks for name in ("a", "b")]
    dictionaries = [chunk.dictionary for chunks in columns for chunk in chunks]
    hashes = pc.unique(pa.chunked_array(dictionaries, pa.string())).sort()
    indices = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for found, chunks in zip(indices, columns, strict=True):
        for chunk in chunks:
            place = pc.index_in(chunk.dictionary, value_set=hashes).to_numpy().astype(np.int64)
            found.append(place[chunk.indices.to_numpy()])
    return hashes, np.concatenate(indices[0]), np.concatenate(indices[1])


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
    writer = SealedWriter(file, PAIRS, more=said | ({_TOO_MANY: True} if kept.too_many else {}))
    for start in range(0, len(kept.table), ROW_GROUP):  # in pieces, because they are texts there
        writer.write(kept.table.slice(start, ROW_GROUP))
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
    pieces = [_coded_texts(reader.table([group])) for group in reader.groups]
    table = pa.concat_tables([CODED.empty_table(), *pieces]).unify_dictionaries().combine_chunks()
    return Kept(tuple(files), distance, table, reader.said.get(_TOO_MANY) is True)


def _coded_texts(table: pa.Table) -> pa.Table:
    return pa.table([*(table[name].dictionary_encode() for name in ("a", "b")), table["distance"]], schema=CODED)
