"""Partitions: the unit of ingest, retry and parallelism.

They are cut by content-defined chunking, so that a source that grows changes as few partitions as possible. Price: the
length of a partition varies, up to four times the target.
"""

import hashlib
import json
import os
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any, Generic, TypeVar, overload

from stoker.storage.versions.content import checksum_of

T = TypeVar("T")
_TOGETHER = 1024  # rows that are packed together
_LEVEL = 1  # of compression: the fastest
_IN_MEMORY = 2**22  # bytes of packed texts that are kept there


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON value in its one canonical form.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    return checksum_of(value)


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a source that one task reads.

    Args:
        name: unique in its source, and shown to people.
        payload: all that ``Source.read`` needs, as JSON values.
        fingerprint: identifies the input as far as it is known before reading (the SHA-256 of a file, for example).
            When it changes, the partition is read again.
    """

    name: str
    payload: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    fingerprint: str = ""

    def as_json(self) -> dict[str, Any]:  # Any: JSON values
        """The fields by name, not copied."""
        return {"name": self.name, "payload": self.payload, "fingerprint": self.fingerprint}


class PackedTexts(Sequence[bytes]):
    """Compressed texts: in memory while they are few, else in a temporary file without a name.

    Safe to read from many threads, and in processes that are forked from this one. Raises OSError where the folder for
    temporary files takes no more.
    """

    def __init__(self) -> None:
        self._few: list[bytes] = []
        self._bytes = 0  # of ``_few``
        self._ends = array("Q", [0])  # in the file, of each text that is there
        self._file: IO[bytes] | None = None

    def append(self, text: str) -> None:
        """Add a text at the end."""
        packed = zlib.compress(text.encode(), _LEVEL)
        self._few.append(packed)
        self._bytes += len(packed)
        if self._bytes > _IN_MEMORY:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # as long as these texts
            for packed in self._few:
                self._file.write(packed)
                self._ends.append(self._ends[-1] + len(packed))
            self._file.flush()
            self._few, self._bytes = [], 0

    def __len__(self) -> int:
        return len(self._ends) - 1 + len(self._few)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """A text as it was added, encoded."""
        if isinstance(index, slice):
            return list(map(self.__getitem__, range(*index.indices(len(self)))))
        index = range(len(self))[index]
        filed = len(self._ends) - 1
        if index >= filed or self._file is None:
            return zlib.decompress(self._few[index - filed])
        start, stop = self._ends[index], self._ends[index + 1]
        return zlib.decompress(os.pread(self._file.fileno(), stop - start, start))


class PackedRows(Generic[T]):
    """Named tuples of JSON values in little memory, many packed together, in order.

    Args:
        rows: the tuples.
        row: their class.
    """

    def __init__(self, rows: Iterable[T], row: Callable[..., T]) -> None:
        self._row, self._packed, self._length = row, PackedTexts(), 0
        remaining = iter(rows)
        while some := list(islice(remaining, _TOGETHER)):
            self._packed.append(json.dumps(some))
            self._length += len(some)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for text in self._packed:
            for values in json.loads(text):
                yield self._row(*values)


class Partitions(Sequence[Partition]):
    """Partitions in little memory: each is compressed JSON until it is asked for.

    As Python's objects the rows of a list of millions would take gigabytes.

    >>> planned = Partitions([Partition("all", {"count": 3})])
    >>> planned.names, planned[0].payload
    (['all'], {'count': 3})
    """

    def __init__(self, partitions: Iterable[Partition]) -> None:
        self.names: list[str] = []
        self._packed = PackedTexts()
        for partition in partitions:
            self.names.append(partition.name)
            self._packed.append(json.dumps(partition.as_json(), separators=(",", ":")))

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, index: int) -> Partition: ...

    @overload
    def __getitem__(self, index: slice) -> list[Partition]: ...

    def __getitem__(self, index: int | slice) -> Partition | list[Partition]:
        if isinstance(index, slice):
            return list(map(self.__getitem__, range(*index.indices(len(self)))))
        return Partition(**json.loads(self._packed[index]))


def cut(items: Iterable[T], identity: Callable[[T], str], *, target: int) -> Iterator[list[T]]:
    """The items in order, cut into runs of about ``target`` (at most four times that).

    A run ends after an item whose hash of ``identity`` is divisible by ``target``, not after a fixed count. So an item
    added in the middle changes only the run that it falls into: content-defined chunking
    (Muthitacharoen, Chen and Mazieres, "A Low-bandwidth Network File System", SOSP 2001).

    >>> [len(run) for run in cut(range(100), str, target=20)]
    [10, 24, 7, 19, 11, 29]
    """
    run: list[T] = []
    for item in items:
        run.append(item)
        if ends_run(identity(item), len(run), target=target):
            yield run
            run = []
    if run:
        yield run


def ends_run(identity: str, length: int, *, target: int) -> bool:
    """Whether ``cut`` ends a run with the item of this identity, with which the run has this length."""
    # No cut before a quarter of the target: tasks of a few samples cost more to start than to do.
    if length * 4 < target:
        return False
    hashed = int.from_bytes(hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return hashed % target == 0 or length >= 4 * target
