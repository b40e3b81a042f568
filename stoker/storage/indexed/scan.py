"""Reads an external tar once from end to end: the index of its samples, and its checksum."""

import hashlib
import itertools
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from stoker.storage.errors import CorruptShard, StorageRefused
from stoker.storage.indexed.cut_tars import why_cut
from stoker.storage.indexed.record_values import MAX_NESTED, MAX_TEXT, column, group_text, is_short, nested_text
from stoker.storage.shards import records
from stoker.storage.shards.row_checksum import MEMBERS_CRC32C, crc32c, members_crc32c
from stoker.storage.shards.shard import RECORD
from stoker.storage.shards.tar_headers import BadTar, Foreign, TarHeaderParser
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.strict_json import RepeatedName, parse_json

CHUNK = 8 * 2**20  # bytes read at a time
LABEL = "cls"  # the member that holds a class
GROUP = "group"  # the value of a record that says which samples belong together
_MAX_FIELDS = 256  # of one tar; an index has an array of offsets for each
_MAX_COLUMNS = 32  # taken from records
_MAX_LOSSES = 1000  # of one tar that are listed
_MAX_LINKS = 8  # links to links
_MAX_NAMED = 8  # columns that a note names
_MAX_READ = {RECORD: 64 * 2**10, LABEL: 64}  # bytes of the members whose content is read
_RESERVED = frozenset({*records.FIXED, MEMBERS_CRC32C, "split", "part", "size", "fields"} - {GROUP})
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_NAME_LAST = re.compile(r"^((?:.*/|)[^/]+)[.]([^/.]*)$")
_VERSION_LIKE = re.compile(r"[^.]*[0-9][^.]*[.]")
_META = re.compile(r"__[^/]*__($|/)")


@dataclass(frozen=True, eq=False)
class Scanned:
    """The result of ``scan``."""

    sha256: str
    index: pa.Table  # one row per sample, in the tar's order
    repeated: int  # samples whose key was in this tar before
    left_out: int  # files that belong to no sample
    losses: tuple[str, ...] = ()  # what could not be read, and why; with the byte where it is
    notes: tuple[str, ...] = ()
    damage: str = ""  # where reading ended before the tar did, and why


def key_of(name: str, rule: str = "first") -> tuple[str, str] | None:
    """Key and extension of a member's name by WebDataset's rule: split at the first dot after the folders.

    With the rule "last" at the last dot, for names such as ``img.v1.0.jpg``.

    Source: ``base_plus_ext`` and ``skip_meta`` of webdataset.tariterators, which `datasets` has too.

    >>> key_of("a.b/0001.seg.PNG"), key_of("README"), key_of("__meta__/0001.txt")
    (('a.b/0001', 'seg.png'), None, None)
    >>> key_of("img.v1.0.jpg"), key_of("img.v1.0.jpg", "last")
    (('img', 'v1.0.jpg'), ('img.v1.0', 'jpg'))
    """
    if _META.match(name) or (name.startswith("__") and name.endswith("__") and "/" not in name):
        return None
    match = (_NAME if rule == "first" else _NAME_LAST).match(name)
    return None if match is None else (match[1], match[2].lower())


def scan(
    store: Store,
    tar: StoredObject,
    *,
    read: Callable[[int], bool] = lambda size: True,
    rule: str = "first",
    damaged: bool = False,
    keep_cut: bool = False,
) -> Scanned | None:
    """Read a tar once, in constant memory beside the index. Raises CorruptShard naming the tar and the byte.

    Args:
        store: where the tar is.
        tar: its name and size.
        read: called with the size of each chunk read, in bytes; None is returned as soon as it returns False.
        rule: where keys end, see ``key_of``.
        damaged: the samples before a damage are the result, instead of an error.
        keep_cut: keep the last sample of a tar that was cut between members, as older releases did.
    """
    where = f"{store.url}/{tar.key}"
    foreign = Foreign()
    parser, samples, digest = TarHeaderParser(tar.size, foreign), _IndexBuilder(where, rule, foreign), hashlib.sha256()
    offset, damage = 0, ""
    try:
        while offset < tar.size:
            chunk = store.read(tar.key, start=offset, size=min(CHUNK, tar.size - offset))
            if not chunk:
                raise CorruptShard(
                    f"{where}: ends at byte {offset}, but was listed with {tar.size}; is it being written?"
                )
            digest.update(chunk)
            try:
                for name, payload_offset, size in () if damage else parser.feed(chunk):
                    samples.add_links()
                    samples.add(name, payload_offset, size)
            except BadTar as error:
                if not damaged:
                    raise
                damage = str(error)
            samples.read_payloads(chunk, offset)
            samples.read_metadata(chunk, offset)
            offset += len(chunk)
            if not read(len(chunk)):
                return None
        if not damage:
            parser.end()
    except BadTar as error:
        if not damaged:
            raise CorruptShard(f"{where}: {error}") from error
        damage = str(error)
    samples.add_links()
    if damage:
        samples.drop_last("the last before the damage, it may lack members", tar.size)
    elif foreign.is_open and not keep_cut:
        samples.drop_cut(tar.size)
    samples.resolve_links()
    losses = samples.losses + [f"at byte {at}: {name[:100]!r}: {why}" for at, name, why in foreign.left_out]
    return Scanned(
        digest.hexdigest(),
        samples.table(),
        samples.repeated,
        samples.left_out,
        tuple(losses[:_MAX_LOSSES] + [f"and {len(losses) - _MAX_LOSSES:,} more"] * (len(losses) > _MAX_LOSSES)),
        (*foreign.notes, *samples.notes()),
        damage,
    )


@dataclass
class _IndexBuilder:
    """Collects the columns of an index while a tar is read."""

    where: str
    rule: str
    foreign: Foreign
    losses: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)  # position of each sample's first member in the four lists below
    extensions: list[str] = field(default_factory=list)  # of all members
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)  # CRC-32C of their payloads, as far as these were read
    columns: dict[str, dict[int, Any]] = field(default_factory=dict)  # Any: JSON scalars by row
    labels: dict[int, str] = field(default_factory=dict)  # from members called "cls"
    repeated: int = 0
    left_out: int = 0
    unindexed: Counter[str] = field(default_factory=Counter)  # values of records that are in the tar alone, by name
    _version_like: str = ""  # the first name whose field looks like a part of a key
    _raw_keys: list[str] = field(default_factory=list)  # of each sample, without the number that makes it unique
    _links: list[tuple[int, str, str]] = field(default_factory=list)  # member's position, its name, its target
    _complete: int = 0  # members whose checksum is complete: the first ones
    _key: str | None = None  # of the last sample, as in the tar
    _sample_fields: set[str] = field(default_factory=set)  # extensions of the last sample
    _seen: dict[str, int] = field(default_factory=dict)  # key → how often it came
    _fields: set[str] = field(default_factory=set)  # extensions of all samples
    # Members whose content is read and not complete yet: row, extension, offset, bytes read so far, size.
    _pending_members: deque[tuple[int, str, int, bytearray, int]] = field(default_factory=deque)

    def add(self, name: str, offset: int, size: int) -> None:
        """Add a file of the tar: its name, payload offset and size."""
        key_and_extension = key_of(name, self.rule)
        if key_and_extension is None:
            self.left_out += 1
            return
        key, extension = key_and_extension
        if not self._version_like and _VERSION_LIKE.match(extension):
            self._version_like = name
        if key != self._key:
            self._key = key
            self._sample_fields = set()
            self.keys.append(self._unique(key))
            self._raw_keys.append(key)
            self.starts.append(offset - 512)  # with the header of the member
            self.stops.append(0)
            self.firsts.append(len(self.extensions))
        if extension in self._sample_fields:
            self.losses.append(
                f"at byte {offset - 512}: {name[:100]!r}: sample {key[:60]!r} has a {extension!r} already"
            )
            return
        self._sample_fields.add(extension)
        self._fields.add(extension)
        if len(self._fields) > _MAX_FIELDS:
            raise StorageRefused(
                f"{self.where}: more than {_MAX_FIELDS} different fields, the last one {extension[:60]!r} of "
                f"{key[:60]!r}: a key ends at the first dot of a name; `--key last` ends it at the last one"
            )
        self.stops[-1] = offset + size + -size % 512
        self.extensions.append(extension)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.checksums.append(0)
        if size <= _MAX_READ.get(extension, -1):
            self._pending_members.append((len(self.keys) - 1, extension, offset, bytearray(), size))

    def add_links(self) -> None:
        """Add the links that the parser has found since the last call, as members whose place is not known yet."""
        for at, name, target in self.foreign.links:
            before = len(self.extensions)
            self.add(name, at + 512, 0)
            if len(self.extensions) > before:
                self._links.append((before, name, target))
                if self._pending_members and self._pending_members[-1][2] == at + 512:
                    self._pending_members.pop()  # its content lies elsewhere
        self.foreign.links.clear()

    def resolve_links(self) -> None:
        """Give links the bytes that they stand for; those of which there are none are left out."""
        if not self._links:
            return
        ends = [*self.firsts[1:], len(self.extensions)]
        row_of = [row for row, (a, b) in enumerate(zip(self.firsts, ends, strict=True)) for _ in range(a, b)]
        targets = {position: target for position, _, target in self._links}
        by_name = {(self._raw_keys[row_of[at]], self.extensions[at]): at for at in range(len(self.extensions))}
        lost: set[int] = set()
        for position, name, target in self._links:
            at, name_of_target = position, target
            for _ in range(_MAX_LINKS):
                key = key_of(name_of_target, self.rule)
                at = -1 if key is None else by_name.get(key, -1)
                if at not in targets:
                    break
                name_of_target = targets[at]
            if at < 0 or at in targets:
                self.losses.append(f"{name[:100]!r}: a link to {target[:100]!r}, which is no member of a sample here")
                lost.add(position)
                continue
            row = row_of[position]
            self.offsets[position], self.sizes[position] = self.offsets[at], self.sizes[at]
            self.checksums[position] = self.checksums[at]
            self.starts[row] = min(self.starts[row], self.offsets[at] - 512)
            self.stops[row] = max(self.stops[row], self.offsets[at] + self.sizes[at] + -self.sizes[at] % 512)
            self._copy_metadata(row_of[at], row, self.extensions[position])
        self._remove(lost)

    def _copy_metadata(self, source: int, row: int, extension: str) -> None:
        if extension == LABEL and source in self.labels:
            self.labels[row] = self.labels[source]
        elif extension == RECORD:
            for values in self.columns.values():
                if source in values:
                    values[row] = values[source]

    def _remove(self, lost: set[int]) -> None:
        """Remove members, and the samples that have no other."""
        if not lost:
            return
        ends = [*self.firsts[1:], len(self.extensions)]
        members = [[at for at in range(a, b) if at not in lost] for a, b in zip(self.firsts, ends, strict=True)]
        rows = [row for row, of_row in enumerate(members) if of_row]
        kept = [at for row in rows for at in members[row]]
        self.extensions = [self.extensions[at] for at in kept]
        self.offsets = [self.offsets[at] for at in kept]
        self.sizes = [self.sizes[at] for at in kept]
        self.checksums = [self.checksums[at] for at in kept]
        counts = [len(members[row]) for row in rows]
        self.firsts = list(itertools.accumulate(counts, initial=0))[:-1]
        self.keys = [self.keys[row] for row in rows]
        self._raw_keys = [self._raw_keys[row] for row in rows]
        self.starts, self.stops = [self.starts[row] for row in rows], [self.stops[row] for row in rows]
        new_row = {row: number for number, row in enumerate(rows)}
        self.labels = {new_row[row]: label for row, label in self.labels.items() if row in new_row}
        for name, values in self.columns.items():
            self.columns[name] = {new_row[row]: value for row, value in values.items() if row in new_row}

    def drop_cut(self, size: int) -> None:
        """Leave out the last sample of a tar without an end mark, if others have more members."""
        ends = [*self.firsts[1:], len(self.extensions)]
        why = why_cut([frozenset(self.extensions[a:b]) for a, b in zip(self.firsts, ends, strict=bool(self.firsts))])
        if why:
            self.drop_last(why, size)

    def drop_last(self, why: str, size: int) -> None:
        """Leave out the last sample, which may lack members; nothing reaches behind the tar's end."""
        if self.keys:
            self.losses.append(f"sample {self.keys[-1][:100]!r}: {why}")
            first = self.firsts[-1]
            self._links = [link for link in self._links if link[0] < first]
            self._pending_members.clear()
            self._remove(set(range(first, len(self.extensions))))
        self.stops = [min(stop, size) for stop in self.stops]

    def notes(self) -> list[str]:
        """What a user should know of the names, and of what records say."""
        said = []
        if self._version_like:
            key, extension = key_of(self._version_like, self.rule) or ("", "")
            said.append(
                f"{self._version_like[:100]!r} is the field {extension[:60]!r} of sample {key[:60]!r}, as in "
                "WebDataset: a key ends at the first dot; `--key last` ends it at the last one"
            )
        if self.unindexed:
            named = sorted(self.unindexed, key=lambda name: (-self.unindexed[name], name))
            names = [f"{name[:60]!r} ({self.unindexed[name]:,})" for name in named[:_MAX_NAMED]]
            more = f" and {len(named) - _MAX_NAMED:,} more" if len(named) > _MAX_NAMED else ""
            said.append(
                f"values in {RECORD} that are in the tar alone, and no column of the index: {', '.join(names)}{more}; "
                f"over {MAX_TEXT} characters, of a list or an object over {MAX_NESTED:,}, beyond {_MAX_COLUMNS} "
                "columns, or under a name that the index has already"
            )
        return said

    def read_payloads(self, chunk: bytes, chunk_offset: int) -> None:
        """Go on with the checksums of members whose payloads lie in a chunk of the tar."""
        view, end = memoryview(chunk), chunk_offset + len(chunk)
        while self._complete < len(self.offsets):
            start = self.offsets[self._complete]
            stop = start + self.sizes[self._complete]
            piece = view[max(0, start - chunk_offset) : max(0, stop - chunk_offset)]
            self.checksums[self._complete] = crc32c(piece, self.checksums[self._complete])
            if stop > end:
                return
            self._complete += 1

    def read_metadata(self, chunk: bytes, chunk_offset: int) -> None:
        """Take records and classes from a chunk of the tar."""
        while self._pending_members:
            row, extension, offset, content, size = self._pending_members[0]
            first = offset + len(content) - chunk_offset
            content += chunk[max(0, first) : max(0, first + size - len(content))]
            if len(content) < size:
                return
            self._pending_members.popleft()
            if extension == RECORD:
                self._add_record(row, bytes(content), offset)
            else:
                self._add_label(row, bytes(content))

    def table(self) -> pa.Table:
        """The index: one row per sample."""
        rows = len(self.keys)
        firsts = pa.array([*self.firsts, len(self.extensions)], pa.int32())
        member_fields = list(records.MEMBERS.value_type)  # extension, offset, size
        lists = (self.extensions, self.offsets, self.sizes)
        arrays = [pa.array(values, field.type) for values, field in zip(lists, member_fields, strict=True)]
        members = pa.StructArray.from_arrays(arrays, fields=member_fields)
        ends = [*self.firsts[1:], len(self.extensions)]
        spans = list(zip(self.firsts, ends, strict=True)) if rows else []
        columns = {
            "key": pa.array(self.keys, pa.string()),
            "start": pa.array(self.starts, pa.int64()),
            "stop": pa.array(self.stops, pa.int64()),
            "members": pa.ListArray.from_arrays(firsts, members, type=records.MEMBERS),
            MEMBERS_CRC32C: pa.array([self._checksum(a, b) for a, b in spans], pa.uint32()),
            "size": pa.array([sum(self.sizes[a:b]) for a, b in spans], pa.int64()),
            "fields": pa.array([" ".join(sorted(self.extensions[a:b])) for a, b in spans], pa.string()),
        }
        labels = self.labels | self.columns.get("label", {})
        if labels:  # as texts, whatever they are in records: labels are categories, not numbers
            self.columns["label"] = {row: str(label) for row, label in labels.items()}
        if GROUP in self.columns:
            self.columns[GROUP] = {row: group_text(group) for row, group in self.columns[GROUP].items()}
        for name in sorted(self.columns):
            columns[name] = column([self.columns[name].get(row) for row in range(rows)])
        return pa.table(columns)

    def _checksum(self, first: int, end: int) -> int:
        """The checksum of a sample with these members."""
        in_order = sorted(range(first, end), key=self.extensions.__getitem__)
        return members_crc32c(self.checksums[at] for at in in_order)

    def _unique(self, key: str) -> str:
        """The key, with a number if it is repeated. WebDataset reads separated members as two samples."""
        unique = key
        while unique in self._seen:
            self._seen[key] += 1
            unique = f"{key}#{self._seen[key]}"
        self._seen[unique] = 1
        self.repeated += unique != key
        return unique

    def _add_record(self, row: int, payload: bytes, offset: int) -> None:
        try:
            record = parse_json(payload)
        except RepeatedName as error:
            self.losses.append(
                f"at byte {offset}: values in {RECORD} of sample {self.keys[row][:60]!r}: {error}; none is a column"
            )
            return
        except (ValueError, RecursionError):
            return  # an ordinary field, then
        if not isinstance(record, Mapping):
            return
        for name, value in record.items():
            if value is None:
                continue
            scalar = nested_text(value) if isinstance(value, Mapping | list) else value
            is_text = isinstance(value, str) and name != GROUP  # a group may be the URL of a page
            fits = name not in _RESERVED and _COLUMN.fullmatch(name) and is_short(scalar, is_text)
            if fits and (name in self.columns or name == GROUP or len(self.columns) < _MAX_COLUMNS):
                self.columns.setdefault(name, {})[row] = scalar
            elif name in self.unindexed or len(self.unindexed) < _MAX_FIELDS:
                self.unindexed[name] += 1

    def _add_label(self, row: int, payload: bytes) -> None:
        text = payload.decode("utf-8", "replace").strip()
        if text:
            self.labels[row] = text
