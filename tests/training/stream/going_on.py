"""A stream that is stopped anywhere and goes on with other ranks: it gives the batches of an undisturbed one."""

import itertools
from typing import Any

from stoker.storage.shards.sample import Sample
from stoker.training.stream.stream import ShardStream
from tests.training.conftest import Small


def key_of(sample: Sample) -> str:
    return sample.key


def stream(small: Small, **options: Any) -> ShardStream:
    return ShardStream(small.store, small.manifest, decode=key_of, cache=small.cache, **options)


def stop_and_go_on(
    small: Small, batch_size: int, window: int, seed: int, before: int, after: int, stop: int, last: str
) -> None:
    """``stop`` batches on ``before`` ranks, and those that two epochs have more on ``after`` ranks."""
    options = {"batch_size": batch_size, "window": window, "seed": seed, "last": last}
    whole = stream(small, **options)
    expected = [batch for _ in range(2) for batch in whole]
    stop = min(stop, len(expected))

    def batches(world_size: int, count: int, state: dict[str, Any] | None) -> tuple[list[list[str]], dict[str, Any]]:
        """Global batches, and the state behind them."""
        found: list[list[str]] = [[] for _ in range(count)]
        for rank in range(world_size):
            part = stream(small, **options, rank=rank, world_size=world_size)
            if state is not None:
                part.load_state_dict(state)
            endless = itertools.chain.from_iterable(itertools.repeat(part))
            for number, batch in enumerate(itertools.islice(endless, count)):
                found[number] += batch
            left = part.state_dict()
            part.close()
        return found, left

    if not expected:
        assert last == "drop"
        return
    first, state = batches(before, stop, None)
    second, _ = batches(after, len(expected) - stop, state)
    assert first + second == expected
