"""The order of an epoch."""

import itertools
import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.training.stream.order import EpochOrder, most_shards, permutation, share


def listed(order: EpochOrder, start: int, stop: int) -> list[tuple[int, int]]:
    shards, rows = order.locate(start, stop)
    return list(zip(shards.tolist(), rows.tolist(), strict=True))


COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=12).map(tuple)
LARGE_COUNTS = st.lists(st.integers(0, 700), min_size=1, max_size=6).map(tuple)


@given(
    counts=COUNTS | LARGE_COUNTS,
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 100),
    window=st.integers(1, 5),
    quick_start=st.booleans(),
)
def test_an_epoch_has_every_sample_once(
    counts: tuple[int, ...], seed: int, epoch: int, window: int, quick_start: bool
) -> None:
    order = EpochOrder(counts, seed, epoch, window, quick_start=quick_start)
    places = listed(order, 0, order.samples)
    assert sorted(places) == [(shard, row) for shard, count in enumerate(counts) for row in range(count)]


@given(
    counts=COUNTS | LARGE_COUNTS,
    cuts=st.lists(st.integers(0, 600), max_size=6),
    window=st.integers(1, 5),
    quick_start=st.booleans(),
)
def test_any_cut_gives_the_same_order(counts: tuple[int, ...], cuts: list[int], window: int, quick_start: bool) -> None:
    order = EpochOrder(counts, 3, 1, window, quick_start=quick_start)
    edges = sorted({0, order.samples, *(cut for cut in cuts if cut <= order.samples)})
    pieces = [listed(order, start, stop) for start, stop in itertools.pairwise(edges)]
    assert [place for piece in pieces for place in piece] == listed(order, 0, order.samples)


@given(counts=COUNTS, window=st.integers(1, 5), position=st.integers(0, 300))
def test_a_position_lies_in_a_shard_of_its_window(counts: tuple[int, ...], window: int, position: int) -> None:
    order = EpochOrder(counts, 7, 0, window)
    for shard, _ in listed(order, position, position + 1):
        assert shard in order.shards_of(order.window_of(position))


def test_a_quick_start_begins_with_the_beginnings_of_the_first_windows_shards() -> None:
    order = EpochOrder((1000,) * 10, seed=4, window=8, quick_start=True)
    shards = order.shards_of(0).tolist()
    first_two, others = shards[:2], shards[2:]
    stretches = [  # positions, their shards and rows
        (0, 128, first_two, (0, 64)),
        (128, 256, first_two, (64, 128)),
        (256, 640, others, (0, 64)),
        (640, 1024, others, (64, 128)),
        (1024, 2048, shards, (128, 256)),
        (2048, 4096, shards, (256, 512)),
        (4096, 8000, shards, (512, 1000)),
    ]
    for first, last, of_shards, rows in stretches:
        places = listed(order, first, last)
        assert sorted(places) == sorted((shard, row) for shard in of_shards for row in range(*rows))
        assert places != sorted(places, key=lambda place: place[1])
    slow = EpochOrder((1000,) * 10, seed=4, window=8)
    assert listed(order, 8000, 10_000) == listed(slow, 8000, 10_000)
    assert listed(order, 0, 5) == [(4, 51), (1, 60), (4, 20), (1, 25), (1, 11)]  # and never changes between releases


def test_a_quick_start_of_few_samples_is_a_shuffle_like_others() -> None:
    counts = [0] * 3
    for seed in range(3000):
        order = EpochOrder((2, 1), seed, quick_start=True)
        counts[order.locate(0, 1)[1].tolist()[0] + 2 * (order.locate(0, 1)[0].tolist()[0])] += 1
    assert min(counts) > 900


def test_the_order_depends_on_seed_and_epoch_and_never_changes_between_releases() -> None:
    assert listed(EpochOrder((3, 2), 0, 0), 0, 5) == [(0, 2), (1, 1), (0, 1), (0, 0), (1, 0)]
    places = {tuple(listed(EpochOrder((10, 10), seed, epoch), 0, 20)) for seed in range(5) for epoch in range(5)}
    assert len(places) == 25


@given(counts=COUNTS | LARGE_COUNTS, seed=st.integers(0, 9), window=st.integers(1, 5))
def test_windows_have_as_many_samples_as_so_many_of_the_largest_shards(
    counts: tuple[int, ...], seed: int, window: int
) -> None:
    order = EpochOrder(counts, seed, 0, window)
    windows = [order.shards_of(number) for number in range(len(order.edges) - 1)]
    assert np.concatenate(windows).tolist() == order.shards.tolist()
    assert order.shards_of(len(windows)).tolist() == []
    limit = window * max(counts)
    sizes = [sum(counts[shard] for shard in shards.tolist()) for shards in windows]
    assert all(size <= limit for size in sizes)
    for size, shards, after in zip(sizes, windows, windows[1:], strict=False):
        assert size + counts[after[0]] > limit or len(shards) == 8 * window
    assert max(map(len, windows)) <= most_shards(counts, window)


@given(shards=st.integers(1, 40), last=st.integers(1, 10), seed=st.integers(0, 9), window=st.integers(1, 9))
def test_windows_of_equal_shards_and_one_smaller_one_are_those_of_older_releases(
    shards: int, last: int, seed: int, window: int
) -> None:
    counts = (10,) * shards + (last,)
    new, old = (EpochOrder(counts, seed, 1, window, full_windows=full) for full in (True, False))
    assert listed(new, 0, new.samples) == listed(old, 0, old.samples)


def test_small_shards_mix() -> None:
    counts = (1000, *(100,) * 79)
    new, old = (EpochOrder(counts, 3, 1, full_windows=full) for full in (True, False))
    shards = [len(np.unique(order.locate(0, 1000)[0])) for order in (new, old)]
    assert shards[0] > 50
    assert shards[1] < 20


def test_unshuffled_is_the_stored_order() -> None:
    assert listed(EpochOrder((2, 1), shuffle=False), 0, 3) == [(0, 0), (0, 1), (1, 0)]


@given(size=st.integers(0, 500), world_size=st.integers(1, 40))
def test_ranks_share_a_batch_without_loss(size: int, world_size: int) -> None:
    shares = [range(*share(size, rank, world_size)) for rank in range(world_size)]
    assert [place for one in shares for place in one] == list(range(size))


@settings(max_examples=20)
@given(count=st.integers(0, 2000), key=st.integers(0, 2**64 - 1))
def test_a_permutation_is_one(count: int, key: int) -> None:
    assert sorted(permutation(count, key).tolist()) == list(range(count))


def test_a_billion_samples_need_no_memory_of_their_number() -> None:
    tracemalloc.start()
    order = EpochOrder((10_000,) * 100_000, 1, 2)
    assert len(listed(order, 999_999_000, 10**9)) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20
