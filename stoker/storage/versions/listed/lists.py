"""The lists of a version: shards, raw parts, statistics and masks, each a Parquet object that the manifest names.

A manifest is small: it has the totals, and of each list the size and checksum. A list is read when it is first used,
and kept. Lists are named by their content, so that versions share what did not change between them. A ledger head has
a list of raw parts too.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsIndex, TypeVar, overload

import pyarrow as pa

from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.shards import records
from stoker.storage.shards.kinds import Kind
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.document import Document
from stoker.storage.versions.listed import names
from stoker.storage.versions.listed.named import Candidates, Part, Shard, SplitTotals
from stoker.storage.versions.sealed import canonical
from stoker.storage.versions.verified import second_read

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

KINDS = SHARDS, PARTS, STATISTICS, MASKS = "shards", "parts", "statistics", "masks"
LOOKUP = "lookup"  # in the names of objects that lie beside the lists, see ``lookups``
PAIRS = "pairs"  # the same, see ``measured.pairs``
_MAX_SIZE = 2**30  # bytes of a list that is read: of ten million shards
_TEXTS: Mapping[str, tuple[str, ...]] = {
    SHARDS: (),
    PARTS: ("rejected", "omitted", "superseded", "originals", "shared"),
    STATISTICS: ("summary",),
    MASKS: (),
}  # columns of JSON
_SCHEMAS = {
    SHARDS: pa.schema(
        [
            ("key", pa.string()),
            ("split", pa.string()),
            ("samples", pa.int64()),
            ("size", pa.int64()),
            ("sha256", pa.string()),
            ("index", pa.string()),
            ("index_size", pa.int64()),
            ("index_sha256", pa.string()),
            ("group", pa.string()),
            ("masked", pa.int64()),
        ]
    ),
    PARTS: pa.schema(
        [
            ("partition", pa.string()),
            ("digest", pa.string()),
            ("tar", pa.string()),
            ("tar_sha256", pa.string()),
            ("tar_size", pa.int64()),
            ("records", pa.string()),
            ("records_sha256", pa.string()),
            ("read", pa.int64()),
            ("kept", pa.int64()),
            ("rejected", pa.string()),
            ("omitted", pa.string()),
        ]
    ),
    STATISTICS: pa.schema([("split", pa.string()), ("summary", pa.string())]),
    MASKS: pa.schema([("group", pa.string()), ("key", pa.string()), ("size", pa.int64()), ("sha256", pa.string())]),
}

# Columns that are there if one row of a list says something in them.
_LATER = {
    PARTS: pa.schema(
        [
            ("superseded", pa.string()),
            ("grouped", pa.bool_()),
            ("ends_group", pa.bool_()),
            ("originals", pa.string()),
            ("shared", pa.string()),
        ]
    )
}


@dataclass(frozen=True, slots=True)
class ListFile:
    """One list of a version or a ledger head, as that names it."""

    key: str
    size: int  # bytes
    sha256: str
    rows: int

    @classmethod
    def from_document(cls, document: Document, corpus: str, kind: str) -> "ListFile":
        """Raises CorruptShard naming the invalid field."""
        names.check_list(corpus, kind, document.text("key"), document.text("sha256"), document.where)
        return cls(document.text("key"), document.whole("size"), document.text("sha256"), document.whole("rows"))


def split_totals(shards: Iterable[Shard]) -> dict[str, SplitTotals]:
    """Totals of each split, in the order of the shards."""
    totals: dict[str, SplitTotals] = {}
    for shard in shards:
        before = totals.get(shard.split, SplitTotals(0, 0, 0))
        totals[shard.split] = SplitTotals(
            before.samples + shard.samples, before.shards + 1, before.size + shard.size, before.masked + shard.masked
        )
    return totals


class LazyList(Sequence[T_co]):
    """A list that is read when it is first used; equal to a tuple of the same. Once read it is pickled as a tuple.

    Before that it is pickled unread: workers of a stream get no raw parts. ``read`` can be pickled, as stores can.
    Reading it raises CorruptObject, NotFound, StorageUnavailable.
    """

    def __init__(self, file: ListFile, read: Callable[[], tuple[T_co, ...]]) -> None:
        self.file = file
        self._read = read

    @cached_property
    def _items(self) -> tuple[T_co, ...]:
        return self._read()

    def __len__(self) -> int:
        return self.file.rows

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T_co, ...]: ...
    def __getitem__(self, index: int | slice) -> T_co | tuple[T_co, ...]:
        return self._items[index]

    def __iter__(self) -> Iterator[T_co]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazyList):
            return self.file == other.file or self._items == other._items
        return self._items == other

    def __hash__(self) -> int:
        return hash(self._items)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:  # Any: what pickle wants
        return (tuple, (self._items,)) if "_items" in self.__dict__ else super().__reduce_ex__(protocol)


class ShardList(LazyList[Shard]):
    """The shards of a version; their totals stand in its manifest."""

    def __init__(
        self, file: ListFile, read: Callable[[], tuple[Shard, ...]], splits: Mapping[str, SplitTotals]
    ) -> None:
        super().__init__(file, read)
        self.splits = splits


class PartList(LazyList[Part]):
    """The raw parts of a version; their totals stand in its manifest."""

    def __init__(self, file: ListFile, read: Callable[[], tuple[Part, ...]], candidates: Candidates) -> None:
        super().__init__(file, read)
        self.candidates = candidates


class LazyStatistics(Mapping[str, Any]):  # Any: JSON of a Summary
    """The statistics of each split, read when they are first used; equal to a dictionary of the same.

    Once read they are pickled as a dictionary, before that unread.
    """

    def __init__(self, file: ListFile, read: Callable[[], dict[str, Any]]) -> None:
        self.file = file
        self._read = read

    @cached_property
    def _content(self) -> dict[str, Any]:
        return self._read()

    def __getitem__(self, split: str) -> Any:  # as the class
        return self._content[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return self.file.rows

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:  # Any: what pickle wants
        return (dict, (self._content,)) if "_content" in self.__dict__ else super().__reduce_ex__(protocol)


def encode_list(corpus: str, kind: str, rows: Iterable[Mapping[str, Any]]) -> tuple[ListFile, bytes]:
    """A list as an object: how a manifest or ledger head names it, and its bytes."""
    written = [
        {**row, **{name: canonical(row[name]).decode() for name in _TEXTS[kind] if row.get(name) is not None}}
        for row in rows
    ]
    later = [field for field in _LATER.get(kind, ()) if any(row.get(field.name) is not None for row in written)]
    payload = records.encode(pa.Table.from_pylist(written, schema=pa.schema([*_SCHEMAS[kind], *later])))
    sha256 = records.sha256(payload)
    return ListFile(layout.version_list(corpus, kind, sha256), len(payload), sha256, len(written)), payload


def read_list(
    store: Store, kind: str, file: ListFile, make: Callable[[Iterator[Document]], T], remedy: Callable[[], str]
) -> T:
    """What ``make`` makes of the rows of a list; an empty one has no object.

    Raises CorruptObject where it is not what names it says, NotFound where it is gone: with the remedy.
    """
    where = f"{store.url}/{file.key}"
    try:
        rows = _rows(second_read(lambda: _bytes(store, file, where)), kind, file) if file.rows else []
        return make(
            Document(
                row
                | {name: _parsed(row[name], f"{where}: row {number}: {name}") for name in _TEXTS[kind] if name in row},
                f"{where}: row {number}",
            )
            for number, row in enumerate(rows)
        )
    except NotFound as error:
        raise NotFound(f"{error}; {remedy()}") from None
    except CorruptShard as error:
        finding = str(error).removeprefix(f"{where}: ")
        raise CorruptObject(f"{where}: {finding}; {remedy()}", file.key) from error


def read_parts(store: Store, corpus: str, file: ListFile, remedy: Callable[[], str]) -> tuple[Part, ...]:
    """The raw parts in a list of a corpus. Raises as ``read_list``."""

    def make(rows: Iterator[Document]) -> tuple[Part, ...]:
        parts = tuple(map(Part.from_document, rows))
        names.check_parts(corpus, parts, f"{store.url}/{file.key}")
        return parts

    return read_list(store, PARTS, file, make, remedy)


def _rows(payload: bytes, kind: str, file: ListFile) -> list[dict[str, Any]]:  # Any: Parquet's values
    schema, later = _SCHEMAS[kind], _LATER.get(kind, pa.schema([]))
    table = records.decode(payload, columns=[*schema.names, *later.names], rows=file.rows)
    Kind(schema, {field.name: field.type for field in later}).check(table)
    rows: list[dict[str, Any]] = table.to_pylist()
    return [
        {name: value for name, value in row.items() if value is not None or name not in later.names} for row in rows
    ]


def _bytes(store: Store, file: ListFile, where: str) -> bytes:
    if file.size > _MAX_SIZE:
        raise CorruptShard(f"{where}: {file.size:,} bytes, expected at most {_MAX_SIZE:,}")
    payload = store.read(file.key, size=file.size + 1)
    if len(payload) != file.size:
        raise CorruptShard(f"{where}: {len(payload)} bytes or more, expected {file.size}")
    if (actual := records.sha256(payload)) != file.sha256:
        raise CorruptShard(f"{where}: sha256 {actual[:12]}, expected {file.sha256[:12]}")
    return payload


def _parsed(text: object, where: str) -> object:
    try:
        return json.loads(text if isinstance(text, str) else "")
    except (ValueError, RecursionError) as error:
        raise CorruptShard(f"{where}: not JSON ({error})") from error
