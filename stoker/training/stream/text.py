"""A pinned text version as contiguous windows of tokens, for truncated back-propagation through time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from stoker.storage.indexed.tars import store_of_tars
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.reading.cache import MEGABYTES, Cache
from stoker.training.reading.counters import Counters
from stoker.training.stream.corpus_text import EpochText, totals_of
from stoker.training.stream.order import Order, share
from stoker.training.stream.stream import position_of, split_shards, version_of
from stoker.training.stream.tokens import BOUNDARY, BYTES, IGNORED, VOCABULARY, Tokens, text_of

__all__ = ["BOUNDARY", "VOCABULARY", "TextStream", "Tokens", "text_of"]

_SHARDS = 8  # whose documents are shuffled among each other


@dataclass
class TextStream:
    """An iterable of (tokens, targets), each (rows, ``window``) int64: row i goes on where row i of the last one ended.

    The documents of an epoch, in its order, make one long text, each document behind a boundary token. It is cut into
    ``batch_size`` lanes of equal length, one for each row. ``targets`` are the tokens one place further. Rank r has its
    share of the rows. With ``last="drop"`` up to window + 1 tokens at the end of each lane stay unread; with ``pad``
    every token is read, and the places behind the end hold boundaries and the target -100, which torch's cross-entropy
    leaves out.

    The state is that of ShardStream: integers, counted as handed to the loop. Raises TrainingError, CorruptShard,
    StorageError.
    """

    store: Store
    version: Manifest | str
    split: str = "train"
    batch_size: int = 32  # rows, over all ranks
    window: int = 128  # tokens
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    world_size: int = 1
    cache: Path | None = None
    tokens_in: Tokens = BYTES
    last: Literal["drop", "pad"] = "drop"
    cache_megabytes: int = MEGABYTES
    epoch: int = field(default=0, init=False)
    delivered: int = field(default=0, init=False)  # windows of this epoch that the loop has had, times batch_size
    counters: Counters = field(default_factory=Counters, init=False, repr=False)

    def __post_init__(self) -> None:
        self.manifest = version_of(self.store, self.version)
        self._shards = split_shards(self.manifest, self.split)
        if not 0 <= self.rank < self.world_size <= self.batch_size:
            raise TrainingError(
                f"rank {self.rank} of {self.world_size} with batch_size {self.batch_size}: cannot share"
            )
        if self.window < 1 or self.last not in ("drop", "pad"):
            raise TrainingError(f"window {self.window}, last {self.last!r}: expected 1 or more, and drop or pad")
        # Each lane reads a window of shards of its own.
        held = min(len(self._shards), _SHARDS * (self.batch_size + 2))
        self._cache = Cache(
            self.store,
            self.cache,
            megabytes=self.cache_megabytes,
            held=held,
            counters=self.counters,
            tars=store_of_tars(self.store, self.manifest),
        )
        self._totals = totals_of(self._cache, self._shards, self.tokens_in)
        self._texts: dict[int, EpochText] = {}
        if self._windows() < 1:
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

    def _windows(self) -> int:
        if self.last == "pad":
            return -(-self._lane() // self.window) if self.tokens > 1 else 0
        return (self._lane() - 1) // self.window

    def __len__(self) -> int:
        """Windows that are left of this epoch."""
        return self._windows() - self.delivered // self.batch_size

    @property
    def batches(self) -> int:
        """Windows of a whole epoch."""
        return self._windows()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The rest of this epoch; then the next one begins."""
        while len(self):
            batch = self.batch(self.epoch, self.delivered)
            self.step()
            yield batch
        self.settle()
        self.turn()

    def step(self) -> None:
        """Count one window as handed to the loop."""
        self.delivered += self.batch_size

    def turn(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.delivered = 0

    def batch(self, epoch: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's rows of the window that begins when ``start`` was delivered; counts nothing."""
        number = start // self.batch_size
        first, stop = share(self.batch_size, self.rank, self.world_size)
        lane = self._lane()
        both = np.full((stop - first, self.window + 1), self.tokens_in.boundary, np.int64)
        begins = [row * lane + number * self.window for row in range(first, stop)]
        if self.last == "drop":
            self._text(epoch).fill(begins, both)
            tokens, targets = both[:, :-1], both[:, 1:]
        else:
            tokens, targets = self._padded(epoch, begins, [(row + 1) * lane for row in range(first, stop)], both)
        self.counters.add(samples=len(begins), bytes=both.size * self.tokens_in.width)
        if number + 1 >= self._windows():
            self._cache.settle()
        return torch.from_numpy(tokens), torch.from_numpy(targets)

    def _padded(
        self,
        epoch: int,
        begins: list[int],
        ends: list[int],
        both: Any,  # Any: int64 (rows, window + 1)
    ) -> tuple[Any, Any]:  # Any: as above
        """Rows that may reach beyond the end of their lane, or of the text."""
        targets = np.full((len(begins), self.window), IGNORED, np.int64)
        for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            # The last token of the text is a target, and has none itself.
            size = max(0, min(self.window, end - begin, self.tokens - 1 - begin))
            if size:
                self._text(epoch).fill([begin], both[row : row + 1, : size + 1])
                targets[row, :size] = both[row, 1 : size + 1]
                both[row, size:] = self.tokens_in.boundary
        return both[:, :-1], targets

    def _text(self, epoch: int) -> EpochText:
        found = self._texts.get(epoch)
        if found is None:
            counts = np.array([shard.samples for shard in self._shards], np.int64)
            order = Order(counts, self.seed, epoch, _SHARDS, shuffle=self.shuffle)
            first, stop = share(self.batch_size, self.rank, self.world_size)
            found = EpochText(self._cache, self._shards, order, self._totals, self.tokens_in, stop - first)
            # Two: windows of the next epoch are made while this one's are consumed.
            # A new dictionary: threads read it.
            kept = {other: text for other, text in self._texts.items() if abs(other - epoch) == 1}
            self._texts = {**kept, epoch: found}
        return found

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """Where the stream is, and what it is a stream of."""
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
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another text or cut."""
        own = self.state_dict()
        for name in ("content", "split", "seed", "window", "batch_size", "shuffle", "last"):
            if state.get(name) != own[name]:
                raise TrainingError(
                    f"the state is of {state.get('version')} with {name} {state.get(name)!r}, this stream is of "
                    f"{own['version']} with {own[name]!r}; resume with the same version and options"
                )
        self.epoch, self.delivered = position_of(state, self._windows() * self.batch_size)

    def settle(self) -> None:
        """Wait until all that was given is proven. Raises CorruptShard."""
        self._cache.settle()

    def close(self) -> None:
        """End the threads that read ahead. Raises CorruptShard if that is known by now of what was given."""
        self._cache.close()

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes
        return self.__dict__ | {"_texts": {}}  # another process has views of its own
