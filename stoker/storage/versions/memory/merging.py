"""Sorted files of many rows merged into one, with a row group of each in memory.

Price: all files are read and one is written, so a delta that is merged costs the time of the base. They are merged when
they are many, not every time.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from stoker.storage.versions.memory.sealed_parquet import SealedReader
from stoker.storage.versions.memory.sealed_writer import SealedWriter


def merge_files(
    files: Sequence[SealedReader], combine: Callable[[pa.Table], pa.Table], writer: SealedWriter, *, by: str = "hash"
) -> None:
    """Write the rows of all files, sorted. Raises CorruptShard for a damaged file, StorageError.

    Args:
        files: each sorted by ``by``.
        combine: makes of all rows with the same values of ``by`` those to be written, sorted; called with many values
            at a time.
        writer: gets the rows. It is not closed.
        by: a column of uint64.
    """
    for rows in in_windows(files, by=by):
        writer.write(combine(rows))


def in_windows(
    files: Sequence[SealedReader], columns: Sequence[str] | None = None, *, by: str = "hash"
) -> Iterator[pa.Table]:
    """The rows of all files, some at a time: of each value of ``by`` all are in one table, of greater ones in later.

    Raises CorruptShard for a damaged file, StorageError.

    Args:
        files: each sorted by ``by``.
        columns: that are read, ``by`` among them; None: all.
        by: a column of uint64.
    """
    cursors = [_Cursor(file, columns, by) for file in files]
    while cursors := [cursor for cursor in cursors if cursor.fill()]:
        # Up to the least of the greatest values that are in memory no file can have more rows.
        limit = min((cursor.greatest for cursor in cursors if not cursor.ended), default=None)
        pieces = [cursor.take_below(limit) for cursor in cursors]
        rows = pa.concat_tables(pieces)
        if rows.num_rows:
            yield rows
            continue
        for cursor in cursors:  # a value that fills whole row groups
            if not cursor.ended and cursor.greatest == limit:
                cursor.read_more()


class _Cursor:
    """The rows of a sorted file that are read and not yet written."""

    def __init__(self, file: SealedReader, columns: Sequence[str] | None, by: str) -> None:
        self._tables: Iterator[pa.Table] = file.scan(columns)
        self._by = by
        self._rows: pa.Table | None = None
        self.ended = False

    def fill(self) -> bool:
        """Read on if nothing is in memory; false at the end of the file."""
        while not self.ended and (self._rows is None or not self._rows.num_rows):
            self.read_more()
        return self._rows is not None and self._rows.num_rows > 0

    def read_more(self) -> None:
        """Add the next row group."""
        table = next(self._tables, None)
        if table is None:
            self.ended = True
        else:
            self._rows = table if self._rows is None else pa.concat_tables([self._rows, table]).combine_chunks()

    @property
    def greatest(self) -> int:
        """The greatest value in memory."""
        assert self._rows is not None
        return int(self._rows[self._by][-1].as_py())

    def take_below(self, limit: int | None) -> pa.Table:
        """Give away the rows with values below the limit; all if it is None."""
        assert self._rows is not None
        rows = self._rows
        count = rows.num_rows
        if limit is not None:
            count = int(np.searchsorted(rows[self._by].to_numpy(), np.uint64(limit)))
        self._rows = rows.slice(count)
        return rows.slice(0, count)
