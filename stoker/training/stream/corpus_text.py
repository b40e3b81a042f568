"""The documents of an epoch joined into one long text of tokens; any piece of it can be read without the rest.

The shards' token totals place each window of shards in the text; the indexes of a window's shards place its documents.
Price: memory for a few numbers per document of a few windows.
"""

from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Int64Array
from stoker.storage.versions.manifest import Shard
from stoker.training.errors import TrainingError
from stoker.training.reading.cache import Cache
from stoker.training.reading.purged import PurgedMeanwhile
from stoker.training.reading.samples import Samples
from stoker.training.stream.batching import group_by_shard
from stoker.training.stream.order import EpochOrder
from stoker.training.stream.tokens import Ids, Tokens

_DOCUMENTS = 4  # kept in memory for each lane


class EpochText:
    """One epoch's documents in its order, each behind a boundary token.

    ``totals``: the tokens of each shard, boundaries included; ``lanes``: pieces that are read at the same time.
    """

    def __init__(
        self, cache: Cache, shards: Sequence[Shard], order: EpochOrder, totals: Int64Array, tokens: Tokens, lanes: int
    ) -> None:
        self._cache, self._shards, self._order, self._tokens = cache, shards, order, tokens
        in_order = totals[order.shards]
        zero = np.zeros(1, np.int64)
        # The first token of each window, and the position of its first document; at the end their totals.
        self._windows = np.concatenate([zero, np.add.reduceat(in_order, order.edges[:-1])]).cumsum()
        self._positions = np.concatenate(
            [zero, np.add.reduceat(np.asarray(order.counts, np.int64)[order.shards], order.edges[:-1])]
        ).cumsum()
        # Each lane is in a window of its own, and may be in two while it goes from one to the next.
        self._max_layouts = lanes + 2
        self._layouts: dict[int, tuple[Int64Array, Int64Array, Int64Array]] = {}  # by window: see ``_layout``
        self._documents: dict[int, Ids] = {}  # by their first token's position in the text
        self._max_documents = _DOCUMENTS * max(1, lanes)
        self._lock = Lock()  # of the two dictionaries

    def fill(self, starts: Sequence[int], out: npt.NDArray[np.int64]) -> None:
        """Fill row i of ``out`` with the tokens from ``starts[i]`` on."""
        pieces, located = self._pieces(starts, out.shape[1])
        documents = self._read(located)
        for row, column, first in pieces:
            self._copy(documents[first], out[row, column:], starts[row] + column - first)

    def documents(self, spans: Sequence[tuple[int, int]]) -> Samples:
        """The documents that are read for the tokens of these spans: their first ones, and how many."""
        located: dict[int, tuple[int, int]] = {}
        for start, length in spans:
            located |= self._pieces([start], length)[1]
        places = list(dict.fromkeys(place for place in located.values() if not self._is_withdrawn(*place)))
        rows = np.array(places, np.int64).reshape(-1, 2)
        shard_rows = group_by_shard(self._shards, (rows[:, 0], rows[:, 1]), np.arange(len(rows)))
        return Samples(self._cache.slices(shard_rows), len(rows))

    def _pieces(
        self, starts: Sequence[int], length: int
    ) -> tuple[list[tuple[int, int, int]], dict[int, tuple[int, int]]]:
        """Row, column and first token of each piece of a document; shard and row of a document, by its first token."""
        pieces: list[tuple[int, int, int]] = []
        located: dict[int, tuple[int, int]] = {}
        begin = end = 0  # of the window that was last looked at: mostly the next piece lies in it, too
        for row, start in enumerate(starts):
            position = start
            while position < start + length:
                if not begin <= position < end:
                    window = int(self._windows.searchsorted(position, side="right")) - 1
                    begin, end = self._windows[window : window + 2].tolist()
                    shards, rows, firsts = self._layout(window)
                number = int(firsts.searchsorted(position, side="right")) - 1
                first = int(firsts[number])
                pieces.append((row, position - start, first))
                located[first] = int(shards[number]), int(rows[number])
                position = int(firsts[number + 1]) if number + 1 < len(firsts) else end
        return pieces, located

    def _copy(self, document: Ids, out: npt.NDArray[np.int64], skip: int) -> None:
        """Copy a document's tokens from ``skip`` on into ``out``, as far as there is room. Token 0 is the boundary."""
        if skip == 0:
            out[0] = self._tokens.boundary
            out, skip = out[1:], 1
        piece = document[skip - 1 : skip - 1 + len(out)]
        out[: len(piece)] = piece

    def _layout(self, window: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Shard, row and first token of each document of a window, in the epoch's order."""
        with self._lock:
            layout = self._layouts.pop(window, None)
            if layout is not None:
                self._layouts[window] = layout  # the newest
                return layout
        shards, rows = self._order.locate(int(self._positions[window]), int(self._positions[window + 1]))
        sizes = np.empty(len(shards), np.int64)
        for shard in np.unique(shards).tolist():
            in_shard = shards == shard
            sizes[in_shard] = sizes_of(self._cache, self._shards[shard], self._tokens)[rows[in_shard]]
        firsts = self._windows[window] + np.concatenate([np.zeros(1, np.int64), sizes.cumsum()[:-1]])
        layout = shards, rows, firsts
        with self._lock:
            self._layouts[window] = layout
            while len(self._layouts) > self._max_layouts:
                self._layouts.pop(next(iter(self._layouts)))
        return layout

    def _read(self, located: dict[int, tuple[int, int]]) -> dict[int, Ids]:
        """The tokens of documents by their first token; ``located``: their shards and rows."""
        while True:
            try:
                return self._read_once(located)
            except PurgedMeanwhile:  # what is left of these documents
                continue

    def _read_once(self, located: dict[int, tuple[int, int]]) -> dict[int, Ids]:
        with self._lock:
            documents = {first: self._documents[first] for first in located if first in self._documents}
        missing = [first for first in located if first not in documents]
        if missing:
            for first in [first for first in missing if self._is_withdrawn(*located[first])]:
                size = int(sizes_of(self._cache, self._shards[located[first][0]], self._tokens)[located[first][1]]) - 1
                documents[first] = np.full(size, self._tokens.boundary, np.uint32)
            missing = [first for first in missing if first not in documents]
        if missing:
            rows = np.array([located[first] for first in missing], np.int64)
            shard_rows = group_by_shard(self._shards, (rows[:, 0], rows[:, 1]), np.arange(len(missing)))
            payloads = Samples(self._cache.slices(shard_rows), len(missing)).column(self._tokens.field)
            for first, payload in zip(missing, payloads, strict=True):
                assert payload is not None  # sizes_of looked
                documents[first] = self._tokens.read(payload)
            with self._lock:
                for first in missing:
                    self._documents[first] = documents[first]
                while len(self._documents) > self._max_documents:
                    self._documents.pop(next(iter(self._documents)))
        return documents

    def _is_withdrawn(self, shard: int, row: int) -> bool:
        """Whether a document was taken out of the corpus: boundaries are in the place of its tokens."""
        gone = self._cache.withdrawn(self._shards[shard], self._order.epoch)
        return gone is not None and bool(gone[row])


def sizes_of(cache: Cache, shard: Shard, tokens: Tokens) -> Int64Array:
    """The tokens of each document of a shard, its boundary included: from its index alone. Raises TrainingError."""
    sizes = cache.index(shard).sizes_of(tokens.field)
    if (sizes < 0).any():
        raise TrainingError(
            f"{shard.key} holds samples without a field {tokens.field!r}; a language model needs a corpus of texts"
        )
    if (sizes % tokens.width).any():
        raise TrainingError(f"{shard.key}: field {tokens.field!r} is not made of tokens of {tokens.width} bytes")
    return sizes // tokens.width + 1


def totals_of(cache: Cache, shards: Sequence[Shard], tokens: Tokens) -> Int64Array:
    """The tokens of each shard, boundaries included."""
    cache.indexes(shards)  # several at a time
    return np.array([int(sizes_of(cache, shard, tokens).sum()) for shard in shards], np.int64)
