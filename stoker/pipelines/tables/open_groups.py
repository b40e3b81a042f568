"""Row groups of Parquet files that stay open between partitions, so that each is decoded once and not once a partition.

A row group can only be decoded from its beginning. Partitions of one that follow each other go on where the one before
ended. Price: up to ``_MAX_OPEN`` files stay open, with some megabytes each; partitions that are read in several
processes or threads decode a group once in each of them.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_MAX_OPEN = 8


@dataclass(eq=False)
class OpenGroup:
    """A row group that is read up to a row; used by one reader at a time."""

    key: tuple[object, ...]
    file: pq.ParquetFile
    batches: Iterator[pa.RecordBatch]
    row: int  # of the group, where the next batch begins
    batch: pa.RecordBatch | None = None  # the next one, if it is decoded already

    def next_batch(self) -> pa.RecordBatch | None:
        """The batch that begins at ``row``, which it stays until ``advance``; None behind the last."""
        if self.batch is None:
            self.batch = next(self.batches, None)
        return self.batch

    def advance(self) -> None:
        """Go on behind the batch."""
        self.row += self.batch.num_rows if self.batch is not None else 0
        self.batch = None


_idle: list[OpenGroup] = []  # the least recently used first
_lock = threading.Lock()


def group_key(path: Path, group: int, names: Sequence[str]) -> tuple[object, ...]:
    """What a row group is known by, as long as its file does not change."""
    status = path.stat()
    return (os.getpid(), str(path), status.st_ino, status.st_size, status.st_mtime_ns, group, *names)


def take(key: tuple[object, ...], row: int) -> OpenGroup | None:
    """The open group that is nearest before a row, which is now the caller's; None if there is none."""
    with _lock:
        found = max((one for one in _idle if one.key == key and one.row <= row), key=lambda one: one.row, default=None)
        if found is not None:
            _idle.remove(found)
        return found


def give_back(group: OpenGroup) -> None:
    """Keep a group open for the next reader."""
    with _lock:
        _idle.append(group)
        closed = [_idle.pop(0) for _ in range(len(_idle) - _MAX_OPEN)]
    for one in closed:
        one.file.close()


def _forget() -> None:
    """In a forked process: the lock may be held by a thread that is not there, and the readers are the parent's."""
    global _lock, _idle
    _lock, _idle = threading.Lock(), []


os.register_at_fork(after_in_child=_forget)
