"""Samples as WebDataset tars: written the same byte for byte each time, read with every byte accounted for."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.tar import END, header, padding
from stoker.storage.shards.tar_headers import BadTar, members_of

RECORD = "json"  # the member that holds a sample's record; it comes last
_HELD = 2**20  # bytes of small pieces that are written together
_DIRECT = 2**18  # bytes of a region that is written as it is: from here on a copy costs more than a call


class Member(NamedTuple):
    """A field's bytes in a tar."""

    extension: str
    offset: int  # of the payload's first byte
    size: int  # bytes


class Placed(NamedTuple):
    """Where a sample lies in a tar: its members, headers and padding fill the bytes [start, stop)."""

    key: str
    start: int
    stop: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Tar:
    """What was written."""

    samples: int
    size: int  # bytes
    sha256: str


def region(sample: Sample) -> tuple[bytes, tuple[Member, ...]]:
    """The sample's bytes in a tar and its members, their offsets counted from the region's start.

    Fields in order of their extensions, then the record. Raises ValueError for a record that is no JSON.
    """
    pieces, members, _ = _laid_out(sample, 0)
    return b"".join(pieces), members


def record_json(sample: Sample) -> bytes:
    """The sample's record with its key, as JSON in its one canonical form.

    >>> record_json(Sample("a", {}, {"title": "Å", "label": 3}))
    b'{"key":"a","label":3,"title":"\\xc3\\x85"}'
    """
    record = {**sample.record, "key": sample.key}
    try:
        text = _canonical(record)
    except ValueError:  # JSON has no NaN and no infinity
        text = _canonical(_without_nan(record))
    except TypeError as error:
        raise ValueError(f"sample {sample.key}: its record is no JSON: {error}") from error
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes its JSON escape


class TarWriter:
    """Writes samples to a file, hashing on the way; memory holds a megabyte, or one sample if that is larger.

    Used as a context manager. Without ``close``, or after an exception, the file is no whole tar.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._samples = 0
        self._at = 0
        self._pieces: list[bytes] = []  # not written yet: the bytes from ``_written`` to ``_at``
        self._written = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, sample: Sample) -> Placed:
        """Append a sample."""
        start = self._at
        pieces, members, self._at = _laid_out(sample, start)
        self._pieces += pieces
        if self._at - self._written >= _HELD:
            self._flush()
        self._samples += 1
        return Placed(sample.key, start, self._at, members)

    def copy(self, key: str, payload: bytes | memoryview, members: Sequence[Member]) -> Placed:
        """Append a region as it is; the members' offsets are counted from its start."""
        start = self._at
        self.append(payload)
        moved = tuple(Member(one.extension, start + one.offset, one.size) for one in members)
        return Placed(key, start, self._at, moved)

    def append(self, region: bytes | memoryview) -> None:
        """Append a sample's region as it is, for those who know what is in it."""
        size = len(region)
        if size % 512:
            raise ValueError(f"a region of {size} bytes, expected a multiple of 512")
        self._at += size
        if size < _DIRECT:
            self._pieces.append(bytes(region))
            if self._at - self._written >= _HELD:
                self._flush()
        else:
            self._flush()
            self._put(region)
        self._samples += 1

    def close(self) -> Tar:
        """End the tar."""
        self._pieces.append(END)
        self._at += len(END)
        self._flush()
        self._file.close()
        return Tar(self._samples, self._at, self._hash.hexdigest())

    def _flush(self) -> None:
        """Small pieces are hashed and written together: a call for each would cost more than its bytes."""
        if self._pieces:
            whole = b"".join(self._pieces)
            self._pieces.clear()
            self._put(whole)

    def _put(self, payload: bytes | memoryview) -> None:
        self._hash.update(payload)
        self._written += len(payload)
        left = memoryview(payload)
        while left:
            left = left[self._file.write(left) :]


def _laid_out(sample: Sample, start: int) -> tuple[list[bytes], tuple[Member, ...], int]:
    """The pieces of a sample whose region begins at ``start``, its members, and where it stops."""
    pieces: list[bytes] = []
    members: list[Member] = []
    key, at = sample.key, start
    for extension, payload in (*sorted(sample.fields.items()), (RECORD, record_json(sample))):
        size = len(payload)
        pieces += (header(f"{key}.{extension}", size), payload, padding(size))
        members.append(Member(extension, at + 512, size))
        at += 512 + size + -size % 512
    return pieces, tuple(members), at


def samples_of(payload: bytes | memoryview) -> Iterator[Sample]:
    """The samples of a WebDataset tar, in order. Raises CorruptShard saying at which byte.

    Members of one sample follow each other, as WebDataset wants it; a ``json`` member is the record.
    """
    view = memoryview(payload)
    for key, members in groups_of(view):
        fields = {one.extension: bytes(view[one.offset : one.offset + one.size]) for one in members}
        record = fields.pop(RECORD, None)
        try:
            yield Sample(key, fields, {} if record is None else parse_record(record, members[-1].offset))
        except ValueError as error:
            raise CorruptShard(f"at byte {members[0].offset}: {error}") from error


def groups_of(payload: bytes | memoryview) -> Iterator[tuple[str, tuple[Member, ...]]]:
    """The key and the members of each sample in a tar, in order. Raises CorruptShard saying at which byte."""
    view = memoryview(payload)
    key = ""
    members: list[Member] = []
    try:
        for name, offset, size in members_of(view):
            folder, slash, base = name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not dot or not stem:
                continue  # no sample's: WebDataset leaves it out too
            own = folder + slash + stem
            if own != key and members:
                yield key, tuple(members)
                members = []
            key = own
            if any(one.extension == extension.lower() for one in members):
                raise CorruptShard(f"at byte {offset}: sample {key!r} has two members {extension!r}")
            members.append(Member(extension.lower(), offset, size))
    except BadTar as error:
        raise CorruptShard(str(error)) from error
    if members:
        yield key, tuple(members)


def parse_record(payload: bytes | memoryview, offset: int = 0) -> dict[str, Any]:  # Any: JSON values
    """The record in a ``json`` member, without its key. Raises CorruptShard."""
    try:
        record = json.loads(bytes(payload))
    except ValueError as error:
        raise CorruptShard(f"at byte {offset}: a record that is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise CorruptShard(f"at byte {offset}: a record that is {type(record).__name__}, expected a JSON object")
    record.pop("key", None)
    return record


def record_of(payload: bytes | memoryview, key: str) -> dict[str, Any] | None:  # Any: JSON values
    """The record in a ``json`` member of a tar by whomever, without the sample's own key; None if it is no JSON object.

    >>> record_of(b'{"key": "a", "label": 3}', "a"), record_of(b'[1]', "a")
    ({'label': 3}, None)
    """
    try:
        record = json.loads(bytes(payload))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if record.get("key") == key:
        del record["key"]
    return record


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _without_nan(value: Any) -> Any:  # Any: JSON values
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return value
