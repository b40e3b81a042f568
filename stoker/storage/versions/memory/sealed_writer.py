"""Writes sealed Parquet files, see ``sealed_parquet``: to memory, to a file, or by way of a file into a store."""

import hashlib
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import MappingProxyType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.storage.errors import StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions.memory.sealed_parquet import HEX, METADATA, SCHEMA, SEAL, StoredTable
from stoker.storage.versions.sealed import canonical
from stoker.storage.versions.verified import put

ROW_GROUP = 32_768  # rows: a lookup reads one group, and a merge holds one of each file


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer has written."""

    size: int  # bytes
    sha256: str
    rows: int
    tail: int  # bytes of the footer

    def stored_as(self, key: str) -> StoredTable:
        """The same with the key that it gets in a store."""
        return StoredTable(key, self.size, self.sha256, self.rows, self.tail)


class SealedWriter:
    """Writes a table to a file, row group by row group. The same rows and pyarrow give the same bytes.

    Args:
        file: open for writing in binary.
        schema: the columns.
        dictionaries: those of few different values.
        statistics: those by which readers choose row groups.
        group: rows of a row group; None: ROW_GROUP.
        more: JSON values in the footer's metadata, see ``SealedReader.said``.
    """

    def __init__(
        self,
        file: BinaryIO,
        schema: pa.Schema,
        *,
        dictionaries: Sequence[str] = (),
        statistics: Sequence[str] = (),
        group: int | None = None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._group = group or ROW_GROUP
        self._more = more
        self._sink = _Sink(file)
        self._schema = schema
        # Without Arrow's own schema: it differs between tables of the same values that were built in different ways.
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            schema,
            compression="zstd",
            use_dictionary=list(dictionaries),
            write_statistics=list(statistics),
            store_schema=False,
        )
        self._waiting: list[pa.Table] = []
        self._groups: list[tuple[int, int]] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows. How many come at a time makes no difference to the file."""
        self._waiting.append(table.select(self._schema.names).cast(self._schema))
        if sum(waiting.num_rows for waiting in self._waiting) < self._group:
            return
        joined = pa.concat_tables(self._waiting)
        whole = joined.num_rows - joined.num_rows % self._group
        for start in range(0, whole, self._group):
            self._write_group(joined.slice(start, self._group))
        self._waiting = [joined.slice(whole)]

    def close(self) -> Written:
        """Write what is left, and the footer."""
        rest = pa.concat_tables([*self._waiting, self._schema.empty_table()])
        if rest.num_rows:
            self._write_group(rest)
        content = {**self._more, "groups": self._groups, "schema": SCHEMA, "seal": "0" * HEX}
        self._sink.footer = bytearray()
        self._parquet.add_key_value_metadata({METADATA: canonical(content)})
        self._parquet.close()
        tail = self._sink.footer
        place = tail.rindex(SEAL) + len(SEAL)
        tail[place : place + HEX] = hashlib.sha256(tail).hexdigest().encode()
        self._sink.footer = None
        self._sink.write(bytes(tail))
        return Written(self._sink.size, self._sink.sha256.hexdigest(), self._rows, len(tail))

    def discard(self) -> None:
        """Write no more; does nothing after ``close``."""
        if self._parquet.is_open:
            self._sink.footer = bytearray()  # goes nowhere
            self._parquet.close()

    def _write_group(self, table: pa.Table) -> None:
        self._parquet.write_table(table.combine_chunks(), row_group_size=self._group)
        self._groups.append((self._sink.size, self._sink.crc32))  # of the first group with the magic bytes before it
        self._sink.crc32 = 0
        self._rows += table.num_rows


class _Sink(io.RawIOBase):
    """Passes bytes on to a file and counts them; those of the footer are held back."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.footer: bytearray | None = None
        self.sha256 = hashlib.sha256()
        self.crc32 = 0
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size + len(self.footer or b"")

    def write(self, payload: Any) -> int:  # Any: a buffer
        content = bytes(payload)
        if self.footer is not None:
            self.footer += content
        else:
            self._file.write(content)
            self.sha256.update(content)
            self.crc32 = zlib.crc32(content, self.crc32)
            self.size += len(content)
        return len(content)


def encode(
    table: pa.Table, *, dictionaries: Sequence[str] = (), statistics: Sequence[str] = ()
) -> tuple[bytes, Written]:
    """The file of a table in memory, see ``SealedWriter``."""
    file = io.BytesIO()
    writer = SealedWriter(file, table.schema, dictionaries=dictionaries, statistics=statistics)
    writer.write(table)
    written = writer.close()
    return file.getvalue(), written


def put_table(
    store: Store,
    key_of: Callable[[str], str],
    open_writer: Callable[[BinaryIO], SealedWriter],
    fill: Callable[[SealedWriter], None],
    *,
    folder: Path | None = None,
) -> StoredTable:
    """Put a table into a store by way of a temporary file, so that memory holds a row group of it. Raises StorageError.

    Args:
        store: gets the object when the table is complete.
        key_of: its key, from its SHA-256.
        open_writer: makes the writer of a file.
        fill: writes the rows.
        folder: of the temporary file; None: the system's.
    """
    try:
        with TemporaryDirectory(prefix="stoker-", dir=folder) as name:
            path = Path(name) / "table.parquet"
            with path.open("wb") as file:
                writer = open_writer(file)
                try:
                    fill(writer)
                    written = writer.close()
                finally:
                    writer.discard()
            stored = written.stored_as(key_of(written.sha256))
            put(store, stored.key, path, sha256=stored.sha256)
            return stored
    except OSError as error:
        raise StorageRefused(
            f"{folder or gettempdir()}: {error.strerror or error}; a table is written there"
        ) from error
