"""A pinned text version as contiguous windows of tokens, for truncated back-propagation through time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stoker.storage.manifest import Manifest
from stoker.storage.store import Store
from stoker.storage.tars import store_of_tars
from stoker.training.batching import by_shard
from stoker.training.cache import Cache
from stoker.training.counters import Counters
from stoker.training.errors import TrainingError
from stoker.training.order import Order, share
from stoker.training.samples import Samples
from stoker.training.stream import split_shards, version_of

BOUNDARY = 256  # the token before each document
VOCABULARY = 257  # bytes and the boundary
_FIELD = "txt"
_DOCUMENTS = 4096  # at a time


@dataclass
class TextStream:
    """An iterable of (tokens, targets), each (rows, ``window``) int64: row i goes on where row i of the last one ended.

    The documents of an epoch, in its order, make one long text of bytes, each document behind a boundary token. It
    is cut into ``batch_size`` lanes of equal length, one for each row. ``targets`` are the tokens one place further.
    At most batch_size + window tokens at the end of an epoch's text stay unread. Rank r has its share of the rows.

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
        self._cache = Cache(
            self.store, self.cache, counters=self.counters, tars=store_of_tars(self.store, self.manifest)
        )
        self._sizes = self._document_sizes()
        total = sum(int(sizes.sum()) for sizes in self._sizes)
        if self._windows() < 1:
            raise TrainingError(
                f"{self.manifest.reference}: split {self.split!r} has {total} tokens, fewer than batch_size "
                f"{self.batch_size} x (window {self.window} + 1); make one of them smaller"
            )

    def _document_sizes(self) -> list[npt.NDArray[np.int64]]:
        """The tokens of each document, its boundary among them, by shard: from the indexes alone."""
        found = []
        for shard in self._shards:
            sizes = self._cache.index(shard).sizes_of(_FIELD)
            if (sizes < 0).any():
                raise TrainingError(
                    f"{self.manifest.reference}: {shard.key} holds samples without a field {_FIELD!r}; a language "
                    "model needs a corpus of texts"
                )
            found.append(sizes + 1)
        return found

    @property
    def tokens(self) -> int:
        """Tokens of an epoch's text."""
        return sum(int(sizes.sum()) for sizes in self._sizes)

    def _lane(self) -> int:
        """Tokens of one row's lane."""
        return self.tokens // self.batch_size

    def _windows(self) -> int:
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
        text = self._text(epoch)
        place = start // self.batch_size * self.window
        first, stop = share(self.batch_size, self.rank, self.world_size)
        lane = self._lane()
        rows = np.stack([text[row * lane + place : row * lane + place + self.window + 1] for row in range(first, stop)])
        both = torch.from_numpy(rows.astype(np.int64))
        return both[:, :-1], both[:, 1:]

    def _text(self, epoch: int) -> npt.NDArray[np.uint16]:
        """The tokens of an epoch: two bytes each, in memory."""
        # Of two epochs, as a loader's threads make the next one's first windows beside the last ones of this.
        held: dict[int, npt.NDArray[np.uint16]] = self.__dict__.setdefault("_held", {})
        text = held.get(epoch)
        if text is None:
            counts = tuple(shard.samples for shard in self._shards)
            order = Order(counts, self.seed, epoch, shuffle=self.shuffle)
            text = np.empty(self.tokens, np.uint16)
            at = 0
            for start in range(0, order.samples, _DOCUMENTS):
                places = order.places(start, start + _DOCUMENTS)
                size = len(places[0])
                groups = self._cache.groups(by_shard(self._shards, places, np.arange(size)))
                for payload in Samples(groups, size).column(_FIELD):
                    assert payload is not None  # looked at in _document_sizes
                    text[at] = BOUNDARY
                    text[at + 1 : at + 1 + len(payload)] = np.frombuffer(payload, np.uint8)
                    at += 1 + len(payload)
            held[epoch] = text
            for old in list(held)[:-2]:
                held.pop(old, None)
        return text

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
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another text or cut."""
        own = self.state_dict()
        for name in ("content", "split", "seed", "window", "batch_size", "shuffle"):
            if state.get(name) != own[name]:
                raise TrainingError(
                    f"the state is of {state.get('version')} with {name} {state.get(name)!r}, this stream is of "
                    f"{own['version']} with {own[name]!r}; resume with the same version and options"
                )
        self.epoch, self.delivered = int(state["epoch"]), int(state["delivered"])

    def close(self) -> None:
        """End the threads that read ahead."""
        self._cache.close()


@lru_cache(maxsize=1)
def decode_tokens_table() -> tuple[bytes, ...]:
    """The bytes that each token stands for; a boundary is a blank line."""
    return (*(bytes([value]) for value in range(256)), b"\n\n")


def text_of(tokens: list[int]) -> str:
    """The text of byte tokens; what is no UTF-8 becomes the replacement character.

    >>> text_of([72, 105, 256, 33])
    'Hi\\n\\n!'
    """
    table = decode_tokens_table()
    return b"".join(table[token] for token in tokens).decode("utf-8", "replace")
