"""The table of a lookup: hashes of the values by which people ask for candidates, and the files that have them.

Rows (hash, file), sorted; ``file`` is a number in the list of files in the footer's metadata: those that the lookup is
about. A row is a hint: 40 bits of two values may be equal by chance, and the file says what it holds.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.blank import blank_rows_of
from stoker.storage.stores.store import Store
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.memory.outcome_class import KNOWN
from stoker.storage.versions.memory.outcomes import hash_of, hashes_of
from stoker.storage.versions.memory.sealed_parquet import SealedReader
from stoker.storage.versions.memory.sealed_writer import SealedWriter, Written

SEARCHED = ("key", "url", "line", "page_url", "sha256", "content_sha256")  # columns of records
FILES = "files"  # in the footer's metadata
BITS = 40  # of a hash: two of ten million values are equal by chance in one of 50,000 searches
_SHIFT = 64 - BITS
_REMEDY = "`stoker why` reads all records until the next version has another lookup"
SCHEMA = pa.schema([("hash", pa.uint64()), ("file", pa.uint32())])


@dataclass(frozen=True)
class Entries:
    """Which values each of some files has.

    Args:
        files: their keys.
        hashes: of values, in any order.
        places: of each hash the number of its file.
    """

    files: tuple[str, ...]
    hashes: npt.NDArray[np.uint64]
    places: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, by_file: Iterable[tuple[str, npt.NDArray[np.uint64]]]) -> "Entries":
        """Of files and the hashes in each."""
        listed = list(by_file)
        counts = [len(hashes) for _, hashes in listed]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(hashes for _, hashes in listed)])
        return cls(tuple(key for key, _ in listed), hashes, np.repeat(np.arange(len(listed), dtype=np.uint32), counts))

    def only(self, keys: Iterable[str]) -> "Entries":
        """Those of some files alone."""
        wanted = set(keys)
        stays = np.fromiter((key in wanted for key in self.files), np.bool_, len(self.files))
        anew = (np.cumsum(stays) - 1).astype(np.uint32)
        chosen = stays[self.places]
        files = tuple(key for key in self.files if key in wanted)
        return Entries(files, self.hashes[chosen], anew[self.places[chosen]])

    def joined(self, other: "Entries") -> "Entries":
        """Those of both; no file is in both."""
        places = np.concatenate([self.places, other.places + np.uint32(len(self.files))])
        return Entries(self.files + other.files, np.concatenate([self.hashes, other.hashes]), places)


def hashes_in(table: pa.Table) -> npt.NDArray[np.uint64]:
    """The hashes of the values in the searched columns, each once; none of blank rows and repeated candidates."""
    stays = ~blank_rows_of(table)
    if "reason" in table.column_names:
        stays &= pc.not_equal(pc.fill_null(table["reason"].cast(pa.string()), ""), KNOWN).to_numpy()
    table = table.filter(pa.array(stays))
    named = [
        name for name in SEARCHED if name in table.column_names and pa.types.is_string(table.schema.field(name).type)
    ]
    found = [hashes_of("", table[name].drop_null().to_pylist()) for name in named]
    hashes: npt.NDArray[np.uint64] = np.unique(np.concatenate([np.zeros(0, np.uint64), *found]) >> np.uint64(_SHIFT))
    return hashes


def encode(entries: Entries) -> tuple[bytes, Written]:
    """The file of entries; the same files and values give the same bytes, whichever order they come in."""
    files = sorted(entries.files)
    numbers = {key: number for number, key in enumerate(files)}
    anew = np.array([numbers[key] for key in entries.files], np.uint32)
    places = anew[entries.places] if len(anew) else entries.places
    # Sorted as one number: half the memory and time of sorting by two columns.
    rows = entries.hashes << np.uint64(_SHIFT) | places.astype(np.uint64)
    rows.sort()
    columns = {"hash": rows >> np.uint64(_SHIFT), "file": (rows & np.uint64(2**_SHIFT - 1)).astype(np.uint32)}
    file = io.BytesIO()
    writer = SealedWriter(file, SCHEMA, dictionaries=("file",), statistics=("hash",), more={FILES: files})
    writer.write(pa.table(columns, schema=SCHEMA))
    written = writer.close()
    return file.getvalue(), written


class Lookup:
    """Reads a lookup in part; its footer once. Raises CorruptShard for damage, NotFound, StorageError."""

    def __init__(self, read: Callable[[int, int], bytes], file: ListFile, where: str) -> None:
        self.file, self._where = file, where
        self._reader = SealedReader(read, size=file.size, schema=SCHEMA, where=where, remedy=_REMEDY)

    @classmethod
    def of_object(cls, store: Store, file: ListFile) -> "Lookup":
        """A lookup in a store; reads nothing yet."""
        return cls(
            lambda start, stop: store.read(file.key, start=start, size=stop - start), file, f"{store.url}/{file.key}"
        )

    @property
    def files(self) -> Sequence[str]:
        """The keys of the files that it is about."""
        found = self._reader.said.get(FILES)
        if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
            raise CorruptShard(f"{self._where}: damaged: it does not say which files it is about; {_REMEDY}")
        return found

    def files_with(self, value: str) -> set[str]:
        """The keys of the files that may have a value: one read."""
        rows = self._reader.with_hash(hash_of("", value) >> _SHIFT)
        return {self._file(number) for number in rows["file"].to_pylist()}

    def entries(self) -> Entries:
        """All that it says: the whole is read."""
        table = self._reader.table(self._reader.groups)
        for number in pc.unique(table["file"]).to_pylist():
            self._file(number)
        return Entries(tuple(self.files), table["hash"].to_numpy(), table["file"].to_numpy())

    def _file(self, number: int) -> str:
        if number >= len(self.files):
            raise CorruptShard(f"{self._where}: damaged: file {number} of {len(self.files)}; {_REMEDY}")
        return self.files[number]
