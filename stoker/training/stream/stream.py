"""A pinned version as batches of samples: the same global order for any number of ranks and workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stoker.storage.indexed.tars import store_of_tars
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Shard, load_manifest
from stoker.training.errors import TrainingError
from stoker.training.reading.cache import MEGABYTES, Cache
from stoker.training.reading.counters import Counters
from stoker.training.reading.samples import Samples
from stoker.training.stream.batching import Batch, Batching, Last, Wanted, by_shard
from stoker.training.stream.order import Order


def version_of(store: Store, version: Manifest | str) -> Manifest:
    """The manifest itself, or that of a reference such as "digits@2". Raises NotFound."""
    return version if isinstance(version, Manifest) else load_manifest(store, version)


@dataclass
class ShardStream(Batching):
    """An iterable of one epoch's batches after another: ``for batch in stream`` is an epoch, or the rest of one.

    ``batch_size`` is that of the global batch; rank r of ``world_size`` gets its share of it. A batch is what ``make``
    makes of the samples as they lie there, or ``collate([augment(decode(sample), draws), ...])``; without any of them,
    Samples. ``last`` says what becomes of an incomplete last batch: shorter, dropped, or padded with the epoch's first
    samples (``padding`` tells how many of a batch are such).

    State is a few integers and counts what was handed to the loop: stop anywhere, load it into a stream with another
    number of ranks, and the global order goes on. A sample that cannot be decoded (CorruptSample) or whose shard is not
    what the manifest says (CorruptShard) ends the stream, or with ``on_corrupt="skip"`` is left out of its batch and
    counted, up to ``skip_budget`` of them.

    Samples may be given before their shard is whole. Whether they were sound is known at the end of the epoch at the
    latest, or after ``settle()``, which raises CorruptShard if not: call it before what was learned is kept. With
    ``skip`` they are given from whole, proven shards alone, for which the first batch waits.
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
        self.check_options()
        if self.window < 1:
            raise TrainingError(f"window {self.window}: expected 1 or more shards")
        self._counts = np.array([shard.samples for shard in self._shards], np.int64)
        self._samples = int(self._counts.sum())
        self._orders: dict[int, Order] = {}
        self._expected = (-1, -1)  # epoch and window
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
        return self._samples

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of the split, as an order counts them."""
        return self._shards

    def wanted(self, epoch: int, start: int, stop: int) -> Wanted:
        """See Batching."""
        places = self.order(epoch).places(start, stop)
        return [(self._cache, by_shard(self._shards, places, np.arange(len(places[0]))))]

    def expect(self, epoch: int, stop: int) -> None:
        """See Batching: the next window of shards."""
        order = self.order(epoch)
        if stop >= order.samples:
            order, stop = self.order(epoch + 1), 0
            window = 0
        else:
            window = order.window_of(stop) + 1
        key = (order.epoch, window)
        if key != self._expected:
            self._expected = key
            self._cache.expect([self._shards[place] for place in order.shards_of(window).tolist()])

    @property
    def cache_of_shards(self) -> Cache:
        """What brings its shards here."""
        return self._cache

    def count_into(self, counters: Counters) -> None:
        """Count into other counters from now on: those of a stream that this one is a part of."""
        self.counters = counters
        self._cache.count_into(counters)

    def identity(self) -> dict[str, Any]:  # Any: integers and texts
        """What the order of the samples depends on."""
        return {
            "version": self.manifest.reference,
            "content": self.manifest.content,
            "split": self.split,
            "seed": self.seed,
            "window": self.window,
            "shuffle": self.shuffle,
        }

    def settle(self) -> None:
        """See Batching."""
        self._cache.settle()

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """Where the stream is, and what it is a stream of."""
        return {"epoch": self.epoch, "delivered": self.delivered, **self.identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another order."""
        own = self.state_dict()
        for name in (name for name in self.identity() if name != "version"):
            if state.get(name) != own[name]:
                raise TrainingError(
                    f"the state is of {state.get('version')} with {name} {state.get(name)!r}, this stream is of "
                    f"{own['version']} with {own[name]!r}; resume with the same version and options"
                )
        self.epoch, self.delivered = position_of(state, self.samples)

    def close(self) -> None:
        """End the threads that read ahead. Raises CorruptShard if that is known by now of what was given."""
        self._cache.close()

    def order(self, epoch: int) -> Order:
        """The global order of an epoch."""
        found = self._orders.get(epoch)
        if found is None:
            found = Order(self._counts, self.seed, epoch, self.window, self.shuffle)
            # Two: batches of the next epoch are made while this one's are consumed. A new dictionary: threads read it.
            kept = {other: order for other, order in self._orders.items() if abs(other - epoch) == 1}
            self._orders = {**kept, epoch: found}
        return found


def split_shards(manifest: Manifest, split: str) -> tuple[Shard, ...]:
    """The shards of a split. Raises TrainingError naming the splits there are."""
    shards = tuple(shard for shard in manifest.shards if shard.split == split)
    if not shards:
        there = ", ".join(f"{name} ({one.samples})" for name, one in manifest.splits.items()) or "none"
        raise TrainingError(f"{manifest.reference} has no samples in split {split!r}; its splits: {there}")
    return shards


def position_of(state: Mapping[str, Any], samples: int) -> tuple[int, int]:  # Any: integers and texts
    """Epoch and delivered samples of a state. Raises TrainingError if they cannot be."""
    epoch, delivered = state.get("epoch"), state.get("delivered")
    if not isinstance(epoch, int) or not isinstance(delivered, int) or epoch < 0 or not 0 <= delivered <= samples:
        raise TrainingError(
            f"a state with epoch {epoch!r} and {delivered!r} samples delivered of {samples:,}: it is damaged"
        )
    return epoch, delivered
