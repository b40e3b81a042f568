"""What every stream of batches does alike: it cuts an order of samples into batches, shares each, and counts."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.index import Places
from stoker.storage.shards.sample import Sample
from stoker.storage.versions.manifest import Shard
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.reading.cache import Cache
from stoker.training.reading.counters import Counters
from stoker.training.reading.samples import Group, Samples
from stoker.training.stream.order import share

Last = Literal["short", "drop", "pad"]
Batch = Any  # what ``make`` or ``collate`` make of samples
Wanted = list[tuple[Cache, list[tuple[Shard, Places, Places]]]]  # of each cache: shard, rows, places in the batch


class Batching:
    """Batches of an order of samples that a subclass, a dataclass with these fields, looks up."""

    batch_size: int
    seed: int
    last: Last
    rank: int
    world_size: int
    fields: Sequence[str] | None
    make: Callable[[Samples, Sequence[bytes]], Batch] | None
    decode: Callable[[Sample], Any] | None
    augment: Callable[[Any, bytes], Any] | None
    collate: Callable[[list[Any]], Batch] | None
    on_corrupt: Literal["stop", "skip"]
    skip_budget: int
    epoch: int
    delivered: int
    counters: Counters

    @property
    def samples(self) -> int:
        """Samples of an epoch, over all ranks."""
        raise NotImplementedError

    def wanted(self, epoch: int, start: int, stop: int) -> Wanted:
        """Where the samples at the positions [start, stop) of an epoch lie; places count from ``start``."""
        raise NotImplementedError

    def expect(self, epoch: int, stop: int) -> None:
        """Begin to fetch what comes behind a position."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until all that was given is proven. Raises CorruptShard."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Batches that are left of this epoch."""
        return self._batches(self.samples - self.delivered)

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""
        return self._batches(self.samples)

    def _batches(self, samples: int) -> int:
        return samples // self.batch_size if self.last == "drop" else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch; then the next one begins."""
        while len(self):
            batch = self.batch(self.epoch, self.delivered)
            self.step()
            yield batch
        self.settle()
        self.turn()

    def step(self) -> None:
        """Count one batch as handed to the loop. Raises TrainingError when too many samples were skipped."""
        self.delivered = min(self.samples, self.delivered + self.batch_size)
        self.check_skipped("")

    def turn(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.delivered = 0

    def batch(self, epoch: int, start: int) -> Batch:
        """This rank's share of the global batch that begins at a position of an epoch; counts nothing as delivered."""
        samples = self.gathered(self.share_of(epoch, start))
        self.expect(epoch, min(start + self.batch_size, self.samples))
        if start + self.batch_size >= self.samples:
            self.settle()
        while True:
            try:
                return self.made(samples, epoch)
            except CorruptSample as error:
                self._skip(error, 1)
                samples = samples.without(error.index)

    def share_of(self, epoch: int, start: int) -> Wanted:
        """Where the samples of this rank's share of the global batch that begins at a position lie."""
        size = min(self.batch_size, self.samples - start)
        if self.last != "pad" or size == self.batch_size:
            first, stop = share(size, self.rank, self.world_size)
            return self.wanted(epoch, start + first, start + stop)
        # The end of the epoch, and then its beginning as often as it takes.
        first, stop = share(self.batch_size, self.rank, self.world_size)
        found: Wanted = self.wanted(epoch, start + min(first, size), start + min(stop, size))
        place = max(first, size)
        while place < stop:
            again = (place - size) % self.samples
            more = min(stop - place, self.samples - again)
            for cache, wanted in self.wanted(epoch, again, again + more):
                found.append((cache, [(shard, rows, places + (place - first)) for shard, rows, places in wanted]))
            place += more
        return found

    def padding(self, start: int) -> int:
        """How many samples at the end of this rank's share of that batch are there for the second time."""
        if self.last != "pad":
            return 0
        real = min(self.batch_size, self.samples - start)
        first, stop = share(self.batch_size, self.rank, self.world_size)
        return stop - max(first, min(stop, real))

    def gathered(self, wanted: Wanted) -> Samples:
        """The samples that lie there. Raises CorruptShard unless it is to be skipped, StorageError."""
        groups: list[Group] = []
        for cache, some in wanted:
            if self.on_corrupt == "stop":
                groups += cache.groups(some)
            else:
                groups += self._intact(cache, some)
        size = sum(len(group.rows) for group in groups)
        if size < sum(len(rows) for _, some in wanted for _, rows, _ in some):
            groups = _closed_up(groups)
        samples = Samples(groups, size, self.fields)
        self.counters.add(samples=size, bytes=samples.size)
        return samples

    def _intact(self, cache: Cache, wanted: list[tuple[Shard, Places, Places]]) -> list[Group]:
        """The samples of those shards that are proven not to be corrupt; the others are counted."""
        found: list[Group] = []
        cache.expect([shard for shard, _, _ in wanted])
        for one in wanted:
            try:
                found += cache.groups([one], proven=True)
            except CorruptShard as corrupt:  # rare
                self._skip(corrupt, len(one[1]))
        return found

    def made(self, samples: Samples, epoch: int) -> Batch:
        """What ``make``, or decode, augment and collate, make of samples in an epoch. Raises CorruptSample."""
        if self.make is not None:
            return self.make(samples, [self._drawn(epoch, key) for key in samples.keys])
        if self.decode is None and self.augment is None:
            return samples if self.collate is None else self.collate(list(samples))
        examples: list[Any] = []
        for place, sample in enumerate(samples):
            try:
                example = sample if self.decode is None else self.decode(sample)
                examples.append(self.augment(example, self._drawn(epoch, sample.key)) if self.augment else example)
            except CorruptSample as error:
                raise CorruptSample(place, str(error)) from error  # its own index is that of a batch of one
        return examples if self.collate is None else self.collate(examples)

    def _drawn(self, epoch: int, key: str) -> bytes:
        return hashlib.sha256(f"{self.seed}/{epoch}/{key}".encode()).digest()

    def _skip(self, error: CorruptSample | CorruptShard, samples: int) -> None:
        if self.on_corrupt == "stop":
            raise error
        self.counters.add(skipped=samples)
        self.check_skipped(str(error), error)

    def check_skipped(self, last: str, cause: Exception | None = None) -> None:
        """Raise TrainingError if more samples were skipped than may be, by whichever worker."""
        if (skipped := int(self.counters.sums().get("skipped", 0))) > self.skip_budget:
            told = f"; the last one: {last}" if last else ""
            raise TrainingError(
                f"{skipped} samples were skipped, more than the budget of {self.skip_budget}{told}"
            ) from cause

    def check_options(self) -> None:
        """Raise TrainingError for options that cannot work."""
        if self.batch_size < 1:
            raise TrainingError(f"batch_size {self.batch_size}: expected 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise TrainingError(f"rank {self.rank} of {self.world_size}: expected 0 to {self.world_size - 1}")
        if self.batch_size < self.world_size:
            raise TrainingError(f"batch_size {self.batch_size} is less than the {self.world_size} ranks that share it")
        if self.last == "pad" and self.on_corrupt == "skip":
            raise TrainingError(
                "last='pad' needs on_corrupt='stop': where a sample is skipped, a padded batch is not as large as ever"
            )
        if self.make is not None and (self.decode or self.augment or self.collate):
            raise TrainingError("make takes whole batches; decode, augment and collate are not called beside it")
        if self.last not in ("short", "drop", "pad") or self.on_corrupt not in ("stop", "skip"):
            raise TrainingError(
                f"last {self.last!r}, on_corrupt {self.on_corrupt!r}: expected short, drop or pad; and stop or skip"
            )


def _closed_up(groups: list[Group]) -> list[Group]:
    """The groups with places that have no gaps, in the same order."""
    there = np.sort(np.concatenate([group.places for group in groups] or [np.zeros(0, np.int64)]))
    return [group.keeping(np.ones(len(group.rows), bool), np.searchsorted(there, group.places)) for group in groups]


def by_shard(shards: Sequence[Shard], places: tuple[Places, Places], at: Places) -> list[tuple[Shard, Places, Places]]:
    """Rows of several shards as one entry a shard; ``at``: their places in the batch."""
    numbers, rows = places
    order = np.argsort(numbers, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(numbers[order])) + 1).tolist(), len(order)]
    return [
        (shards[int(numbers[own[0]])], rows[own], at[own])
        for begin, end in pairwise(edges)
        if len(own := order[begin:end])
    ]
