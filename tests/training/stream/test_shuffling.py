"""The quality of a shuffle: as counted over a whole epoch, and better with wider windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.training.stream.order import EpochOrder
from stoker.training.stream.shuffling import shuffle_quality


def test_stored_order_is_not_mixed_and_one_window_of_all_shards_is_a_full_shuffle() -> None:
    counts = (100,) * 40
    stored = shuffle_quality(EpochOrder(counts, shuffle=False), 50)
    assert stored.shards <= 2
    assert stored.neighbours > 0.95
    full = shuffle_quality(EpochOrder(counts, seed=1, window=40), 50)
    assert full.shards == pytest.approx(full.shards_in_full, rel=0.05)
    assert full.neighbours == pytest.approx(full.neighbours_in_full, abs=0.01)


def test_a_wider_window_mixes_more() -> None:
    found = [shuffle_quality(EpochOrder((200,) * 64, seed=2, window=window), 128) for window in (1, 4, 16, 64)]
    assert [one.shards for one in found] == sorted(one.shards for one in found)
    assert [one.neighbours for one in found] == sorted((one.neighbours for one in found), reverse=True)
    assert found[0].shards < 2.1
    assert "mixes" in found[0].describe()
    assert "a window of more than 1 shard" in found[0].describe()


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(1, 20), min_size=1, max_size=8).map(tuple), seed=st.integers(0, 9))
def test_small_epochs_are_counted_in_full(counts: tuple[int, ...], seed: int) -> None:
    order = EpochOrder(counts, seed, window=2)
    found = shuffle_quality(order, order.samples)  # one batch of everything
    assert found.shards == len(counts)
    assert found.neighbours == (1 if max(counts) > 1 else 0)
    assert 0 < found.shards_in_full <= len(counts) + 1e-9


def test_a_billion_samples_are_judged_at_once() -> None:
    found = shuffle_quality(EpochOrder(np.full(100_000, 10_000), seed=1, epoch=1), 4096)
    assert found.shards == pytest.approx(8)
    assert found.shards_in_full == pytest.approx(4013, rel=0.01)
