"""Several corpora mixed into one stream by weight: which corpus a sample comes from is a function of its position.

Weighted sampling without randomness at run time: an epoch is cut into blocks of BLOCK positions, each block holds each
corpus's quota of positions, and a permutation keyed by (seed, block) scatters them. So any position can be looked up in
O(1) per block, without counting from the beginning. Price: weights are rounded to 1 / BLOCK.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Int64Array
from stoker.training.errors import TrainingError
from stoker.training.stream.batching import (
    BatchStream,
    group_by_shard,
    position_of,
)
from stoker.training.stream.order import permutation
from stoker.training.stream.stream import ADOPTED, ShardOrder, ShardStream
from stoker.training.stream.withdrawn import Located

BLOCK = 4096  # positions in which each corpus has exactly its quota: weights are kept to a 4096th
Exhaustion = Literal["first", "all", "drop"]


@dataclass(frozen=True)
class _Segment:
    """A range of positions with the same quotas."""

    start: int
    taken: tuple[int, ...]  # samples of each corpus before ``start``
    quotas: tuple[int, ...]  # positions of each corpus in a block


class Mix:
    """Which corpus each position of an epoch takes its sample from, and how many samples each gave before.

    ``exhaustion`` says when the epoch ends:

    - ``first``: when a corpus has no sample left; the rest of the others is not seen in this epoch;
    - ``all``: when each corpus has been seen whole; those that end earlier begin again, in another order;
    - ``drop``: when each sample of each corpus has been seen once; a corpus that has none left drops out.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, seed: int, exhaustion: Exhaustion) -> None:
        self.sizes, self.seed, self.exhaustion = tuple(sizes), seed, exhaustion
        self._segments: list[_Segment] = []
        self.samples = self._build_segments([float(weight) for weight in weights])
        self._starts = [segment.start for segment in self._segments]

    @property
    def quotas(self) -> tuple[int, ...]:
        """Positions of each corpus in a block, while all have samples."""
        return self._segments[0].quotas

    def taken(self, position: int) -> tuple[int, ...]:
        """How many samples each corpus gave before a position."""
        segment = self._segments[bisect_right(self._starts, position) - 1]
        blocks, rest = divmod(position - segment.start, BLOCK)
        in_block = np.bincount(self._block(segment, blocks)[:rest], minlength=len(self.sizes))
        return tuple(
            before + blocks * quota + int(count)
            for before, quota, count in zip(segment.taken, segment.quotas, in_block, strict=True)
        )

    def corpora(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The corpus of each position in [start, stop)."""
        pieces = []
        while start < stop:
            number = bisect_right(self._starts, start) - 1
            segment = self._segments[number]
            segment_stop = self._starts[number + 1] if number + 1 < len(self._starts) else stop
            block, first = divmod(start - segment.start, BLOCK)
            last = min(BLOCK, first + min(stop, segment_stop) - start)
            pieces.append(self._block(segment, block)[first:last])
            start += last - first
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def _block(self, segment: _Segment, block: int) -> npt.NDArray[np.int64]:
        return _block(segment.quotas, self.seed, segment.start, block)

    def _build_segments(self, weights: list[float]) -> int:
        """Build the segments; returns the samples of an epoch."""
        taken = tuple(0 for _ in self.sizes)
        segment = _Segment(0, taken, quotas_of(weights))
        self._segments.append(segment)
        if self.exhaustion == "all":
            return max(self._position(segment, corpus, size - 1) + 1 for corpus, size in enumerate(self.sizes))
        if self.exhaustion == "first":
            return min(self._position(segment, corpus, size) for corpus, size in enumerate(self.sizes))
        while True:
            left = [size - count for size, count in zip(self.sizes, segment.taken, strict=True)]
            stops = [
                self._position(segment, corpus, count - 1) + 1
                for corpus, count in enumerate(left)
                if count and segment.quotas[corpus]
            ]
            if not stops:
                self._segments.pop()
                return segment.start
            stop = min(stops)
            self._starts = [known.start for known in self._segments]
            taken = self.taken(stop)
            weights = [
                weight if count < size else 0.0 for weight, count, size in zip(weights, taken, self.sizes, strict=True)
            ]
            segment = _Segment(stop, taken, quotas_of(weights) if any(weights) else tuple(0 for _ in weights))
            self._segments.append(segment)

    def _position(self, segment: _Segment, corpus: int, number: int) -> int:
        """The position of a corpus's sample, ``number`` being counted from the beginning of the segment."""
        block, rest = divmod(number, segment.quotas[corpus])
        in_block = np.flatnonzero(self._block(segment, block) == corpus)[rest]
        return segment.start + block * BLOCK + int(in_block)


@lru_cache(maxsize=64)
def _block(quotas: tuple[int, ...], seed: int, start: int, block: int) -> npt.NDArray[np.int64]:
    """The corpus of each position of a block."""
    in_turn = np.repeat(np.arange(len(quotas), dtype=np.int64), quotas)
    return in_turn[permutation(BLOCK, seed, start, block)]


def quotas_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as whole numbers whose sum is BLOCK, by largest remainders; a weight above 0 never becomes 0.

    >>> quotas_of([3, 1]), sum(quotas_of([1, 1, 1])), quotas_of([1e9, 1])
    ((3072, 1024), 4096, (4095, 1))
    """
    total = sum(weights)
    exact = [BLOCK * weight / total for weight in weights]
    quotas = [max(1, math.floor(share)) if share else 0 for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: (quotas[index] - exact[index], index))
    for index in by_remainder[: max(0, BLOCK - sum(quotas))]:
        quotas[index] += 1
    while (excess := sum(quotas) - BLOCK) > 0:  # many small ones were raised to 1: take it from the greatest
        greatest = quotas.index(max(quotas))
        quotas[greatest] -= min(excess, quotas[greatest] - 1)
    return tuple(quotas)


def weights_of(sizes: Sequence[int], temperature: float) -> list[float]:
    """Shares in proportion to size ** (1 / temperature): 1 keeps the proportions, a high one makes the shares alike.

    Source: Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild", 2019, section 4.2.

    >>> [[round(share, 2) for share in weights_of([900, 100], temperature)] for temperature in (1, 2)]
    [[0.9, 0.1], [0.75, 0.25]]
    """
    raised = [math.exp(math.log(size / max(sizes)) / temperature) for size in sizes]
    return [power / sum(raised) for power in raised]


class MixedOrder:
    """A SampleOrder that takes the sample at each position from the corpus that a Mix says."""

    def __init__(self, mix: Mix, orders: Sequence[ShardOrder]) -> None:
        self._mix, self._orders = mix, orders
        # How many epochs of a corpus, begun ones included, an epoch of the mix takes: the next epoch goes on behind.
        self._epochs = [-(-taken // order.samples) for taken, order in zip(mix.taken(mix.samples), orders, strict=True)]

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return self._mix.samples

    def locate(self, epoch: int, start: int, stop: int) -> Located:
        """See SampleOrder."""
        corpora = self._mix.corpora(start, stop)
        before = self._mix.taken(start)
        located: Located = []
        for corpus in np.unique(corpora).tolist():
            located += self._locate_in(corpus, epoch, before[corpus], np.flatnonzero(corpora == corpus))
        return located

    def _locate_in(self, corpus: int, epoch: int, first: int, slots: Int64Array) -> Located:
        """The samples of a corpus from its ``first`` on, one for each slot; it may begin anew among them."""
        order, located = self._orders[corpus], []
        while len(slots):
            number, position = divmod(first, order.samples)
            count = min(len(slots), order.samples - position)
            rows = order.of_epoch(epoch * self._epochs[corpus] + number).locate(position, position + count)
            located.append((order.cache, group_by_shard(order.shards, rows, slots[:count])))
            first, slots = first + count, slots[count:]
        return located

    def prefetch(self, epoch: int, position: int) -> None:
        """See SampleOrder."""
        if position >= self.samples:
            epoch, position = epoch + 1, 0
        for corpus, taken in enumerate(self._mix.taken(position)):
            order = self._orders[corpus]
            number, position_in_corpus = divmod(taken, order.samples)
            order.prefetch(epoch * self._epochs[corpus] + number, position_in_corpus)

    def wait_verified(self) -> None:
        """See SampleOrder."""
        for order in self._orders:
            order.wait_verified()


@dataclass
class MixedStream(BatchStream):
    """Batches of several ShardStreams' samples, mixed sample by sample: an iterable of epochs like each of them.

    >>> from stoker.testing import sample_corpus
    >>> corpus = sample_corpus(12)
    >>> streams = {"often": ShardStream(*corpus), "rarely": ShardStream(*corpus, seed=1)}
    >>> mixed = MixedStream(streams, weights={"often": 3, "rarely": 1}, batch_size=4, collate=len)
    >>> list(mixed)  # until "often" has no sample left
    [4, 4, 4, 1]
    >>> mixed.close()

    Each corpus keeps its own order, seed and window. Its batch size, ranks, ``make`` and the like do not count: those
    of the MixedStream do. The global batches are the same for any number of ranks and workers; the state is a few
    integers.

    Args:
        streams: by their names.
        weights: by the same names, numbers above 0; None: by the streams' sizes and ``temperature``.
        temperature: shares are in proportion to size ** (1 / temperature), see ``weights_of``.
        exhaustion: when an epoch ends: "first", "all" or "drop", see Mix.
        batch_size, seed, last, rank, world_size, fields, make, decode, augment, collate, on_corrupt, skip_budget: as of
            ShardStream.

    Raises TrainingError for options that cannot work, CorruptShard, StorageError.
    """

    streams: Mapping[str, ShardStream]
    weights: Mapping[str, float] | None = None
    temperature: float = 1.0
    exhaustion: Exhaustion = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._names = sorted(self.streams)
        self._parts = [self.streams[name] for name in self._names]
        if not self._parts:
            raise TrainingError("a mix of no streams; name one at least")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise TrainingError(f"temperature {self.temperature}: expected above 0")
        if len(self._parts) > BLOCK:
            raise TrainingError(f"a mix of {len(self._parts)} streams; at most {BLOCK} can be mixed")
        sizes = [part.samples for part in self._parts]
        self._mix = Mix(sizes, self._weights(sizes), seed=self.seed, exhaustion=self.exhaustion)
        self._compose(MixedOrder(self._mix, [part.shard_order for part in self._parts]))
        for part in self._parts:
            part.count_into(self.counters)

    def _weights(self, sizes: Sequence[int]) -> list[float]:
        if self.weights is None:
            return weights_of(sizes, self.temperature)
        if sorted(self.weights) != self._names:
            raise TrainingError(f"weights of {sorted(self.weights)}, but streams of {self._names}")
        weights = [float(self.weights[name]) for name in self._names]
        if not all(weight > 0 and math.isfinite(weight) for weight in weights):
            raise TrainingError(f"weights {dict(self.weights)}: expected numbers above 0; leave out what is not wanted")
        return weights

    @property
    def shares(self) -> dict[str, float]:
        """The share of each corpus in an epoch."""
        taken = self._mix.taken(self.samples)
        return {name: count / self.samples for name, count in zip(self._names, taken, strict=True)}

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """The stream's position, and what it is a mix of."""
        return {
            "epoch": self.epoch,
            "delivered": self.delivered,
            "seed": self.seed,
            "exhaustion": self.exhaustion,
            "quotas": list(self._mix.quotas),
            "streams": {name: part.identity() for name, part in zip(self._names, self._parts, strict=True)},
            **self._skipped_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another mix."""
        own, given = _compared(self.state_dict()), _compared(state)
        for name in ("streams", "seed", "exhaustion", "quotas"):
            if given.get(name) != own[name]:
                raise TrainingError(
                    f"the state is of a mix with {name} {given.get(name)!r}, this one has {own[name]!r}; resume with "
                    "the same versions and options"
                )
        position = position_of(state, self.samples)
        self.skipped.load(state, [known for part in self._parts for known in part.known_shards()])
        for name, part in zip(self._names, self._parts, strict=True):
            part.adopt_order(state["streams"][name])
        self.epoch, self.delivered = position
        self.last_start = None

    def reopen(self) -> Self:
        """The same stream at the beginning, with connections, locks and threads of its own: for a forked process."""
        return replace(self, streams={name: stream.reopen() for name, stream in self.streams.items()})

    def close(self) -> None:
        """End the threads that read ahead. Raises CorruptShard if delivered samples are known to be corrupt."""
        with ExitStack() as streams:
            for part in self._parts:
                streams.callback(part.close)


def _compared(state: Mapping[str, Any]) -> Mapping[str, Any]:  # Any: JSON values
    """A state without what each of its streams takes from it."""
    streams = state.get("streams")
    if not isinstance(streams, Mapping):
        return state
    parts = {name: dict(part) if isinstance(part, Mapping) else {} for name, part in streams.items()}
    for part in parts.values():
        for option in ADOPTED:
            part.pop(option, None)
    return {**state, "streams": parts}
