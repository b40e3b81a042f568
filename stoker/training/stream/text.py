"""A pinned text version as contiguous windows of tokens, for truncated back-propagation through time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.tar_store import store_of_tars
from stoker.training.errors import TrainingError
from stoker.training.reading.cache import MEGABYTES, Cache, CacheOptions
from stoker.training.reading.samples import Samples
from stoker.training.stream.batching import EpochStream, check_same_order, position_of
from stoker.training.stream.corpus_text import EpochText, totals_of
from stoker.training.stream.options import check_options
from stoker.training.stream.order import EpochOrder, most_shards, share
from stoker.training.stream.stream import split_shards, version_of
from stoker.training.stream.tokens import BOUNDARY, BYTES, IGNORED, VOCABULARY, Tokens, text_of

__all__ = ["BOUNDARY", "VOCABULARY", "TextStream", "Tokens", "text_of"]

_WINDOW = 8  # of the largest shards, whose documents are shuffled among each other


@dataclass
class TextStream(EpochStream):
    """An iterable of (tokens, targets), each (rows, ``window``) int64: row i goes on where row i of the last one ended.

    >>> from stoker.testing import sample_corpus
    >>> stream = TextStream(*sample_corpus(12), batch_size=2, window=4, shuffle=False)
    >>> tokens, targets = stream.batch(0, 0)
    >>> tokens.tolist(), targets.tolist()
    ([[256, 48, 256, 49], [54, 256, 55, 256]], [[48, 256, 49, 256], [256, 55, 256, 56]])
    >>> sum(1 for tokens, targets in stream) == stream.batches
    True
    >>> stream.close()

    The documents of an epoch, in its order, make one long text, each document behind a boundary token. It is cut into
    ``batch_size`` lanes of equal length, one for each row. The targets are the tokens shifted by one. Rank r has its
    share of the rows. The state is that of ShardStream: integers, counted as handed to the loop.

    Args:
        store: where the version is.
        version: its manifest, or a reference such as "handbook@2".
        split: which documents.
        batch_size: rows, over all ranks.
        window: tokens of a row.
        seed: of the order.
        shuffle: False: the documents as they are stored.
        rank: which share of the rows.
        world_size: how many ranks share them.
        cache: folder for shards; None: one below the system's folder for temporary files.
        tokens_in: how the samples hold tokens.
        last: "drop" leaves up to window + 1 tokens at the end of each lane unread; "pad" reads every token, and fills
            the places behind the end with boundaries and the target -100, which torch's cross-entropy leaves out.
        cache_megabytes: that the folder may hold.
        full_windows: as of ShardStream.

    Raises TrainingError for options that cannot work, CorruptShard, StorageError. ``delivered`` counts a window as
    ``batch_size``.
    """

    store: Store
    version: Manifest | str
    split: str = "train"
    batch_size: int = 32
    window: int = 128
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    world_size: int = 1
    cache: Path | str | None = None
    tokens_in: Tokens = BYTES
    last: Literal["drop", "pad"] = "drop"
    cache_megabytes: int = MEGABYTES
    full_windows: bool = True

    def __post_init__(self) -> None:
        check_options(self)
        self.manifest = version_of(self.store, self.version)
        self._shards = split_shards(self.manifest, self.split)
        if not 0 <= self.rank < self.world_size <= self.batch_size:
            raise TrainingError(
                f"rank {self.rank} of {self.world_size} with batch_size {self.batch_size}: cannot share"
            )
        if self.window < 1:
            raise TrainingError(f"window {self.window}: expected 1 or more tokens")
        # Each lane reads a window of shards of its own.
        self._counts = np.array([shard.samples for shard in self._shards], np.int64)
        open_shards = min(len(self._shards), most_shards(self._counts, _WINDOW) * (self.batch_size + 2))
        self._cache = Cache(
            self.store,
            CacheOptions(folder=self.cache, megabytes=self.cache_megabytes, open_shards=open_shards),
            counters=self.counters,
            tars=store_of_tars(self.store, self.manifest),
        )
        self._totals = totals_of(self._cache, self._shards, self.tokens_in)
        self._texts: dict[int, EpochText] = {}
        if self.batches < 1:
            raise TrainingError(
                f"{self.manifest.reference}: split {self.split!r} has {self.tokens} tokens, fewer than batch_size "
                f"{self.batch_size} x (window {self.window} + 1); make one of them smaller"
            )

    @property
    def tokens(self) -> int:
        """Tokens of an epoch's text."""
        return int(self._totals.sum())

    def _lane(self) -> int:
        """Tokens of one row's lane."""
        return self.tokens // self.batch_size if self.last == "drop" else -(-self.tokens // self.batch_size)

    @property
    def batches(self) -> int:
        """Windows of a whole epoch."""
        if self.last == "pad":
            return -(-self._lane() // self.window) if self.tokens > 1 else 0
        return (self._lane() - 1) // self.window

    def __len__(self) -> int:
        """Windows that are left of this epoch."""
        return self.batches - self.delivered // self.batch_size

    def advance(self) -> None:
        """Count one window as handed to the loop."""
        self.delivered += self.batch_size

    def batch(self, epoch: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's rows of the window that begins after ``start`` rows were delivered. Does not move the stream."""
        number = start // self.batch_size
        first, stop = share(self.batch_size, self.rank, self.world_size)
        lane = self._lane()
        both = np.full((stop - first, self.window + 1), self.tokens_in.boundary, np.int64)
        starts = [row * lane + number * self.window for row in range(first, stop)]
        if self.last == "drop":
            self._text(epoch).fill(starts, both)
            tokens, targets = both[:, :-1], both[:, 1:]
        else:
            tokens, targets = self._padded(epoch, starts, [(row + 1) * lane for row in range(first, stop)], both)
        self.counters.add(samples=len(starts), bytes=both.size * self.tokens_in.width)
        if number + 1 >= self.batches:
            self._cache.wait_verified()
        return torch.from_numpy(tokens), torch.from_numpy(targets)

    def samples_at(self, epoch: int, start: int) -> Samples:
        """The documents that the window reads of, over all ranks: to name them."""
        lane, begin = self._lane(), start // self.batch_size * self.window
        starts = [row * lane + begin for row in range(self.batch_size)]
        length = min(self.window, lane - begin)
        spans = [(first, min(length, self.tokens - first)) for first in starts if first < self.tokens]
        return self._text(epoch).documents(spans)

    def _padded(
        self,
        epoch: int,
        starts: list[int],
        stops: list[int],
        both: Any,  # Any: int64 (rows, window + 1)
    ) -> tuple[Any, Any]:  # Any: as above
        """Rows that may reach beyond the end of their lane, or of the text."""
        targets = np.full((len(starts), self.window), IGNORED, np.int64)
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            # The last token of the text is a target, and has none itself.
            size = max(0, min(self.window, stop - start, self.tokens - 1 - start))
            if size:
                self._text(epoch).fill([start], both[row : row + 1, : size + 1])
                targets[row, :size] = both[row, 1 : size + 1]
                both[row, size:] = self.tokens_in.boundary
        return both[:, :-1], targets

    def _text(self, epoch: int) -> EpochText:
        epoch_text = self._texts.get(epoch)
        if epoch_text is None:
            windows = self.full_windows
            order = EpochOrder(self._counts, self.seed, epoch, _WINDOW, self.shuffle, full_windows=windows)
            first, stop = share(self.batch_size, self.rank, self.world_size)
            epoch_text = EpochText(self._cache, self._shards, order, self._totals, self.tokens_in, stop - first)
            # Two: windows of the next epoch are made while this one's are consumed.
            # A new dictionary: threads read it.
            kept = {other: text for other, text in self._texts.items() if abs(other - epoch) == 1}
            self._texts = {**kept, epoch: epoch_text}
        return epoch_text

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """The stream's position, and what it is a stream of."""
        return {
            "epoch": self.epoch,
            "delivered": self.delivered,
            "version": self.manifest.reference,
            "content": self.manifest.content,
            "split": self.split,
            "seed": self.seed,
            "window": self.window,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "last": self.last,
            "full_windows": self.full_windows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another text or cut."""
        names = ("content", "split", "seed", "window", "batch_size", "shuffle", "last")
        check_same_order(state, self.state_dict(), names)
        self.epoch, self.delivered = position_of(state, self.batches * self.batch_size)
        # Those of releases before masks counted windows in shards, and go on so.
        self.full_windows, self._texts = state.get("full_windows") is True, {}
        self._cache.forget_told()

    def wait_verified(self) -> None:
        """Wait until all documents that were read are verified. Raises CorruptShard; StorageError."""
        self._cache.wait_verified()

    def reopen(self) -> Self:
        """The same stream at the beginning, with connections, locks and threads of its own: for a forked process."""
        # By its manifest: its name may mean another version by now.
        return replace(self, store=self.store.reopen(), version=self.manifest)

    def close(self) -> None:
        """End the threads that read ahead. Raises CorruptShard if delivered samples are known to be corrupt."""
        self._cache.close()

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes
        return self.__dict__ | {"_texts": {}}  # they hold views of this process's memory
