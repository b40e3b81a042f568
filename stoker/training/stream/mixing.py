"""Several corpora as one stream, by weight: which corpus each sample comes from is a function of its position."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stoker.storage.shards.index import Places
from stoker.storage.shards.sample import Sample
from stoker.training.errors import TrainingError
from stoker.training.reading.counters import Counters
from stoker.training.reading.samples import Samples
from stoker.training.stream.batching import Batch, Batching, Last, Wanted, by_shard
from stoker.training.stream.order import permutation
from stoker.training.stream.stream import ShardStream, position_of

BLOCK = 4096  # positions in which each corpus has exactly its quota: weights are kept to a 4096th
Exhaustion = Literal["first", "all", "drop"]


@dataclass(frozen=True)
class _Stretch:
    """Positions in which the same corpora share in the same way."""

    start: int
    taken: tuple[int, ...]  # samples of each corpus before
    quotas: tuple[int, ...]  # of each corpus in a block


class Mix:
    """Which corpus each position of an epoch takes its sample from, and how many each gave before: in O(1).

    Every block of BLOCK positions takes from each corpus its quota, in an order that is a function of the seed and of
    the block. ``exhaustion`` says when the epoch ends:

    - ``first``: when a corpus has no sample left; of the others, the rest is not seen in this epoch;
    - ``all``: when each corpus has been seen whole; the others begin again, in another order;
    - ``drop``: when all have been seen, each sample once; a corpus that has none left drops out and the others share.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, seed: int, exhaustion: Exhaustion) -> None:
        self.sizes, self.seed, self.exhaustion = tuple(sizes), seed, exhaustion
        self._stretches: list[_Stretch] = []
        self.samples = self._lay([float(weight) for weight in weights])
        self._starts = [stretch.start for stretch in self._stretches]

    @property
    def quotas(self) -> tuple[int, ...]:
        """Of each corpus in a block, while all have samples."""
        return self._stretches[0].quotas

    def taken(self, position: int) -> tuple[int, ...]:
        """How many samples each corpus gave before a position."""
        stretch = self._stretches[bisect_right(self._starts, position) - 1]
        blocks, rest = divmod(position - stretch.start, BLOCK)
        inside = np.bincount(self._block(stretch, blocks)[:rest], minlength=len(self.sizes))
        return tuple(
            before + blocks * quota + int(more)
            for before, quota, more in zip(stretch.taken, stretch.quotas, inside, strict=True)
        )

    def corpora(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The corpus of each position in [start, stop)."""
        found = []
        while start < stop:
            number = bisect_right(self._starts, start) - 1
            stretch = self._stretches[number]
            ends = self._starts[number + 1] if number + 1 < len(self._starts) else stop
            block, first = divmod(start - stretch.start, BLOCK)
            last = min(BLOCK, first + min(stop, ends) - start)
            found.append(self._block(stretch, block)[first:last])
            start += last - first
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _block(self, stretch: _Stretch, block: int) -> npt.NDArray[np.int64]:
        return _block(stretch.quotas, self.seed, stretch.start, block)

    def _lay(self, weights: list[float]) -> int:
        """Lay the stretches; returns the samples of an epoch."""
        taken = tuple(0 for _ in self.sizes)
        stretch = _Stretch(0, taken, quotas_of(weights))
        self._stretches.append(stretch)
        if self.exhaustion == "all":
            return max(self._position(stretch, corpus, size - 1) + 1 for corpus, size in enumerate(self.sizes))
        if self.exhaustion == "first":
            return min(self._position(stretch, corpus, size) for corpus, size in enumerate(self.sizes))
        while True:
            left = [size - gone for size, gone in zip(self.sizes, stretch.taken, strict=True)]
            ends = {
                corpus: self._position(stretch, corpus, size - 1) + 1
                for corpus, size in enumerate(left)
                if size and stretch.quotas[corpus]
            }
            if not ends:
                self._stretches.pop()
                return stretch.start
            end = min(ends.values())
            self._starts = [one.start for one in self._stretches]
            taken = self.taken(end)
            weights = [
                weight if gone < size else 0.0 for weight, gone, size in zip(weights, taken, self.sizes, strict=True)
            ]
            stretch = _Stretch(end, taken, quotas_of(weights) if any(weights) else tuple(0 for _ in weights))
            self._stretches.append(stretch)

    def _position(self, stretch: _Stretch, corpus: int, number: int) -> int:
        """The position of a corpus's sample of that number, counted from the beginning of the stretch."""
        block, rest = divmod(number, stretch.quotas[corpus])
        inside = np.flatnonzero(self._block(stretch, block) == corpus)[rest]
        return stretch.start + block * BLOCK + int(inside)


@lru_cache(maxsize=64)
def _block(quotas: tuple[int, ...], seed: int, start: int, block: int) -> npt.NDArray[np.int64]:
    """The corpora of a block's positions."""
    stored = np.repeat(np.arange(len(quotas), dtype=np.int64), quotas)
    return stored[permutation(BLOCK, seed, start, block)]


def quotas_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as whole numbers that make BLOCK in all, by largest remainders; none that is above 0 becomes 0.

    >>> quotas_of([3, 1]), sum(quotas_of([1, 1, 1])), quotas_of([1e9, 1])
    ((3072, 1024), 4096, (4095, 1))
    """
    total = sum(weights)
    exact = [BLOCK * weight / total for weight in weights]
    found = [max(1, math.floor(share)) if share else 0 for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: (found[place] - exact[place], place))
    for place in by_remainder[: max(0, BLOCK - sum(found))]:
        found[place] += 1
    while (more := sum(found) - BLOCK) > 0:  # many small ones were raised to 1: the greatest pays
        greatest = found.index(max(found))
        found[greatest] -= min(more, found[greatest] - 1)
    return tuple(found)


def weights_of(sizes: Sequence[int], temperature: float) -> list[float]:
    """Shares by size ** (1 / temperature): 1 is in proportion to the sizes, a high one makes them alike.

    Source: Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild", 2019, section 4.2.

    >>> [[round(one, 2) for one in weights_of([900, 100], temperature)] for temperature in (1, 2)]
    [[0.9, 0.1], [0.75, 0.25]]
    """
    raised = [math.exp(math.log(size / max(sizes)) / temperature) for size in sizes]
    return [one / sum(raised) for one in raised]


@dataclass
class MixedStream(Batching):
    """Batches of several ShardStreams' samples, mixed sample by sample: an iterable of epochs like each of them.

    ``weights`` by the streams' names, or by their sizes and ``temperature`` (see ``weights_of``); ``exhaustion``: see
    Mix. Each corpus keeps its own order, seed and window; batch size, ranks, ``make`` and the others here count, those
    of the streams do not. The same global batches for any number of ranks and workers; the state is a few integers.
    Raises TrainingError for options that cannot work, CorruptShard, StorageError.
    """

    streams: Mapping[str, ShardStream]
    weights: Mapping[str, float] | None = None
    temperature: float = 1.0
    exhaustion: Exhaustion = "first"
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
    on_corrupt: Literal["stop", "skip"] = "stop"
    skip_budget: int = 100
    epoch: int = field(default=0, init=False)
    delivered: int = field(default=0, init=False)  # samples of this epoch that the loop has had, over all ranks
    counters: Counters = field(default_factory=Counters, init=False, repr=False)

    def __post_init__(self) -> None:
        self.check_options()
        self._names = sorted(self.streams)
        self._parts = [self.streams[name] for name in self._names]
        if not self._parts:
            raise TrainingError("a mix of no streams; name one at least")
        if self.exhaustion not in ("first", "all", "drop"):
            raise TrainingError(f"exhaustion {self.exhaustion!r}: expected first, all or drop")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise TrainingError(f"temperature {self.temperature}: expected above 0")
        if len(self._parts) > BLOCK:
            raise TrainingError(f"a mix of {len(self._parts)} streams; at most {BLOCK} can be mixed")
        self._mix = Mix(
            [part.samples for part in self._parts], self._weights(), seed=self.seed, exhaustion=self.exhaustion
        )
        # How often a corpus begins anew in an epoch: its own epochs go on where those of the epoch before ended.
        self._turns = [
            -(-taken // part.samples)
            for taken, part in zip(self._mix.taken(self._mix.samples), self._parts, strict=True)
        ]
        for part in self._parts:
            part.count_into(self.counters)

    def _weights(self) -> list[float]:
        if self.weights is None:
            return weights_of([part.samples for part in self._parts], self.temperature)
        if sorted(self.weights) != self._names:
            raise TrainingError(f"weights of {sorted(self.weights)}, but streams of {self._names}")
        given = [float(self.weights[name]) for name in self._names]
        if not all(weight > 0 and math.isfinite(weight) for weight in given):
            raise TrainingError(f"weights {dict(self.weights)}: expected numbers above 0; leave out what is not wanted")
        return given

    @property
    def samples(self) -> int:
        """Samples of an epoch, over all ranks."""
        return self._mix.samples

    @property
    def shares(self) -> dict[str, float]:
        """The share of each corpus in an epoch."""
        taken = self._mix.taken(self.samples)
        return {name: count / self.samples for name, count in zip(self._names, taken, strict=True)}

    def wanted(self, epoch: int, start: int, stop: int) -> Wanted:
        """See Batching."""
        corpora = self._mix.corpora(start, stop)
        before = self._mix.taken(start)
        found: Wanted = []
        for number in np.unique(corpora).tolist():
            at = np.flatnonzero(corpora == number)
            found += self._of(number, epoch, before[number], at)
        return found

    def _of(self, number: int, epoch: int, first: int, at: Places) -> Wanted:
        """The next samples of a corpus, which may begin anew among them."""
        part, found = self._parts[number], []
        while len(at):
            turn, position = divmod(first, part.samples)
            size = min(len(at), part.samples - position)
            places = part.order(epoch * self._turns[number] + turn).places(position, position + size)
            found.append((part.cache_of_shards, by_shard(part.shards, places, at[:size])))
            first, at = first + size, at[size:]
        return found

    def expect(self, epoch: int, stop: int) -> None:
        """See Batching."""
        if stop >= self.samples:
            epoch, stop = epoch + 1, 0
        for number, taken in enumerate(self._mix.taken(stop)):
            turn, position = divmod(taken, self._parts[number].samples)
            self._parts[number].expect(epoch * self._turns[number] + turn, position)

    def settle(self) -> None:
        """See Batching."""
        for part in self._parts:
            part.settle()

    def state_dict(self) -> dict[str, Any]:  # Any: integers and texts
        """Where the stream is, and what it is a mix of."""
        return {
            "epoch": self.epoch,
            "delivered": self.delivered,
            "seed": self.seed,
            "exhaustion": self.exhaustion,
            "quotas": list(self._mix.quotas),
            "streams": {name: part.identity() for name, part in zip(self._names, self._parts, strict=True)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: integers and texts
        """Go on from there. Raises TrainingError if it is the state of another mix."""
        own = self.state_dict()
        for name in ("streams", "seed", "exhaustion", "quotas"):
            if state.get(name) != own[name]:
                raise TrainingError(
                    f"the state is of a mix with {name} {state.get(name)!r}, this one has {own[name]!r}; resume with "
                    "the same versions and options"
                )
        self.epoch, self.delivered = position_of(state, self.samples)

    def close(self) -> None:
        """End the threads that read ahead. Raises CorruptShard if that is known by now of what was given."""
        with ExitStack() as all_of_them:
            for part in self._parts:
                all_of_them.callback(part.close)
