"""How well an order shuffles, against a full permutation: known from the index alone, before anything is read.

The order permutes the shards and shuffles the samples of a window of shards. What that may lack is seen in batches:
they hold samples of few shards, and if each shard held one class, of few classes.
"""

from dataclasses import dataclass

import numpy as np

from stoker.training.stream.order import Order

_BATCHES = 64  # that are looked at


@dataclass(frozen=True, slots=True)
class Quality:
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
        more = f"; a window of more than {self.window} shards mixes more" if self.window < self.all_shards else ""
        return (
            f"a batch of {self.batch_size:,} mixes {self.shards:,.3g} shards (fully shuffled: "
            f"{self.shards_in_full:,.3g}); neighbours in a shard meet in a batch {100 * self.neighbours:.3g} % of the "
            f"time ({100 * self.neighbours_in_full:.3g} %){more}"
        )


def quality(order: Order, batch_size: int) -> Quality:
    """How an order's batches are mixed; looks at some of them, spread over the epoch."""
    counts, samples = np.asarray(order.counts, np.int64), order.samples
    size = min(batch_size, samples)
    starts = np.unique(np.linspace(0, samples - size, _BATCHES).astype(np.int64))
    shards = neighbours = able = 0
    for start in starts.tolist():
        places, rows = order.places(start, start + size)
        shards += len(np.unique(places))
        # A number for each place: the next row's is one more.
        numbers = places * int(counts.max() + 1) + rows
        followed = rows + 1 < counts[places]
        neighbours += int(np.isin(numbers[followed] + 1, numbers).sum())
        able += int(followed.sum())
    return Quality(
        batch_size=size,
        window=order.window,
        all_shards=len(counts),
        shards=shards / len(starts),
        # Chance that a shard is in a batch: one less that of all draws missing it (draws taken as independent).
        shards_in_full=float((1 - (1 - counts / samples) ** size).sum()),
        neighbours=neighbours / max(1, able),
        neighbours_in_full=(size - 1) / max(1, samples - 1),
    )
