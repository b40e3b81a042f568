"""The documents of an epoch as one long text of tokens, of which any piece can be had without the rest."""

from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Places
from stoker.storage.versions.manifest import Shard
from stoker.training.errors import TrainingError
from stoker.training.reading.cache import Cache
from stoker.training.reading.samples import Samples
from stoker.training.stream.batching import by_shard
from stoker.training.stream.order import Order
from stoker.training.stream.tokens import Ids, Tokens

_VIEWS = 4  # documents kept open for each piece that is read at a time


class EpochText:
    """One epoch's documents in its order, each behind a boundary. Memory: a number for each document of a few windows.

    ``totals``: the tokens of each shard, boundaries among them.
    """

    def __init__(
        self, cache: Cache, shards: Sequence[Shard], order: Order, totals: Places, tokens: Tokens, lanes: int
    ) -> None:
        self._cache, self._shards, self._order, self._tokens = cache, shards, order, tokens
        by_place = totals[order.shards]
        self._windows = np.concatenate([np.zeros(1, np.int64), np.add.reduceat(by_place, _edges(order))]).cumsum()
        self._counts = np.concatenate(
            [np.zeros(1, np.int64), np.add.reduceat(np.asarray(order.counts, np.int64)[order.shards], _edges(order))]
        ).cumsum()
        # Each lane is in a window of its own, and may be in two while it goes from one to the next.
        self._held = lanes + 2
        self._laid: dict[int, tuple[Places, Places, Places]] = {}  # window → shards, rows, first token of each document
        self._views: dict[int, Ids] = {}  # first token of a document → its tokens
        self._kept = _VIEWS * max(1, lanes)
        self._lock = Lock()

    def fill(self, starts: Sequence[int], out: npt.NDArray[np.int64]) -> None:
        """Fill row i of ``out`` with the tokens from ``starts[i]`` on."""
        length = out.shape[1]
        needed: list[tuple[int, int, int, int, int]] = []  # row, place in it, first token of a document, shard, its row
        for row, start in enumerate(starts):
            at = start
            while at < start + length:
                window = int(np.searchsorted(self._windows, at, side="right")) - 1
                shards, rows, firsts = self._documents(window)
                number = int(np.searchsorted(firsts, at, side="right")) - 1
                ends = int(firsts[number + 1]) if number + 1 < len(firsts) else int(self._windows[window + 1])
                needed.append((row, at - start, int(firsts[number]), int(shards[number]), int(rows[number])))
                at = ends
        views = self._read({first: (shard, line) for _, _, first, shard, line in needed})
        for row, place, first, _, _ in needed:
            self._copy(views[first], out[row, place:], starts[row] + place - first)

    def _copy(self, document: Ids, out: npt.NDArray[np.int64], skip: int) -> None:
        """A document's tokens from ``skip`` on, the boundary being its first, as far as there is room."""
        if skip == 0:
            out[0] = self._tokens.boundary
            out, skip = out[1:], 1
        piece = document[skip - 1 : skip - 1 + len(out)]
        out[: len(piece)] = piece

    def _documents(self, window: int) -> tuple[Places, Places, Places]:
        """Shard, row and first token of each document of a window, in the epoch's order."""
        with self._lock:
            found = self._laid.pop(window, None)
            if found is not None:
                self._laid[window] = found  # the newest
                return found
        shards, rows = self._order.places(int(self._counts[window]), int(self._counts[window + 1]))
        sizes = np.empty(len(shards), np.int64)
        for shard in np.unique(shards).tolist():
            own = shards == shard
            sizes[own] = sizes_of(self._cache, self._shards[shard], self._tokens)[rows[own]]
        firsts = self._windows[window] + np.concatenate([np.zeros(1, np.int64), sizes.cumsum()[:-1]])
        with self._lock:
            self._laid[window] = (shards, rows, firsts)
            while len(self._laid) > self._held:
                self._laid.pop(next(iter(self._laid)))
        return shards, rows, firsts

    def _read(self, wanted: dict[int, tuple[int, int]]) -> dict[int, Ids]:
        """The tokens of documents, by the place of their first one."""
        with self._lock:
            found = {first: self._views[first] for first in wanted if first in self._views}
        lacking = [first for first in wanted if first not in found]
        if lacking:
            places = np.array([wanted[first] for first in lacking], np.int64)
            groups = self._cache.groups(by_shard(self._shards, (places[:, 0], places[:, 1]), np.arange(len(lacking))))
            payloads = Samples(groups, len(lacking)).column(self._tokens.field)
            for first, payload in zip(lacking, payloads, strict=True):
                assert payload is not None  # sizes_of looked
                found[first] = self._tokens.read(payload)
            with self._lock:
                for first in lacking:
                    self._views[first] = found[first]
                while len(self._views) > self._kept:
                    self._views.pop(next(iter(self._views)))
        return found


def sizes_of(cache: Cache, shard: Shard, tokens: Tokens) -> Places:
    """The tokens of each document of a shard, its boundary among them: from its index alone. Raises TrainingError."""
    sizes = cache.index(shard).sizes_of(tokens.field)
    if (sizes < 0).any():
        raise TrainingError(
            f"{shard.key} holds samples without a field {tokens.field!r}; a language model needs a corpus of texts"
        )
    if (sizes % tokens.width).any():
        raise TrainingError(f"{shard.key}: field {tokens.field!r} is not made of tokens of {tokens.width} bytes")
    return sizes // tokens.width + 1


def totals_of(cache: Cache, shards: Sequence[Shard], tokens: Tokens) -> Places:
    """The tokens of each shard, boundaries among them."""
    cache.indexes(shards)  # several at a time
    return np.array([int(sizes_of(cache, shard, tokens).sum()) for shard in shards], np.int64)


def _edges(order: Order) -> Places:
    """Where each window of shards begins."""
    return np.arange(0, len(order.shards), order.window, dtype=np.int64)
