"""Batches of an order of samples: cut, shared among ranks, made into what the loop wants, and counted.

A SampleOrder says where the samples at the positions of an epoch are; a BatchStream makes batches of them as its
options say. A batch is a function of (order, options, epoch, position) alone, so any thread or process can make any
batch, and the state of a stream is a position.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NoReturn, Protocol

import numpy as np

from stoker.storage.errors import CorruptShard, StokerError
from stoker.storage.plural import plural
from stoker.storage.shards.index import Int64Array
from stoker.storage.shards.sample import Sample
from stoker.storage.versions.manifest import Shard
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.reading.cache import Cache, ShardRows
from stoker.training.reading.counters import Counters
from stoker.training.reading.purged import PurgedMeanwhile
from stoker.training.reading.samples import Samples, ShardSlice
from stoker.training.stream.deprecated import renamed
from stoker.training.stream.options import check_options
from stoker.training.stream.order import share
from stoker.training.stream.skipped import SampleId, SkippedSamples
from stoker.training.stream.withdrawn import Located, moved, size_of, without_withdrawn

Last = Literal["short", "drop", "pad"]
_MAX_NAMES = 12  # fields, or names of a record, in a message
_LONGEST_MESSAGE = 300  # characters of another library's error
Batch = Any  # what ``make`` or ``collate`` returns


class SampleOrder(Protocol):
    """Where the samples at each position of each epoch are."""

    @property
    def samples(self) -> int:
        """Samples of an epoch, over all ranks."""

    def locate(self, epoch: int, start: int, stop: int) -> Located:
        """Where the samples at the positions [start, stop) of an epoch are; the slots count from ``start``."""

    def prefetch(self, epoch: int, position: int) -> None:
        """Start fetching the shards that come after a position."""

    def wait_verified(self) -> None:
        """Wait until all samples that were read are verified. Raises CorruptShard; StorageError."""


@dataclass
class EpochStream:
    """Epochs of batches that can be had by their position, and the position of the loop."""

    epoch: int = field(default=0, init=False)
    delivered: int = field(default=0, init=False)  # samples of this epoch that the loop has had, over all ranks
    # Where the batch began that the loop had last; None before the first of an epoch and after a state was loaded.
    last_start: int | None = field(default=None, init=False, repr=False)
    counters: Counters = field(default_factory=Counters, init=False, repr=False)

    def __len__(self) -> int:
        """Batches that are left of this epoch."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch; then the next one begins."""
        while len(self):
            batch = self.batch(self.epoch, self.delivered)
            self.advance()
            yield batch
        self.wait_verified()
        self.next_epoch()

    def batch(self, epoch: int, start: int) -> Batch:
        """This rank's share of the global batch that begins at a position of an epoch. Does not move the stream."""
        raise NotImplementedError

    def advance(self) -> None:
        """Count one batch as handed to the loop."""
        raise NotImplementedError

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.delivered, self.last_start = 0, None

    def wait_verified(self) -> None:
        """Wait until all samples that were handed out are verified. Raises CorruptShard; StorageError."""
        raise NotImplementedError

    def __getitem__(self, number: object) -> NoReturn:
        """Raise TrainingError: what torch's DataLoader would do with a stream."""
        name = type(self).__name__
        raise TrainingError(
            f"a {name} has no [{number!r}]: it is read in its order, `for batch in stream`. To make batches ahead use "
            "stoker.training.Loader(stream, workers=2), or torch's DataLoader(stoker.training.Batches(stream), "
            "batch_size=None)"
        )

    step = renamed("step", "advance")
    turn = renamed("turn", "next_epoch")
    settle = renamed("settle", "wait_verified")


@dataclass(kw_only=True)
class BatchStream(EpochStream):
    """Batches of a SampleOrder; a subclass calls ``_compose`` with it. ShardStream describes the self.

    Raises TrainingError for options that cannot work.
    """

    batch_size: int = 64
    seed: int = 0
    last: Last = "short"
    rank: int = 0
    world_size: int = 1
    fields: Sequence[str] | None = None
    make: Callable[[Samples, Sequence[bytes]], Batch] | None = None
    decode: Callable[[Sample], Any] | None = None
    augment: Callable[[Any, bytes], Any] | None = None
    collate: Callable[[list[Any]], Batch] | None = None
    on_corrupt: Literal["stop", "skip", "skip_samples"] = "stop"
    skip_budget: int = 100
    skipped: SkippedSamples = field(default_factory=SkippedSamples, init=False, repr=False)

    def __post_init__(self) -> None:
        check_options(self)
        if self.batch_size < 1:
            raise TrainingError(f"batch_size {self.batch_size}: expected 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise TrainingError(f"rank {self.rank} of {self.world_size}: expected 0 to {self.world_size - 1}")
        if self.batch_size < self.world_size:
            raise TrainingError(f"batch_size {self.batch_size} is less than the {self.world_size} ranks that share it")
        if self.last == "pad" and self.on_corrupt != "stop":
            raise TrainingError(
                "last='pad' needs on_corrupt='stop': a padded batch must have batch_size samples, and skipping takes "
                "some away"
            )
        if self.make is not None and (self.decode or self.augment or self.collate):
            raise TrainingError("make takes whole batches; decode, augment and collate are not called beside it")

    def _compose(self, order: SampleOrder) -> None:
        self._order_of_samples = order

    def __setattr__(self, name: str, value: object) -> None:
        # An option that is set later would be shown and saved, and not be used everywhere.
        option = type(self).__dataclass_fields__.get(name)
        if option is not None and option.init and "_order_of_samples" in vars(self):
            raise AttributeError(
                f"{name} is fixed when the stream is made; make another: dataclasses.replace(stream, {name}=...)"
            )
        super().__setattr__(name, value)

    @property
    def samples(self) -> int:
        """Samples of an epoch, over all ranks."""
        return self._order_of_samples.samples

    def __len__(self) -> int:
        """Batches that are left of this epoch."""
        return self._batches_of(self.samples - self.delivered)

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""
        return self._batches_of(self.samples)

    def _batches_of(self, samples: int) -> int:
        return samples // self.batch_size if self.last == "drop" else -(-samples // self.batch_size)

    def locate(self, epoch: int, start: int, stop: int) -> Located:
        """Where the samples at the positions [start, stop) of an epoch are; the slots count from ``start``."""
        return self._order_of_samples.locate(epoch, start, stop)

    def prefetch(self, epoch: int, position: int) -> None:
        """Start fetching the shards that come after a position."""
        self._order_of_samples.prefetch(epoch, position)

    def wait_verified(self) -> None:
        """Wait until all samples that were handed out are verified. Raises CorruptShard; StorageError."""
        self._order_of_samples.wait_verified()

    def advance(self) -> None:
        """Count one batch as handed to the loop. Raises TrainingError when too many samples were skipped."""
        self.last_start = self.delivered
        self.delivered = min(self.samples, self.delivered + self.batch_size)
        self._check_skip_budget("")

    def batch(self, epoch: int, start: int) -> Batch:
        """This rank's share of the global batch that begins at a position of an epoch. Does not move the stream."""
        samples = self.read_samples(epoch, self.locate_share(epoch, start))
        stop = start + self.batch_size
        self.prefetch(epoch, min(stop, self.samples))
        if stop >= self.samples:
            self.wait_verified()
        while True:
            try:
                return self.assemble_batch(samples, epoch)
            except CorruptSample as error:
                self._skip_sample(error, samples)
                samples = samples.without(error.index)

    def read_samples(self, epoch: int, located: Located) -> Samples:
        """The samples that are there and were not taken out of the corpus. Raises as ``fetch_samples``."""
        while True:
            try:
                return self.fetch_samples(self._without_withdrawn(epoch, located))
            except PurgedMeanwhile:  # what is left of these samples
                continue

    def locate_share(self, epoch: int, start: int) -> Located:
        """Where the samples of this rank's share of the global batch at a position are."""
        size = min(self.batch_size, self.samples - start)
        if self.last != "pad" or size == self.batch_size:
            first, stop = share(size, self.rank, self.world_size)
            return self.locate(epoch, start + first, start + stop)
        # The end of the epoch, and then its beginning, again and again until the batch is full.
        first, stop = share(self.batch_size, self.rank, self.world_size)
        located = self.locate(epoch, start + min(first, size), start + min(stop, size))
        slot = max(first, size)
        while slot < stop:
            position = (slot - size) % self.samples
            count = min(stop - slot, self.samples - position)
            for cache, shard_rows in self.locate(epoch, position, position + count):
                located.append((cache, [(shard, rows, slots + (slot - first)) for shard, rows, slots in shard_rows]))
            slot += count
        return located

    def samples_at(self, epoch: int, start: int) -> Samples:
        """The samples of the global batch at a position, over all ranks, as they are stored: to name them."""
        located = self.locate(epoch, start, min(self.samples, start + self.batch_size))
        return self.fetch_samples(without_withdrawn(epoch, located))

    def _without_withdrawn(self, epoch: int, located: Located) -> Located:
        """The same without what was taken out of the corpus: others move up, and ``last="pad"`` fills the batch."""
        left = without_withdrawn(epoch, located)
        if left is located:
            return located
        wanted, position = size_of(located), 0
        # Again and again, where fewer are left than a batch has.
        while self.last == "pad" and (lacking := wanted - size_of(left)) and (position < self.samples or size_of(left)):
            first = position % self.samples
            stop = min(self.samples, first + lacking)
            more = without_withdrawn(epoch, self.locate(epoch, first, stop))
            left, position = [*left, *moved(more, by=size_of(left))], position + stop - first
        return left

    def padding(self, start: int) -> int:
        """How many samples at the end of this rank's share of that batch repeat others of the epoch.

        Where samples were taken out of the corpus, others are in their place.
        """
        if self.last != "pad":
            return 0
        size = min(self.batch_size, self.samples - start)
        first, stop = share(self.batch_size, self.rank, self.world_size)
        own = self.locate(self.epoch, start + min(first, size), start + min(stop, size))
        return stop - first - size_of(without_withdrawn(self.epoch, own))

    def fetch_samples(self, located: Located) -> Samples:
        """The samples that are there. Raises CorruptShard unless it is to be skipped, StorageError."""
        slices: list[ShardSlice] = []
        for cache, shard_rows in located:
            if self.on_corrupt != "skip":
                slices += cache.slices(shard_rows)
            else:
                slices += self._intact_slices(cache, shard_rows)
        size = sum(len(part.rows) for part in slices)
        if size < size_of(located):
            slices = _close_gaps(slices)
        samples = Samples(slices, size, self.fields)
        self.counters.add(samples=size, bytes=samples.size)
        return samples

    def _intact_slices(self, cache: Cache, shard_rows: list[ShardRows]) -> list[ShardSlice]:
        """The samples of the shards that are verified; those of corrupt ones are counted as skipped."""
        slices: list[ShardSlice] = []
        cache.check_mapped()
        cache.prefetch([shard for shard, _, _ in shard_rows])
        for rows_of_shard in shard_rows:
            try:
                slices += cache.slices([rows_of_shard], verified=True)
            except CorruptShard as error:  # rare
                shard, rows, _ = rows_of_shard
                self._skip(error, [(shard.sha256, number) for number in cache.rows_of(shard)[rows].tolist()])
        return slices

    def assemble_batch(self, samples: Samples, epoch: int) -> Batch:
        """The result of ``make``, or of decode, augment and collate, for these samples. Raises CorruptSample."""
        if self.make is not None:
            return self.make(samples, [self._random_bytes(epoch, key) for key in samples.keys])
        if self.decode is None and self.augment is None:
            return samples if self.collate is None else self.collate(list(samples))
        examples: list[Any] = []
        for index, sample in enumerate(samples):
            try:
                example = sample if self.decode is None else self.decode(sample)
                if self.augment is not None:
                    example = self.augment(example, self._random_bytes(epoch, sample.key))
                examples.append(example)
            except CorruptSample as error:
                raise CorruptSample(
                    index, str(error), error.reason
                ) from error  # its own index is that of a batch of one
            except StokerError:
                raise
            except Exception as error:  # the user's code raises anything
                raise TrainingError(_decode_failure(samples, index, error)) from error
        return examples if self.collate is None else self.collate(examples)

    def _skipped_state(self) -> dict[str, Any]:  # Any: JSON values
        """The part of a state that says which samples were skipped; nothing where none were."""
        return self.skipped.whole_state()

    def _random_bytes(self, epoch: int, key: str) -> bytes:
        return hashlib.sha256(f"{self.seed}/{epoch}/{key}".encode()).digest()

    def _skip_sample(self, error: CorruptSample, samples: Samples) -> None:
        """Count a sample that does not decode as skipped. Raises CorruptShard if its shard is damaged."""
        sample = samples.identity(error.index)
        if self.on_corrupt == "skip_samples":
            self.wait_verified()
        if self.on_corrupt != "stop":
            self.skipped.tell(sample, samples.keys[error.index], error.reason or "what does not decode")
        self._skip(error, [sample])

    def _skip(self, error: CorruptSample | CorruptShard, samples: list[SampleId]) -> None:
        if self.on_corrupt == "stop":
            raise error
        self.counters.add(skipped=self.skipped.add(samples))
        self._check_skip_budget(str(error), error)

    def _check_skip_budget(self, last_error: str, cause: Exception | None = None) -> None:
        """Raise TrainingError if more samples were skipped than may be, by all threads and workers together."""
        budget = self.skip_budget
        if (skipped := len(self.skipped)) > budget:
            detail = f"; the last one: {last_error}" if last_error else ""
            told = [f"{reason}: {_listed(keys)}" for reason, keys in self.skipped.by_reason().items()]
            named = "".join(f"; {reason}" for reason in told[:_MAX_NAMES])
            raise TrainingError(
                f"{plural(skipped, 'sample')} skipped, more than the budget of {budget} (option skip_budget)"
                f"{named}{detail}"
            ) from cause

    wanted = renamed("wanted", "locate")
    expect = renamed("expect", "prefetch")
    share_of = renamed("share_of", "locate_share")
    gathered = renamed("gathered", "fetch_samples")
    made = renamed("made", "assemble_batch")


def _decode_failure(samples: Samples, index: int, error: Exception) -> str:
    """What decode or augment raised for a sample, and what that sample has."""
    sample = samples[index]
    fields_there = _listed(f"{name} ({len(payload):,} bytes)" for name, payload in sample.fields.items())
    there = f"its fields: {fields_there}; its record: {_listed(sample.record)}"
    wanted = error.args[0] if isinstance(error, KeyError) and error.args else None
    if wanted is not None and wanted not in sample.fields and wanted not in sample.record:
        return f"{samples.where(index)}: decode wants {wanted!r}, which it lacks; {there}"
    message = " ".join(str(error).split())[:_LONGEST_MESSAGE]
    return f"{samples.where(index)}: decode or augment raised {type(error).__name__}: {message}; {there}"


def _listed(names: Iterable[str]) -> str:
    """The first names, for a message."""
    listed = list(names)
    return ", ".join(listed[:_MAX_NAMES]) + ", ..." * (len(listed) > _MAX_NAMES) or "none"


def _close_gaps(slices: list[ShardSlice]) -> list[ShardSlice]:
    """The slices with slots numbered without gaps, in the same order."""
    taken = np.sort(np.concatenate([part.slots for part in slices] or [np.zeros(0, np.int64)]))
    return [part.select(np.ones(len(part.rows), bool), np.searchsorted(taken, part.slots)) for part in slices]


def group_by_shard(
    shards: Sequence[Shard], located: tuple[Int64Array, Int64Array], slots: Int64Array
) -> list[ShardRows]:
    """One entry a shard. ``located``: for each of the ``slots`` the shard, as an index into ``shards``, and the row."""
    shard_indexes, rows = located
    if not len(shard_indexes):
        return []
    order = np.argsort(shard_indexes, kind="stable")
    shard_indexes, rows, slots = shard_indexes[order], rows[order], slots[order]
    edges = [0, *(np.flatnonzero(shard_indexes[1:] != shard_indexes[:-1]) + 1).tolist(), len(order)]
    firsts = shard_indexes[edges[:-1]].tolist()
    return [
        (shards[first], rows[start:stop], slots[start:stop])
        for first, (start, stop) in zip(firsts, pairwise(edges), strict=True)
    ]


def check_same_order(
    state: Mapping[str, Any], own: Mapping[str, Any], names: Sequence[str]
) -> None:  # Any: JSON values
    """Raise TrainingError if a state is of another order of samples than the stream's ``own`` state."""
    for name in names:
        if state.get(name) != own[name]:
            raise TrainingError(
                f"the state is of {state.get('version')} with {name} {state.get(name)!r}, this stream is of "
                f"{own['version']} with {own[name]!r}; resume with the same version and options"
            )


def position_of(state: Mapping[str, Any], samples: int) -> tuple[int, int]:  # Any: integers and texts
    """Epoch and delivered samples of a state. Raises TrainingError if there is no such position."""
    epoch, delivered = state.get("epoch"), state.get("delivered")
    if not isinstance(epoch, int) or not isinstance(delivered, int) or epoch < 0 or not 0 <= delivered <= samples:
        raise TrainingError(
            f"a state with epoch {epoch!r} and {delivered!r} samples delivered of {samples:,}: it is damaged"
        )
    return epoch, delivered
