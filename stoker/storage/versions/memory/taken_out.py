"""Which rows of the shards of any version were taken out of their corpus since, from its tombstones.

Keys are compared, and contents, where there are tombstones of contents: `stoker forget` finds out which samples of all
versions are meant by a URL, a page, a host or an author.
"""

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.shards.kinds import INDEX
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.listed.named import Shard
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.verified import verified_table

if TYPE_CHECKING:
    from stoker.storage.versions.memory.tombstones import Tombstones

Flags = npt.NDArray[np.bool_]

_COLUMNS = {"key": ("key",), "sha256": ("sha256", "content_sha256")}


class TakenOut:
    """Tells rows of shards that were taken out, as far as that was known when a corpus was first asked about.

    Safe to use from many threads.

    Args:
        store: that holds the indexes.
        read: gives columns of a shard's index; None: from the store.
    """

    def __init__(self, store: Store, read: Callable[[Shard, Sequence[str]], pa.Table] | None = None) -> None:
        self._store, self._read = store, read or self._of_store
        self._lock = Lock()
        self._tombstones: dict[str, Tombstones | None] = {}  # by corpus; None: it has none
        self._rows: dict[str, Flags | None] = {}  # by the checksum of an index

    def _of_corpus(self, corpus: str) -> "Tombstones | None":
        with self._lock:  # others wait for the thread that reads it
            if corpus not in self._tombstones:
                self._tombstones[corpus] = self._loaded(corpus)
            return self._tombstones[corpus]

    def _loaded(self, corpus: str) -> "Tombstones | None":
        if not numbered.numbers(self._store, layout.tombstones_folder(corpus)):
            return None
        # Imports pyarrow.compute, a third of a second of the first batch of a corpus that needs none of it.
        from stoker.storage.versions.memory.tombstones import load_tombstones

        return load_tombstones(self._store, corpus)

    def rows(self, shard: Shard) -> Flags | None:
        """Which of the stored rows of a shard were taken out; None: none.

        Raises CorruptShard, also for damaged tombstones: nobody may go on without; StorageError.
        """
        known = self._of_corpus(shard.index.partition("/")[0])
        if known is None:
            return None
        with self._lock:
            if shard.index_sha256 in self._rows:
                return self._rows[shard.index_sha256]
        rows = self._in_index(known, shard)
        with self._lock:
            self._rows[shard.index_sha256] = rows
        return rows

    def _in_index(self, known: "Tombstones", shard: Shard) -> Flags | None:
        names = [name for kind, columns in _COLUMNS.items() if kind in known.kinds for name in columns]
        if not names:
            return None
        index = self._read(shard, ["key", *names])
        rows = np.zeros(index.num_rows, np.bool_)
        for kind, columns in _COLUMNS.items():
            for name in columns if kind in known.kinds else ():
                if name in index.column_names and pa.types.is_string(index.schema.field(name).type):
                    rows |= known.is_withdrawn(kind, index[name].to_pylist())
        return rows if rows.any() else None

    def _of_store(self, shard: Shard, columns: Sequence[str]) -> pa.Table:
        return verified_table(self._store, shard.index, INDEX, sha256=shard.index_sha256, columns=columns)


def count_taken_out(store: Store, shards: Iterable[Shard]) -> int:
    """How many samples of a version's shards were taken out of their corpus since. Raises as ``TakenOut.rows``.

    Price: where the corpus has tombstones, a column of each index is read.
    """
    taken_out, masks = TakenOut(store), Masks(store)
    count = 0
    for shard in shards:
        gone = taken_out.rows(shard)
        masked = None if gone is None else masks.of(shard)
        count += 0 if gone is None else int((gone if masked is None else gone & ~masked).sum())
    return count
