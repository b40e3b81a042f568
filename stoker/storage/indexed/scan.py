"""One tar that somebody else wrote, read once from end to end: where its samples lie, and its checksum."""

import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from stoker.storage.errors import CorruptShard, StorageRefused
from stoker.storage.shards import records
from stoker.storage.shards.shard import RECORD
from stoker.storage.shards.tar_headers import BadTar, TarHeaderParser
from stoker.storage.stores.store import Store, StoredObject

PIECE = 8 * 2**20  # bytes read at a time
LABEL = "cls"  # the member that holds a class
_MOST_FIELDS = 256  # of one tar; an index holds a place for each of them in each sample
_MOST_COLUMNS = 32  # that are taken from records
_LONGEST = 200  # characters of a text that is taken from a record; longer ones stay in the tar alone
_RECORD, _CLASS = 64 * 2**10, 64  # bytes of the members that are looked into, at most
_OWN = frozenset({*records.FIXED, "split", "part", "size", "fields"})
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")


@dataclass(frozen=True, eq=False)
class Scanned:
    """What a tar holds."""

    sha256: str
    index: pa.Table  # a row a sample, in the tar's order
    repeated: int  # samples whose key had come before in this tar
    left_out: int  # files that belong to no sample


def key_of(name: str) -> tuple[str, str] | None:
    """Key and extension in a member's name, by WebDataset's rule: at the first dot behind the folders.

    Source: ``base_plus_ext`` and ``skip_meta`` of webdataset.tariterators, which `datasets` has too.

    >>> key_of("a.b/0001.seg.PNG"), key_of("README"), key_of("__meta__/0001.txt")
    (('a.b/0001', 'seg.png'), None, None)
    """
    if _META.match(name) or (name.startswith("__") and name.endswith("__") and "/" not in name):
        return None
    found = _NAME.match(name)
    return None if found is None else (found[1], found[2].lower())


def scan(store: Store, tar: StoredObject, *, read: Callable[[int], bool] = lambda size: True) -> Scanned | None:
    """Read a tar once, in constant memory. ``read`` is told of each piece's bytes; None as soon as it says False.

    Raises CorruptShard for what WebDataset would not read either, naming the tar and the byte.
    """
    where = f"{store.url}/{tar.key}"
    walker, samples, seen = TarHeaderParser(tar.size), _Samples(where), hashlib.sha256()
    at = 0
    try:
        while at < tar.size:
            piece = store.read(tar.key, start=at, size=min(PIECE, tar.size - at))
            if not piece:
                raise CorruptShard(f"{where}: ends at byte {at}, but was listed with {tar.size}; is it being written?")
            seen.update(piece)
            for name, offset, size in walker.feed(piece):
                samples.add(name, offset, size)
            samples.look(piece, at)
            at += len(piece)
            if not read(len(piece)):
                return None
        walker.end()
    except BadTar as error:
        raise CorruptShard(f"{where}: {error}") from error
    return Scanned(seen.hexdigest(), samples.table(), samples.repeated, samples.left_out)


@dataclass
class _Samples:
    """The samples found so far."""

    where: str
    keys: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)  # of each sample, the place of its first member
    extensions: list[str] = field(default_factory=list)  # of all members
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    columns: dict[str, dict[int, Any]] = field(default_factory=dict)  # Any: JSON scalars by row
    labels: dict[int, str] = field(default_factory=dict)  # from members called "cls"
    repeated: int = 0
    left_out: int = 0
    _key: str | None = None  # of the sample at hand, as the tar has it
    _own: set[str] = field(default_factory=set)  # its extensions
    _seen: dict[str, int] = field(default_factory=dict)
    _fields: set[str] = field(default_factory=set)
    _looked: deque[tuple[int, str, int, bytearray, int]] = field(default_factory=deque)

    def add(self, name: str, offset: int, size: int) -> None:
        found = key_of(name)
        if found is None:
            self.left_out += 1
            return
        key, extension = found
        if key != self._key:
            self._key = key
            self._own = set()
            self.keys.append(self._unique(key))
            self.starts.append(offset - 512)  # with the member's header: a tar is told by it
            self.stops.append(0)
            self.firsts.append(len(self.extensions))
        if extension in self._own:
            raise CorruptShard(
                f"{self.where}: at byte {offset}: sample {key!r} has two members {extension!r}; WebDataset refuses "
                "such a tar too: write it again with one of them"
            )
        self._own.add(extension)
        self._fields.add(extension)
        if len(self._fields) > _MOST_FIELDS:
            raise StorageRefused(
                f"{self.where}: more than {_MOST_FIELDS} different fields, the last one {extension[:60]!r} of "
                f"{key[:60]!r}: a key ends at the first dot of a name; rename the members"
            )
        self.stops[-1] = offset + size + -size % 512
        self.extensions.append(extension)
        self.offsets.append(offset)
        self.sizes.append(size)
        most = {RECORD: _RECORD, LABEL: _CLASS}.get(extension, -1)
        if size <= most:
            self._looked.append((len(self.keys) - 1, extension, offset, bytearray(), size))

    def look(self, piece: bytes, at: int) -> None:
        """Take what the piece holds of records and classes."""
        while self._looked:
            row, extension, offset, held, size = self._looked[0]
            first = offset + len(held) - at
            held += piece[max(0, first) : max(0, first + size - len(held))]
            if len(held) < size:
                return
            self._looked.popleft()
            if extension == RECORD:
                self._record(row, bytes(held))
            else:
                self._label(row, bytes(held))

    def table(self) -> pa.Table:
        """The index: a row a sample."""
        rows = len(self.keys)
        firsts = pa.array([*self.firsts, len(self.extensions)], pa.int32())
        kinds = [records.MEMBERS.value_type.field(name).type for name in ("extension", "offset", "size")]
        parts = [
            pa.array(one, kind) for one, kind in zip((self.extensions, self.offsets, self.sizes), kinds, strict=True)
        ]
        members = pa.StructArray.from_arrays(parts, fields=list(records.MEMBERS.value_type))
        ends = [*self.firsts[1:], len(self.extensions)]
        spans = list(zip(self.firsts, ends, strict=True)) if rows else []
        found = {
            "key": pa.array(self.keys, pa.string()),
            "start": pa.array(self.starts, pa.int64()),
            "stop": pa.array(self.stops, pa.int64()),
            "members": pa.ListArray.from_arrays(firsts, members, type=records.MEMBERS),
            "size": pa.array([sum(self.sizes[a:b]) for a, b in spans], pa.int64()),
            "fields": pa.array([" ".join(sorted(self.extensions[a:b])) for a, b in spans], pa.string()),
        }
        labels = self.labels | self.columns.get("label", {})
        if labels:  # texts, whatever they are in records: classes are told apart, not measured
            self.columns["label"] = {row: str(label) for row, label in labels.items()}
        for name in sorted(self.columns):
            found[name] = _column([self.columns[name].get(row) for row in range(rows)])
        return pa.table(found)

    def _unique(self, key: str) -> str:
        """The key, or one made of it: members that are apart are two samples to WebDataset, with one key."""
        named = key
        while named in self._seen:
            self._seen[key] += 1
            named = f"{key}#{self._seen[key]}"
        self._seen[named] = 1
        self.repeated += named != key
        return named

    def _record(self, row: int, payload: bytes) -> None:
        try:
            record = json.loads(payload)
        except (ValueError, RecursionError):
            return  # a field like any other; the stream gives its bytes
        if not isinstance(record, Mapping):
            return
        for name, value in record.items():
            if name in _OWN or not _COLUMN.fullmatch(name) or not _is_short(value):
                continue
            if name not in self.columns and len(self.columns) >= _MOST_COLUMNS:
                continue
            self.columns.setdefault(name, {})[row] = value

    def _label(self, row: int, payload: bytes) -> None:
        text = payload.decode("utf-8", "replace").strip()
        if text:
            self.labels[row] = text


def _is_short(value: object) -> bool:
    """Whether a column may hold it: a flag, a number or a text of one line or so."""
    if isinstance(value, str):
        return len(value) <= _LONGEST
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _column(values: Iterable[Any]) -> pa.Array:  # Any: JSON scalars
    given = list(values)
    try:
        return pa.array(given)
    except (pa.ArrowException, UnicodeEncodeError):  # flags among numbers, numbers among texts, half a surrogate pair
        texts = [None if one is None else str(one).encode("utf-8", "replace").decode() for one in given]
        return pa.array(texts, pa.string())
