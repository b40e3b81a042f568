"""A pinned version as batches of samples: the same global order for any number of ranks and workers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from stoker.storage.manifest import Manifest, Shard, load_manifest
from stoker.storage.sample import Sample
from stoker.storage.store import Store
from stoker.training.cache import Cache
from stoker.training.errors import TrainingError
from stoker.training.order import Order, share

Last = Literal["short", "drop", "pad"]
Batch = Any  # what ``collate`` makes of decoded samples


def version_of(store: Store, version: Manifest | str) -> Manifest:
    """The manifest itself, or that of a reference such as "digits@2". Raises NotFound."""
    return version if isinstance(version, Manifest) else load_manifest(store, version)


@dataclass
class ShardStream:
    """An iterable of one epoch's batches after another: ``for batch in stream`` is an epoch, or the rest of one.

    ``batch_size`` is that of the global batch; rank r of ``world_size`` gets its share of it. A batch is
    ``collate([augment(decode(sample), draws), ...])``; without them, a list of Samples. ``last`` says what becomes of
    an incomplete last batch: shorter, dropped, or padded with the epoch's first samples.

    State is a few integers and counts what was handed to the loop: stop anywhere, load it into a stream with another
    number of ranks, and the global order goes on. Raises TrainingError for options that cannot work, CorruptShard,
    StorageError.
    """

    store: Store
    version: Manifest | str
    split: str = "train"
    batch_size: int = 64
    seed: int = 0
    shuffle: bool = True
    window: int = 8  # shards whose samples are shuffled among each other
    last: Last = "short"
    rank: int = 0
    world_size: int = 1
    fields: Sequence[str] | None = None  # that are read; None: all
    decode: Callable[[Sample], Any] | None = None
    augment: Callable[[Any, bytes], Any] | None = None  # what was decoded, and 32 random bytes of (seed, epoch, key)
    collate: Callable[[list[Any]], Batch] | None = None
    cache: Path | None = None  # folder for shards; None: one under the system's temporary folder
    epoch: int = field(default=0, init=False)
    delivered: int = field(default=0, init=False)  # samples of this epoch that the loop has had, over all ranks

    def __post_init__(self) -> None:
        self.manifest = version_of(self.store, self.version)
        self._shards = split_shards(self.manifest, self.split)
        if self.batch_size < 1 or self.window < 1:
            raise TrainingError(f"batch_size {self.batch_size}, window {self.window}: expected 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise TrainingError(f"rank {self.rank} of {self.world_size}: expected 0 to {self.world_size - 1}")
        if self.batch_size < self.world_size:
            raise TrainingError(f"batch_size {self.batch_size} is less than the {self.world_size} ranks that share it")
        self._cache = Cache(self.store, self.cache, held=2 * self.window)

    @property
    def samples(self) -> int:
        """Samples of an epoch, over all ranks."""
        return sum(shard.samples for shard in self._shards)

    def __len__(self) -> int:
        """Batches that are left of this epoch."""
        left = self.samples - self.delivered
        return left // self.batch_size if self.last == "drop" else -(-left // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch; then the next one begins."""
        while len(self):
            batch = self.batch(self.epoch, self.delivered)
            self.step()
            yield batch
        self.turn()

    def step(self) -> None:
        """Count one batch as handed to the loop."""
        self.delivered = min(self.samples, self.delivered + self.batch_size)

    def turn(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.delivered = 0

    def batch(self, epoch: int, start: int) -> Batch:
        """This rank's share of the global batch that begins at a position of an epoch; counts nothing."""
        order = self._order(epoch)
        places = order.places(start, start + self.batch_size)
        if self.last == "pad" and len(places) < self.batch_size:
            while len(places) < self.batch_size:
                places += order.places(0, self.batch_size - len(places))
        first, stop = share(len(places), self.rank, self.world_size)
        ahead = order.window_of(min(start + self.batch_size, order.samples - 1)) + 1
        self._cache.expect([self._shards[place] for place in order.shards_of(ahead)])
        samples = [self._cache.open(self._shards[shard]).sample(row, self.fields) for shard, row in places[first:stop]]
        examples: list[Any] = samples if self.decode is None else [self.decode(sample) for sample in samples]
        if self.augment is not None:
            draws = [hashlib.sha256(f"{self.seed}/{epoch}/{sample.key}".encode()).digest() for sample in samples]
            examples = [self.augment(example, drawn) for example, drawn in zip(examples, draws, strict=True)]
        return examples if self.collate is None else self.collate(examples)

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
            "shuffle": self.shuffle,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another order."""
        own = self.state_dict()
        for name in ("content", "split", "seed", "window", "shuffle"):
            if state.get(name) != own[name]:
                raise TrainingError(
                    f"the state is of {state.get('version')} with {name} {state.get(name)!r}, this stream is of "
                    f"{own['version']} with {own[name]!r}; resume with the same version and options"
                )
        self.epoch, self.delivered = int(state["epoch"]), int(state["delivered"])

    def close(self) -> None:
        """End the threads that read ahead."""
        self._cache.close()

    def _order(self, epoch: int) -> Order:
        counts = tuple(shard.samples for shard in self._shards)
        return _order(counts, self.seed, epoch, self.window, self.shuffle)


@lru_cache(maxsize=8)
def _order(counts: tuple[int, ...], seed: int, epoch: int, window: int, shuffle: bool) -> Order:
    return Order(counts, seed, epoch, window, shuffle)


def split_shards(manifest: Manifest, split: str) -> tuple[Shard, ...]:
    """The shards of a split. Raises TrainingError naming the splits there are."""
    shards = tuple(shard for shard in manifest.shards if shard.split == split)
    if not shards:
        there = ", ".join(f"{name} ({one.samples})" for name, one in manifest.splits.items()) or "none"
        raise TrainingError(f"{manifest.reference} has no samples in split {split!r}; its splits: {there}")
    return shards
