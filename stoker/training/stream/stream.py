"""A pinned version as batches of samples: the same global order for any number of ranks and workers."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from stoker.storage.shards.index import Int64Array
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Shard, load_manifest
from stoker.storage.versions.tar_store import store_of_tars
from stoker.training.errors import TrainingError
from stoker.training.reading.cache import MEGABYTES, Cache, CacheOptions
from stoker.training.reading.counters import Counters
from stoker.training.stream.batching import (
    BatchStream,
    SampleOrder,
    check_same_order,
    group_by_shard,
    position_of,
)
from stoker.training.stream.deprecated import warn_renamed
from stoker.training.stream.order import EpochOrder, most_shards
from stoker.training.stream.withdrawn import Located

ADOPTED = ("quick_start", "full_windows")  # options that a stream takes from the state that it goes on from


def version_of(store: Store, version: Manifest | str) -> Manifest:
    """The manifest itself, or that of a reference such as "digits@2". Raises NotFound."""
    return version if isinstance(version, Manifest) else load_manifest(store, version)


class ShardOrder:
    """The samples of some shards in the order of each epoch: a SampleOrder that reads ahead by windows of shards."""

    def __init__(
        self,
        cache: Cache,
        shards: Sequence[Shard],
        *,
        seed: int,
        window: int,
        shuffle: bool,
        quick_start: bool,
        full_windows: bool,
    ) -> None:
        self.cache, self.shards = cache, shards
        self._seed, self._window, self._shuffle = seed, window, shuffle
        self._quick_start, self._full_windows = quick_start, full_windows
        self._counts = np.array([shard.samples for shard in shards], np.int64)
        self._samples = int(self._counts.sum())
        self._epochs: dict[int, EpochOrder] = {}
        self._prefetched = (-1, -1)  # epoch and window

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return self._samples

    def of_epoch(self, epoch: int) -> EpochOrder:
        """The order of one epoch."""
        order = self._epochs.get(epoch)
        # Of the first epoch alone: by the end of one the first window of the next is here.
        quick_start = self._quick_start and epoch == 0
        # A thread may have kept an order from before a state was loaded.
        if order is None or (order.quick_start, order.full_windows) != (quick_start, self._full_windows):
            options = self._window, self._shuffle, quick_start, self._full_windows
            order = EpochOrder(self._counts, self._seed, epoch, *options)
            # Two: batches of the next epoch are made while this one's are consumed. A new dictionary: threads read it.
            kept = {other: known for other, known in self._epochs.items() if abs(other - epoch) == 1}
            self._epochs = {**kept, epoch: order}
        return order

    def use(self, *, quick_start: bool, full_windows: bool) -> None:
        """Set whether the first epoch has a quick start, and whether windows are counted in samples."""
        if (quick_start, full_windows) != (self._quick_start, self._full_windows):
            self._quick_start, self._full_windows, self._epochs = quick_start, full_windows, {}

    def locate(self, epoch: int, start: int, stop: int) -> Located:
        """See SampleOrder."""
        located = self.of_epoch(epoch).locate(start, stop)
        return [(self.cache, group_by_shard(self.shards, located, np.arange(len(located[0]))))]

    def prefetch(self, epoch: int, position: int) -> None:
        """See SampleOrder: the next window of shards."""
        order = self.of_epoch(epoch)
        used = order.shards_of(order.window_of(max(0, min(position, order.samples - 1))))
        if position >= order.samples:
            order, window = self.of_epoch(epoch + 1), 0
        else:
            window = order.window_of(position) + 1
        key = (order.epoch, window)
        if key != self._prefetched:
            self._prefetched = key
            self.cache.read_ahead(self._shards_at(order.shards_of(window)), used=self._shards_at(used))

    def _shards_at(self, indexes: Int64Array) -> list[Shard]:
        return [self.shards[index] for index in indexes.tolist()]

    def wait_verified(self) -> None:
        """See SampleOrder."""
        self.cache.wait_verified()


@dataclass
class ShardStream(BatchStream):
    """Batches, one epoch for each loop: ``for batch in stream`` runs to the end of the epoch.

    >>> from stoker.testing import sample_corpus
    >>> store, manifest = sample_corpus(12)
    >>> stream = ShardStream(store, manifest, batch_size=4, seed=1, decode=lambda sample: int(sample.fields["txt"]))
    >>> list(stream)
    [[5, 8, 0, 7], [4, 1, 6, 2], [9, 10, 3, 11]]
    >>> stream.state_dict()["epoch"], stream.state_dict()["delivered"]
    (1, 0)
    >>> stream.close()

    A batch is ``make(samples, random_bytes)``; or ``collate([augment(decode(sample), random_bytes), ...])``, where what
    is None is left out; or, without any of the four, Samples.

    The state is a few integers and counts what was handed to the loop. Stop anywhere and load the state into a stream
    with another number of ranks: the global order goes on.

    A sample that cannot be decoded (CorruptSample), or whose shard is not what the manifest says (CorruptShard), ends
    the stream; or with ``on_corrupt="skip"`` it is left out of its batch and counted. With ``"skip_samples"`` those
    that cannot be decoded are left out, and a damaged shard ends the stream.

    Samples may be read before the download of their shard ends, so before it is verified. The end of an epoch waits
    until all of them are; call ``wait_verified()``, which raises CorruptShard, before weights are saved. With
    ``on_corrupt="skip"`` samples are read from verified shards only, for which the first batch waits.

    Args:
        store: where the version is.
        version: its manifest, or a reference such as "digits@2".
        split: which samples.
        batch_size: samples of the global batch, over all ranks.
        seed: of the order, and of the random bytes.
        shuffle: False: shard by shard, as the samples are stored.
        window: how many samples are shuffled among each other, in shards of the largest size: smaller ones are put
            together, up to eight times as many.
        quick_start: the first epoch begins with 128 samples from the beginnings of two shards, 128 more of these, and
            then more and more of the first window, so that it does not wait until its shards are here; False: it is
            shuffled like the others.
        full_windows: False: ``window`` counts shards of any size, as in releases before masks.
        last: what becomes of an incomplete last batch: "short" keeps it, "drop" leaves it out, "pad" fills it with the
            epoch's first samples (``padding`` tells how many).
        rank: which share of each global batch.
        world_size: how many ranks share it.
        fields: the fields that a decoded or indexed sample has; None: all.
        make: a batch from its Samples, and 32 random bytes for each of them.
        decode: an example from a Sample.
        augment: an example from an example, and 32 random bytes that depend on (seed, epoch, key).
        collate: a batch from the list of its examples.
        on_corrupt: "stop", "skip" (samples that cannot be decoded, and all of damaged shards) or "skip_samples" (the
            former only).
        skip_budget: samples that may be skipped in all; one that comes in each epoch counts once, and a state keeps it.
        cache: folder for shards; None: one below the system's folder for temporary files.
        cache_megabytes: that the folder may hold.

    Raises TrainingError for options that cannot work, CorruptShard, StorageError.
    """

    store: Store
    version: Manifest | str
    split: str = "train"
    _: KW_ONLY
    shuffle: bool = True
    window: int = 8
    quick_start: bool = True
    full_windows: bool = True
    cache: Path | str | None = None
    cache_megabytes: int = MEGABYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        self.manifest = version_of(self.store, self.version)
        self._shards = split_shards(self.manifest, self.split)
        if self.window < 1:
            raise TrainingError(f"window {self.window}: expected 1 or more shards")
        window = most_shards([shard.samples for shard in self._shards], self.window)
        self._cache = Cache(
            self.store,
            CacheOptions(folder=self.cache, megabytes=self.cache_megabytes, open_shards=2 * window),
            counters=self.counters,
            tars=store_of_tars(self.store, self.manifest),
        )
        self.shard_order = ShardOrder(
            self._cache,
            self._shards,
            seed=self.seed,
            window=self.window,
            shuffle=self.shuffle,
            quick_start=self.quick_start,
            full_windows=self.full_windows,
        )
        self._compose(self._sample_order())

    def _sample_order(self) -> SampleOrder:
        return self.shard_order

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of the split, as an order counts them."""
        return self._shards

    def order(self, epoch: int) -> EpochOrder:
        """The global order of an epoch."""
        return self.shard_order.of_epoch(epoch)

    def known_shards(self) -> list[tuple[str, str, str]]:
        """URL, key and SHA-256 of each shard of the split."""
        return [(self._cache.url_of(shard), shard.key, shard.sha256) for shard in self._shards]

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
            "quick_start": self.quick_start,
            "full_windows": self.full_windows,
        }

    def adopt_order(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Take from a state what its stream decided about the order: older releases had none of this."""
        for option in ADOPTED:
            object.__setattr__(self, option, state.get(option) is True)  # else an option is fixed
        self.shard_order.use(quick_start=self.quick_start, full_windows=self.full_windows)
        self._cache.forget_told()
        self._compose(self._sample_order())  # which may know some of the old order

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """The stream's position, and what it is a stream of."""
        return {"epoch": self.epoch, "delivered": self.delivered, **self.identity(), **self._skipped_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another order."""
        compared = [name for name in self.identity() if name not in ("version", *ADOPTED)]
        check_same_order(state, self.state_dict(), compared)
        position = position_of(state, self.samples)
        self.skipped.load(state, self.known_shards())
        self.adopt_order(state)
        self.epoch, self.delivered = position
        self.last_start = None

    def reopen(self) -> Self:
        """The same stream at the beginning, with connections, locks and threads of its own: for a forked process."""
        # By its manifest: its name may mean another version by now.
        return replace(self, store=self.store.reopen(), version=self.manifest)

    def close(self) -> None:
        """End the threads that read ahead. Raises CorruptShard if delivered samples are known to be corrupt."""
        self._cache.close()

    @property
    def cache_of_shards(self) -> Cache:
        """Old name of ``shard_order.cache``."""
        warn_renamed(f"{type(self).__name__}.cache_of_shards", "shard_order.cache", stacklevel=3)
        return self._cache


def split_shards(manifest: Manifest, split: str) -> tuple[Shard, ...]:
    """The shards of a split. Raises TrainingError naming the splits there are."""
    shards = tuple(shard for shard in manifest.shards if shard.split == split)
    if not any(shard.samples for shard in shards):
        splits = ", ".join(f"{name} ({totals.samples})" for name, totals in manifest.splits.items()) or "none"
        raise TrainingError(f"{manifest.reference} has no samples in split {split!r}; its splits: {splits}")
    return shards
