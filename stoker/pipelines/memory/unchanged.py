"""The samples that a corpus holds of a source, for one that knows its candidates only by reading them.

An array of 24 bytes a sample in a file, which every process of a run maps into its memory: hashes of identities,
sorted, with what tells a changed candidate from one that is as it was. Price: two identities of one 64-bit hash are
taken for one if their stamps are equal, too; among 10 million samples two such hashes are there once in 400,000 times.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stoker.storage.versions.memory.outcomes import hash_of

NO_REVISION = -1
_COLUMNS = 3  # hashes of identities, hashes of stamps, revisions


@dataclass(frozen=True)
class KnownSamples:
    """Which samples of a source a corpus holds; ``path`` None: none. Picklable: the file is opened anew."""

    source: str = ""
    path: Path | None = None

    def __reduce__(self) -> tuple[type["KnownSamples"], tuple[str, Path | None]]:
        return type(self), (self.source, self.path)

    def has(self, identity: str, *, stamp: str = "", revision: int = NO_REVISION) -> bool:
        """Whether the corpus holds this candidate's sample as it is, or a newer revision of it.

        Args:
            identity: of the candidate.
            stamp: of all that the sample is made of, where it has no revision.
            revision: its number, where candidates have one that grows.
        """
        hashes, stamps, revisions = self._hashes, self._columns[1], self._columns[2]
        if not len(hashes):
            return False
        hashed = np.uint64(hash_of(self.source, identity))
        place = int(np.searchsorted(hashes, hashed))
        if place == len(hashes) or hashes[place] != hashed:
            return False
        if revision != NO_REVISION:
            return int(revisions[place]) >= revision
        # Samples of earlier releases have no stamp.
        return int(stamps[place].view(np.uint64)) in (0, hash_of("", stamp))

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
    folder: Path, hashes: npt.NDArray[np.uint64], stamps: npt.NDArray[np.uint64], revisions: npt.NDArray[np.int64]
) -> Path:
    """Write the file of known samples, sorted by hash; it is named by its content."""
    columns = np.stack([hashes.view(np.int64), stamps.view(np.int64), revisions])
    path = folder / f"known-{hashlib.sha256(columns.tobytes()).hexdigest()[:32]}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        np.save(file, columns, allow_pickle=False)
    os.replace(name, path)
    return path


NOTHING_KNOWN = KnownSamples()
