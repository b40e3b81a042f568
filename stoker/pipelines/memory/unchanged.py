"""The samples that a corpus holds of a source, for one that knows its candidates only by reading them.

An array of 24 bytes a sample in a file, which every process of a run maps into its memory: hashes of identities,
sorted, with what tells a changed candidate from one that is as it was. Price: two identities of one 64-bit hash are
taken for one if their stamps are equal, too; among 10 million samples two such hashes are there once in 400,000 times.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.versions.memory.outcomes import hash_of

NO_REVISION = -1
_COLUMNS = 3  # hashes of identities, hashes of stamps, revisions
_KEYS = pa.schema([("hash", pa.uint64()), ("key", pa.string())])  # sorted by hash


@dataclass(frozen=True)
class KnownSamples:
    """Which samples of a source a corpus holds; ``path`` None: none. Picklable: the file is opened anew."""

    source: str = ""
    path: Path | None = None

    def __reduce__(self) -> tuple[type["KnownSamples"], tuple[str, Path | None]]:
        return type(self), (self.source, self.path)

    def has(self, identity: str, *, stamp: str = "", revision: int = NO_REVISION, always_stamped: bool = False) -> bool:
        """Whether the corpus holds this candidate's sample as it is, or a newer revision of it.

        Args:
            identity: of the candidate.
            stamp: of all that the sample is made of; of a revision what tells that it was altered, "": nothing does.
            revision: its number, where candidates have one that grows.
            always_stamped: whether a sample without a stamp, of an earlier release, counts as another one.
        """
        hashes, stamps, revisions = self._hashes, self._columns[1], self._columns[2]
        if not len(hashes):
            return False
        hashed = np.uint64(hash_of(self.source, identity))
        place = int(np.searchsorted(hashes, hashed))
        if place == len(hashes) or hashes[place] != hashed:
            return False
        told = int(stamps[place].view(np.uint64))
        is_same = told == hash_of("", stamp) or (told == 0 and not always_stamped)
        if revision != NO_REVISION:
            return int(revisions[place]) > revision or (int(revisions[place]) == revision and (is_same or not stamp))
        return is_same

    def key_of(self, identity: str) -> str:
        """The key that the sample of a candidate has which is made anew; "": that of its identity, or there is none."""
        if self._keys is None:
            return ""
        hashes, hashed = self._keys[0], np.uint64(hash_of(self.source, identity))
        place = int(np.searchsorted(hashes, hashed))
        return str(self._keys[1][place]) if place < len(hashes) and hashes[place] == hashed else ""

    def remove(self) -> None:
        """Delete the files."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            _keys_beside(self.path).unlink(missing_ok=True)

    @cached_property
    def _keys(self) -> tuple[npt.NDArray[np.uint64], pa.Array] | None:
        if self.path is None or not (path := _keys_beside(self.path)).exists():
            return None
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all().combine_chunks()
        return table["hash"].to_numpy(), table["key"].combine_chunks()

    @cached_property
    def _hashes(self) -> npt.NDArray[np.uint64]:
        hashes: npt.NDArray[np.uint64] = self._columns[0].view(np.uint64)
        return hashes

    @cached_property
    def _columns(self) -> npt.NDArray[np.int64]:
        if self.path is None:
            return np.zeros((_COLUMNS, 0), np.int64)
        # Not as a memmap: each slice of one costs more than the search.
        return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))


def write(
    folder: Path,
    hashes: npt.NDArray[np.uint64],
    stamps: npt.NDArray[np.uint64],
    revisions: npt.NDArray[np.int64],
    *,
    keys: pa.Table | None = None,
) -> Path:
    """Write the file of known samples, sorted by hash; it is named by its content.

    ``keys``: hash and key, sorted by hash, of samples that are made anew and whose key is not their identity.
    """
    columns = np.stack([hashes.view(np.int64), stamps.view(np.int64), revisions])
    content = hashlib.sha256(columns.tobytes())
    sink = pa.BufferOutputStream()
    if keys is not None and keys.num_rows:
        with pa.ipc.new_file(sink, _KEYS) as writer:
            writer.write_table(keys.cast(_KEYS))
    written = sink.getvalue().to_pybytes()
    content.update(written)
    path = folder / f"known-{content.hexdigest()[:32]}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    if written:  # first: where the other file is, this one is too
        _replace(_keys_beside(path), lambda file: file.write(written))
    _replace(path, lambda file: np.save(file, columns, allow_pickle=False))
    return path


def _replace(path: Path, save: Callable[[BinaryIO], object]) -> None:
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        save(file)
    os.replace(name, path)


def _keys_beside(path: Path) -> Path:
    return path.with_suffix(".keys")


NOTHING_KNOWN = KnownSamples()
