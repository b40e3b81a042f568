"""Reading and writing samples as WebDataset tars. Writing is deterministic: the same samples give the same bytes."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.row_checksum import crc32c
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.tar import END, header, padding
from stoker.storage.shards.tar_headers import BadTar, iter_files

RECORD = "json"  # the member that holds a sample's record; it comes last
_BUFFER = 2**20  # bytes of small chunks that are written with one call
_SMALL = 2**13  # bytes to which a sample's chunks are joined: a copy costs less than a call for each checksum
_DIRECT = 2**18  # bytes from which encoded samples are written without the buffer: a copy costs more than a call


class Member(NamedTuple):
    """A field's bytes in a tar."""

    extension: str
    offset: int  # of the payload's first byte
    size: int  # bytes


class SampleSpan(NamedTuple):
    """A sample's byte range in a tar: its members, with headers and padding, are the bytes [start, stop)."""

    key: str
    start: int
    stop: int
    members: tuple[Member, ...]
    crc32c: int | None  # of these bytes; None: in a table that an older release wrote

    def agrees(self, other: "SampleSpan") -> bool:
        """Whether both say the same, as far as both know it."""
        checksums = {self.crc32c, other.crc32c} - {None}
        return self[:4] == other[:4] and len(checksums) < 2


@dataclass(frozen=True, slots=True)
class TarSummary:
    """Size and checksum of a tar that was written."""

    samples: int
    size: int  # bytes
    sha256: str


def encode_sample(sample: Sample) -> tuple[bytes, tuple[Member, ...]]:
    """The sample's bytes in a tar, and its members with offsets from the start of these bytes.

    Fields come in order of their extensions, then the record. Raises ValueError for a record that is not JSON.
    """
    chunks, members, _ = _encode(sample, 0)
    return b"".join(chunks), members


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
    """Writes samples to a tar file and computes its SHA-256. Memory: a megabyte, or the largest sample.

    A context manager. ``close`` completes the tar; without it the file is incomplete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._samples = 0
        self._size = 0  # bytes of the tar so far, with those in the buffer
        self._chunks: list[bytes] = []  # the buffer: the bytes from ``_written`` to ``_size``
        self._written = 0  # bytes

    def __enter__(self) -> Self:
        self._file = self.path.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, sample: Sample) -> SampleSpan:
        """Append a sample."""
        start = self._size
        chunks, members, self._size = _encode(sample, start)
        if self._size - start <= _SMALL:
            chunks = [b"".join(chunks)]
        self._chunks += chunks
        checksum = 0
        for chunk in chunks:
            checksum = crc32c(chunk, checksum)
        if self._size - self._written >= _BUFFER:
            self._flush()
        self._samples += 1
        return SampleSpan(sample.key, start, self._size, members, checksum)

    def add_encoded(self, key: str, encoded: bytes | memoryview, members: Sequence[Member]) -> SampleSpan:
        """Append what ``encode_sample`` returned; the members' offsets are from its start."""
        start = self._size
        checksum = self.add_bytes(encoded)
        moved = tuple(Member(member.extension, start + member.offset, member.size) for member in members)
        return SampleSpan(key, start, self._size, moved, checksum)

    def add_bytes(self, encoded: bytes | memoryview) -> int:
        """Append an encoded sample whose members the caller knows; its CRC-32C.

        Raises ValueError for a part of a tar block.
        """
        size = len(encoded)
        if size % 512:
            raise ValueError(f"an encoded sample of {size} bytes, expected a multiple of 512")
        self._size += size
        if size < _DIRECT:
            self._chunks.append(bytes(encoded))
            if self._size - self._written >= _BUFFER:
                self._flush()
        else:
            self._flush()
            self._put(encoded)
        self._samples += 1
        return crc32c(encoded)

    def add_region(self, chunks: Iterable[bytes], *, samples: int) -> None:
        """Append the bytes of ``samples`` encoded samples, as they were in another tar."""
        self._flush()
        for chunk in chunks:
            self._put(chunk)
            self._size += len(chunk)
        self._samples += samples

    def flush(self) -> int:
        """The size of the file in bytes, with all samples so far."""
        self._flush()
        return self._size

    def close(self) -> TarSummary:
        """Write the end of the tar and close the file."""
        self._chunks.append(END)
        self._size += len(END)
        self._flush()
        self._file.close()
        return TarSummary(self._samples, self._size, self._hash.hexdigest())

    def _flush(self) -> None:
        """Hash and write the buffer with one call: a call for each small chunk would cost more than its bytes."""
        if self._chunks:
            buffered = b"".join(self._chunks)
            self._chunks.clear()
            self._put(buffered)

    def _put(self, payload: bytes | memoryview) -> None:
        self._hash.update(payload)
        self._written += len(payload)
        left = memoryview(payload)
        while left:
            left = left[self._file.write(left) :]


def _encode(sample: Sample, start: int) -> tuple[list[bytes], tuple[Member, ...], int]:
    """The bytes of a sample that begins at offset ``start`` of a tar, its members, and the offset behind it."""
    chunks: list[bytes] = []
    members: list[Member] = []
    key, offset = sample.key, start
    for extension, payload in (*sorted(sample.fields.items()), (RECORD, record_json(sample))):
        size = len(payload)
        chunks += (header(f"{key}.{extension}", size), payload, padding(size))
        members.append(Member(extension, offset + 512, size))
        offset += 512 + size + -size % 512
    return chunks, tuple(members), offset


def iter_samples(payload: bytes | memoryview) -> Iterator[Sample]:
    """The samples of a WebDataset tar, in order. Raises CorruptShard naming the byte.

    The members of a sample follow each other, as in WebDataset; a ``json`` member is the record.
    """
    view = memoryview(payload)
    for key, members in iter_sample_members(view):
        fields = {name: bytes(view[offset : offset + size]) for name, offset, size in members}
        record = fields.pop(RECORD, None)
        try:
            yield Sample(key, fields, {} if record is None else parse_record(record, members[-1].offset))
        except ValueError as error:
            raise CorruptShard(f"at byte {members[0].offset}: {error}") from error


def iter_sample_members(payload: bytes | memoryview) -> Iterator[tuple[str, tuple[Member, ...]]]:
    """The key and the members of each sample in a tar, in order. Raises CorruptShard naming the byte."""
    view = memoryview(payload)
    key = ""
    members: list[Member] = []
    try:
        for name, offset, size in iter_files(view):
            folder, slash, base = name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not dot or not stem:
                continue  # not part of a sample; WebDataset skips it too
            sample_key = folder + slash + stem
            if sample_key != key and members:
                yield key, tuple(members)
                members = []
            key = sample_key
            if any(member.extension == extension.lower() for member in members):
                raise CorruptShard(f"at byte {offset}: sample {key!r} has two members {extension!r}")
            members.append(Member(extension.lower(), offset, size))
    except BadTar as error:
        raise CorruptShard(str(error)) from error
    if members:
        yield key, tuple(members)


def iter_spans(payload: bytes | memoryview) -> Iterator[SampleSpan]:
    """Where each sample of a tar that Stoker wrote lies, with its checksum. Raises CorruptShard naming the byte."""
    view = memoryview(payload)
    for key, members in iter_sample_members(view):
        last = members[-1]
        start, stop = members[0].offset - 512, last.offset + last.size + -last.size % 512
        yield SampleSpan(key, start, stop, members, crc32c(view[start:stop]))


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


def parse_external_record(payload: bytes | memoryview, key: str) -> dict[str, Any] | None:  # Any: JSON values
    """The record in a ``json`` member of an external tar, without the sample's key; None if it is not a JSON object.

    >>> parse_external_record(b'{"key": "a", "label": 3}', "a"), parse_external_record(b'[1]', "a")
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
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return value
