"""Outcomes: what became of each candidate, once for every identity, sorted by the hash of the identity.

Two outcomes of an identity count: the newest *definite* one decides what the sample is (that of the newest revision,
where candidates have revisions), and the newest *attempt* tells when to ask again. Often they are the same row. Files
of outcomes are never changed: new ones are laid beside them (deltas), and ``merge`` of all of them is what is known.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.stores.store import Store
from stoker.storage.versions.memory import sealed_parquet, sealed_writer
from stoker.storage.versions.memory.outcome_class import CLASSES
from stoker.storage.versions.memory.sealed_parquet import SealedReader, StoredTable
from stoker.storage.versions.memory.sealed_writer import SealedWriter, Written
from stoker.storage.versions.queries.hashing import short_hashes_of

REMEDY = (
    "restore it from a copy; without one, remove all heads in the corpus' folder memory/: no sample is lost, the next "
    "ingest begins with what the newest version holds, and asks for all else again"
)
SCHEMA = pa.schema(
    [
        ("hash", pa.uint64()),  # of source and id, see ``hash_of``
        ("source", pa.string()),
        ("id", pa.string()),
        ("key", pa.string()),
        ("definite", pa.bool_()),
        ("class", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("tries", pa.int32()),
        ("size", pa.int64()),
        ("revision", pa.int64()),
        ("sha1", pa.string()),
        ("stamp", pa.string()),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("recipe", pa.string()),
        ("setting", pa.string()),
        ("part", pa.string()),
        ("row", pa.int64()),
        ("split", pa.string()),
        ("split_since", pa.int32()),
        ("since", pa.int32()),
    ]
)
_DICTIONARIES = (
    "source",
    "definite",
    "class",
    "reason",
    "detail",
    "tries",
    "recipe",
    "setting",
    "part",
    "split",
    "since",
)
_STATISTICS = ("hash",)
_TEXTS = {"class": CLASSES}
_IDENTITY = ["hash", "source", "id"]
_CARRIED = ("split", "split_since", "since")
# Of outcomes of one identity the last in this order is the newest. After the time the order is only to be the same
# everywhere: in whichever order files are merged, the same row wins. Null is greater than any value.
_ORDER = [
    *_IDENTITY,
    "at",
    "definite",
    "revision",
    *(name for name in SCHEMA.names if name not in (*_IDENTITY, "at", "definite", "revision", *_CARRIED)),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one candidate, once. The names are those of the columns, but for ``kind``."""

    source: str  # namespace of the identity
    id: str  # identity in its source, such as a URL in normal form
    definite: bool  # decides what the sample is; False: of the moment or of a setting, it replaces no kept sample
    kind: str  # column "class", one of CLASSES: when to ask again
    reason: str | None = None  # None: kept
    detail: str | None = None
    at: datetime  # UTC, to the microsecond
    tries: int = 1  # consecutive attempts without a definite outcome, this one included
    key: str | None = None  # of the sample
    size: int | None = None  # stamp of what was read: bytes, revision, SHA-1 (hex)
    revision: int | None = None
    sha1: str | None = None
    stamp: str | None = None  # of what a list said of it, see ``Listed``; None: not known
    etag: str | None = None  # validators, as the server gave them
    last_modified: str | None = None
    recipe: str | None = None  # fingerprints: of what made the sample, and of the settings that refused it
    setting: str | None = None
    part: str | None = None  # digest of the raw part that holds the candidate, and its row there
    row: int | None = None
    split: str | None = None  # the split once given, and the version that gave it
    split_since: int | None = None
    since: int | None = None  # the first version that held the sample

    def __post_init__(self) -> None:
        if self.kind not in CLASSES:
            raise ValueError(f"an outcome of class {self.kind!r}, expected one of {', '.join(CLASSES)}")


@dataclass(frozen=True, slots=True)
class Heads:
    """The two outcomes of an identity that count; ``definite`` is None as long as there is none."""

    definite: Outcome | None
    attempt: Outcome


def hash_of(source: str, id: str) -> int:  # noqa: A002  # the column's name
    """The place of an identity in files of outcomes: 64 bits. Identities with equal hashes are told apart by name.

    >>> hash_of("image_urls", "https://example.org/a.jpg")
    499311816428011574
    """
    digest = hashlib.sha256(f"{source}\0{id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def hashes_of(source: str, ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """The hashes of many identities of one source, in their order."""
    return short_hashes_of(f"{source}\0".encode("utf-8", "surrogatepass"), ids)


def to_table(outcomes: Iterable[Outcome]) -> pa.Table:
    """Outcomes as a table, merged: what ``encode`` takes."""
    rows = [
        {_column(field.name): getattr(outcome, field.name) for field in fields(Outcome)}
        | {"hash": hash_of(outcome.source, outcome.id)}
        for outcome in outcomes
    ]
    return merge(pa.Table.from_pylist(rows, schema=SCHEMA))


def from_table(table: pa.Table) -> list[Outcome]:
    """The rows of a table as outcomes."""
    names = {_column(field.name): field.name for field in fields(Outcome)}
    return [Outcome(**{names[name]: row[name] for name in names}) for row in table.to_pylist()]


def merge(base: pa.Table, *deltas: pa.Table) -> pa.Table:
    """What is known from several tables of outcomes, sorted by hash: at most two rows for an identity.

    Associative, and the same in whichever order the tables come; their rows may be in any order. An outcome keeps the
    split that was given last, and the first version that held the sample, also when it is not the outcome that they
    stood in: what the newest row does not know is not forgotten.
    """
    rows = pa.concat_tables([base, *deltas])
    hashes = rows["hash"].to_numpy()
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    repeated = np.zeros(len(hashes), dtype=bool)
    equal = hashes[1:] == hashes[:-1]
    repeated[1:] |= equal
    repeated[:-1] |= equal
    if not repeated.any():
        return rows.take(order).combine_chunks()
    merged = _merge_repeated(rows.take(order[repeated]))
    joined = pa.concat_tables([rows.take(order[~repeated]), merged])
    # Stable: identities of equal hash all were repeated, and stay in their order.
    return joined.take(np.argsort(joined["hash"].to_numpy(), kind="stable")).combine_chunks()


def _merge_repeated(rows: pa.Table) -> pa.Table:
    """The rows that count, sorted, of a table in which most identities have several."""
    indices = pc.sort_indices(rows, [(name, "ascending") for name in _ORDER])
    rows = rows.take(indices).combine_chunks()
    begins = np.ones(rows.num_rows, dtype=bool)
    begins[1:] = False
    for name in _IDENTITY:
        column = rows[name]
        begins[1:] |= pc.not_equal(column.slice(1), column.slice(0, rows.num_rows - 1)).to_numpy()
    starts = np.flatnonzero(begins)
    identity = np.cumsum(begins) - 1
    newest = np.append(starts[1:], rows.num_rows) - 1
    definite = np.flatnonzero(rows["definite"].to_numpy())
    revisions = pc.fill_null(rows["revision"], -1).to_numpy()[definite]
    definite = definite[np.lexsort((definite, revisions, identity[definite]))]
    last = np.append(identity[definite][1:] != identity[definite][:-1], True)[: len(definite)]
    counting = np.union1d(newest, definite[last])
    since, split_since, split = _carried(rows, starts, identity)
    chosen, of = rows.take(counting), identity[counting]
    for name, column in zip(("since", "split_since", "split"), (since, split_since, split), strict=True):
        index = SCHEMA.get_field_index(name)
        chosen = chosen.set_column(index, SCHEMA.field(index), column.take(of))
    return chosen


def _carried(
    rows: pa.Table, starts: npt.NDArray[np.intp], identity: npt.NDArray[np.intp]
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """For each identity: the first version that held it, the last version that gave it a split, and that split."""
    none = np.iinfo(np.int32).max
    since = np.minimum.reduceat(pc.fill_null(rows["since"], none).to_numpy(), starts)
    splits = sorted(set(rows["split"].to_pylist()) - {None})
    # Of two splits that one version gave, which none does, the first by name: as good as any, and always the same.
    code = pc.fill_null(pc.index_in(rows["split"], pa.array(splits, pa.string())), len(splits)).to_numpy()
    given = np.where(code < len(splits), pc.fill_null(rows["split_since"], 0).to_numpy(), -1)
    newest = np.maximum.reduceat(given, starts)
    code = np.minimum.reduceat(np.where(given == newest[identity], code, len(splits)), starts)
    without = code == len(splits)
    versions = pa.array(newest, pa.int32(), mask=without | (newest == 0))
    names = pa.array([*splits, None], pa.string()).take(pa.array(code))
    return pa.array(since, pa.int32(), mask=since == none), versions, names


def writer(file: BinaryIO) -> SealedWriter:
    """Writes a file of outcomes, for ``merge_files``; its bytes are those of ``encode``."""
    return SealedWriter(file, SCHEMA, dictionaries=_DICTIONARIES, statistics=_STATISTICS)


def encode(table: pa.Table) -> tuple[bytes, Written]:
    """The file of a table that ``merge`` or ``to_table`` made, and what to name it by."""
    return sealed_writer.encode(table, dictionaries=_DICTIONARIES, statistics=_STATISTICS)


def decode(payload: bytes, where: str) -> pa.Table:
    """The rows of a file. Raises CorruptShard, StorageRefused for one of a newer Stoker."""
    return sealed_parquet.decode(payload, schema=SCHEMA, where=where, remedy=REMEDY, texts=_TEXTS)


def open_outcomes(store: Store, stored: StoredTable) -> SealedReader:
    """A file of outcomes, to be read in part. Reads nothing yet."""
    return SealedReader.of_object(store, stored, schema=SCHEMA, remedy=REMEDY, texts=_TEXTS)


def find(files: Sequence[SealedReader], source: str, id: str) -> Heads | None:  # noqa: A002  # the column's name
    """What became of one candidate; None if no file knows it. Two reads of each file, one if it was asked before.

    Raises CorruptShard, StorageError.
    """
    tables = [file.with_hash(hash_of(source, id)) for file in files]
    rows = pa.concat_tables([SCHEMA.empty_table(), *tables])
    rows = rows.filter(pc.and_(pc.equal(rows["source"], source), pc.equal(rows["id"], id)))
    if not rows.num_rows:
        return None
    found = from_table(merge(rows))
    return Heads(next((one for one in found if one.definite), None), found[-1])


def _column(name: str) -> str:
    return "class" if name == "kind" else name
