"""How well an epoch's order shuffles, compared with a full permutation; computed without reading a sample.

An order shuffles within windows of shards (see ``order``). What that may lack shows in the batches: they mix samples of
few shards, and if each shard held one class, of few classes.
"""

from dataclasses import dataclass

import numpy as np

from stoker.storage.plural import plural
from stoker.training.stream.order import EpochOrder

_BATCHES = 64  # of an epoch that are looked at, at most


@dataclass(frozen=True, slots=True)
class ShuffleQuality:
    """Means over batches of an epoch, and what a full permutation would give."""

    batch_size: int
    window: int  # shards
    all_shards: int
    shards: float  # that the samples of a batch come from
    shards_in_full: float
    neighbours: float  # share of samples whose next one in the shard is in the same batch
    neighbours_in_full: float

    def describe(self) -> str:
        """One line for a person."""
        more = (
            f"; a window of more than {plural(self.window, 'shard')} mixes more"
            if self.window < self.all_shards
            else ""
        )
        return (
            f"a batch of {self.batch_size:,} mixes {plural(float(f'{self.shards:.3g}'), 'shard')} (fully shuffled: "
            f"{self.shards_in_full:,.3g}); neighbours in a shard meet in a batch {100 * self.neighbours:.3g} % of the "
            f"time ({100 * self.neighbours_in_full:.3g} %){more}"
        )


def shuffle_quality(order: EpochOrder, batch_size: int) -> ShuffleQuality:
    """How well an order mixes its batches, measured on some of them, spread over the epoch."""
    counts, samples = np.asarray(order.counts, np.int64), order.samples
    size = min(batch_size, samples)
    starts = np.unique(np.linspace(0, samples - size, _BATCHES).astype(np.int64))
    shards = neighbours = with_next = 0
    for start in starts.tolist():
        shard_indexes, rows = order.locate(start, start + size)
        shards += len(np.unique(shard_indexes))
        # A number for each row of each shard; that of the next row is one more.
        numbers = shard_indexes * int(counts.max() + 1) + rows
        followed = rows + 1 < counts[shard_indexes]
        neighbours += int(np.isin(numbers[followed] + 1, numbers).sum())
        with_next += int(followed.sum())
    return ShuffleQuality(
        batch_size=size,
        window=order.window,
        all_shards=len(counts),
        shards=shards / len(starts),
        # The chance that a shard is in a batch: 1 - that of all draws missing it (draws taken as independent).
        shards_in_full=float((1 - (1 - counts / samples) ** size).sum()),
        neighbours=neighbours / max(1, with_next),
        neighbours_in_full=(size - 1) / max(1, samples - 1),
    )
