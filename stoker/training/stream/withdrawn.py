"""Samples that were taken out of their corpus: a stream of any version leaves a hole at their positions.

What was taken out is looked up once an epoch, by each process: no position changes, so a state goes on as before.
"""

import numpy as np

from stoker.training.reading.cache import Cache, ShardRows

Located = list[tuple[Cache, list[ShardRows]]]  # where the samples of a batch are: for each cache the rows of its shards


def size_of(located: Located) -> int:
    """How many samples these are."""
    return sum(len(rows) for _, shard_rows in located for _, rows, _ in shard_rows)


def without_withdrawn(epoch: int, located: Located) -> Located:
    """The same samples but for those that were taken out of their corpus, slots without gaps; if all stay, as given."""
    gone = [[cache.withdrawn(shard, epoch) for shard, _, _ in shard_rows] for cache, shard_rows in located]
    if all(rows is None for of_cache in gone for rows in of_cache):  # nearly always
        return located
    left: Located = []
    for (cache, shard_rows), of_cache in zip(located, gone, strict=True):
        stay: list[ShardRows] = []
        for (shard, rows, slots), lost in zip(shard_rows, of_cache, strict=True):
            kept = np.ones(len(rows), np.bool_) if lost is None else ~lost[rows]
            stay += [(shard, rows[kept], slots[kept])] if kept.any() else []
        left.append((cache, stay))
    if size_of(left) == size_of(located):
        return located
    every = [slots for _, shard_rows in left for _, _, slots in shard_rows]
    taken = np.sort(np.concatenate([*every, np.zeros(0, np.int64)]))
    return [
        (cache, [(shard, rows, np.searchsorted(taken, slots)) for shard, rows, slots in shard_rows])
        for cache, shard_rows in left
    ]


def live_slots(epoch: int, located: Located) -> list[int]:
    """The slots of the samples that were not taken out, ascending."""
    slots: list[int] = []
    for cache, shard_rows in located:
        for shard, rows, own in shard_rows:
            gone = cache.withdrawn(shard, epoch)
            slots += (own if gone is None else own[~gone[rows]]).tolist()
    return sorted(slots)


def moved(located: Located, *, by: int) -> Located:
    """The same samples, their slots so many further on."""
    return [(cache, [(shard, rows, slots + by) for shard, rows, slots in of_cache]) for cache, of_cache in located]
