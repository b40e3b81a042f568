"""A pinned version as batches of samples: the same global order for any number of ranks and workers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stoker.storage.index import Places
from stoker.storage.manifest import Manifest, Shard, load_manifest
from stoker.storage.sample import Sample
from stoker.storage.store import Store
from stoker.storage.tars import store_of_tars
from stoker.training.cache import MEGABYTES, Cache
from stoker.training.counters import Counters
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.order import Order, share
from stoker.training.samples import Samples

Last = Literal["short", "drop", "pad"]
Batch = Any  # what ``collate`` makes of decoded samples


def version_of(store: Store, version: Manifest | str) -> Manifest:
    """The manifest itself, or that of a reference such as "digits@2". Raises NotFound."""
    return version if isinstance(version, Manifest) else load_manifest(store, version)


@dataclass
class ShardStream:
    """An iterable of one epoch's batches after another: ``for batch in stream`` is an epoch, or the rest of one.

    ``batch_size`` is that of the global batch; rank r of ``world_size`` gets its share of it. A batch is what ``make``
    makes of the samples as they lie there, or ``collate([augment(decode(sample), draws), ...])``; without any of them,
    Samples. ``last`` says what becomes of an incomplete last batch: shorter, dropped, or padded with the epoch's first
    samples (``padding`` tells how many of a batch are such).

    State is a few integers and counts what was handed to the loop: stop anywhere, load it into a stream with another
    number of ranks, and the global order goes on. A sample that cannot be decoded (CorruptSample) ends the stream, or
    with ``on_corrupt="skip"`` is left out of its batch and counted, up to ``skip_budget`` of them.
    Raises TrainingError for options that cannot work, CorruptShard, StorageError.
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
    fields: Sequence[str] | None = None  # that samples have; None: all
    make: Callable[[Samples, Sequence[bytes]], Batch] | None = None  # the samples, and 32 random bytes of each
    decode: Callable[[Sample], Any] | None = None
    augment: Callable[[Any, bytes], Any] | None = None  # what was decoded, and 32 random bytes of (seed, epoch, key)
    collate: Callable[[list[Any]], Batch] | None = None
    on_corrupt: Literal["stop", "skip"] = "stop"
    skip_budget: int = 100  # samples that may be skipped in all
    cache: Path | None = None  # folder for shards; None: one under the system's temporary folder
    cache_megabytes: int = MEGABYTES
    epoch: int = field(default=0, init=False)
    delivered: int = field(default=0, init=False)  # samples of this epoch that the loop has had, over all ranks
    counters: Counters = field(default_factory=Counters, init=False, repr=False)

    def __post_init__(self) -> None:
        self.manifest = version_of(self.store, self.version)
        self._shards = split_shards(self.manifest, self.split)
        if self.batch_size < 1 or self.window < 1:
            raise TrainingError(f"batch_size {self.batch_size}, window {self.window}: expected 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise TrainingError(f"rank {self.rank} of {self.world_size}: expected 0 to {self.world_size - 1}")
        if self.batch_size < self.world_size:
            raise TrainingError(f"batch_size {self.batch_size} is less than the {self.world_size} ranks that share it")
        if self.make is not None and (self.decode or self.augment or self.collate):
            raise TrainingError("make takes whole batches; decode, augment and collate are not called beside it")
        self._counts = np.array([shard.samples for shard in self._shards], np.int64)
        self._cache = Cache(
            self.store,
            self.cache,
            megabytes=self.cache_megabytes,
            held=2 * self.window,
            counters=self.counters,
            tars=store_of_tars(self.store, self.manifest),
        )

    @property
    def samples(self) -> int:
        """Samples of an epoch, over all ranks."""
        return int(self._counts.sum())

    def __len__(self) -> int:
        """Batches that are left of this epoch."""
        left = self.samples - self.delivered
        return left // self.batch_size if self.last == "drop" else -(-left // self.batch_size)

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""
        return self.samples // self.batch_size if self.last == "drop" else -(-self.samples // self.batch_size)

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
        """This rank's share of the global batch that begins at a position of an epoch; counts nothing as delivered."""
        order = self.order(epoch)
        samples = self._samples(order, *self.places(epoch, start))
        ahead = order.window_of(min(start + self.batch_size, order.samples - 1)) + 1
        self._cache.expect([self._shards[place] for place in order.shards_of(ahead).tolist()])
        while True:
            try:
                return self.made(samples, epoch)
            except CorruptSample as error:
                self._skip(error)
                samples = samples.without(error.place)

    def places(self, epoch: int, start: int) -> tuple[Places, Places]:
        """The shards' places and the rows of this rank's share of the global batch that begins at a position."""
        order = self.order(epoch)
        size = min(self.batch_size, order.samples - start)
        if self.last == "pad" and size < self.batch_size:
            shards, rows = order.places(start, start + size)
            while size < self.batch_size:
                more = order.places(0, self.batch_size - size)
                shards, rows = np.concatenate([shards, more[0]]), np.concatenate([rows, more[1]])
                size = len(rows)
            first, stop = share(size, self.rank, self.world_size)
            return shards[first:stop], rows[first:stop]
        first, stop = share(size, self.rank, self.world_size)
        return order.places(start + first, start + stop)

    def padding(self, start: int) -> int:
        """How many samples at the end of this rank's share of that batch are there for the second time."""
        if self.last != "pad":
            return 0
        real = min(self.batch_size, self.samples - start)
        first, stop = share(self.batch_size, self.rank, self.world_size)
        return stop - max(first, min(stop, real))

    def _samples(self, order: Order, shards: Places, rows: Places) -> Samples:
        wanted = [
            (self._shards[shard], rows[places], places)
            for shard in np.unique(shards).tolist()
            for places in [np.flatnonzero(shards == shard)]
        ]
        groups = self._cache.groups(wanted)
        samples = Samples(groups, len(rows), self.fields)
        self.counters.add(samples=len(rows), bytes=samples.size)
        return samples

    def made(self, samples: Samples, epoch: int) -> Batch:
        """What ``make``, or decode, augment and collate, make of samples in an epoch. Raises CorruptSample."""
        if self.make is not None:
            return self.make(samples, [self._drawn(epoch, key) for key in samples.keys])
        if self.decode is None and self.augment is None:
            return samples if self.collate is None else self.collate(list(samples))
        examples: list[Any] = []
        for sample in samples:
            example = sample if self.decode is None else self.decode(sample)
            examples.append(example if self.augment is None else self.augment(example, self._drawn(epoch, sample.key)))
        return examples if self.collate is None else self.collate(examples)

    def _drawn(self, epoch: int, key: str) -> bytes:
        return hashlib.sha256(f"{self.seed}/{epoch}/{key}".encode()).digest()

    def _skip(self, error: CorruptSample) -> None:
        if self.on_corrupt == "stop":
            raise error
        self.counters.add(skipped=1)
        if (skipped := int(self.counters.sums()["skipped"])) > self.skip_budget:
            raise TrainingError(
                f"{skipped} samples were skipped, more than the budget of {self.skip_budget}; the last one: {error}"
            ) from error

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

    def order(self, epoch: int) -> Order:
        """The global order of an epoch."""
        held = self.__dict__.get("_held")
        if held is None or held.epoch != epoch:
            held = Order(self._counts, self.seed, epoch, self.window, self.shuffle)
            self._held = held
        return held


def split_shards(manifest: Manifest, split: str) -> tuple[Shard, ...]:
    """The shards of a split. Raises TrainingError naming the splits there are."""
    shards = tuple(shard for shard in manifest.shards if shard.split == split)
    if not shards:
        there = ", ".join(f"{name} ({one.samples})" for name, one in manifest.splits.items()) or "none"
        raise TrainingError(f"{manifest.reference} has no samples in split {split!r}; its splits: {there}")
    return shards
