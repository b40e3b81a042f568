"""The stream: the same global batches for any ranks, workers, stops and restarts; damage is named."""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.stream import order
from stoker.training.stream.mixing import MixedStream
from stoker.training.stream.stream import ShardStream
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.stream.going_on import key_of, stop_and_go_on, stream


def test_an_epoch_gives_every_sample_once_and_the_next_another_order(letters: Small) -> None:
    made = stream(letters, batch_size=4)
    first, second = list(made), list(made)
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 4, 4, 2]
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list("abcdefghijklmnopqrstuvwxyz")
    assert first != second
    assert made.state_dict()["epoch"] == 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(3, 30),
    window=st.integers(1, 5),
    seed=st.integers(0, 9),
    before=st.integers(1, 3),
    after=st.integers(1, 3),
    stop=st.integers(0, 20),
    last=st.sampled_from(["short", "drop", "pad"]),
    first_stretch=st.sampled_from([3, 128]),
)
def test_stopping_anywhere_and_going_on_with_other_ranks_changes_no_global_batch(
    letters: Small,
    batch_size: int,
    window: int,
    seed: int,
    before: int,
    after: int,
    stop: int,
    last: str,
    first_stretch: int,
) -> None:
    with mock.patch.object(order, "_FIRST_STRETCH", first_stretch):
        stop_and_go_on(letters, batch_size, window, seed, before, after, stop, last)


def test_a_changed_byte_is_named_and_nothing_of_it_is_kept(letters: Small) -> None:
    shard = letters.manifest.shards[1]
    payload = bytearray(letters.store.read(shard.key))
    payload[700] ^= 1
    letters.store.write(shard.key, bytes(payload))
    altered = stream(letters)
    with pytest.raises(CorruptShard, match=r"train-00001\.tar: sha256 .* but the manifest says"):
        list(altered)
    altered.close()  # other shards may still be on their way
    assert not (letters.cache / shard.sha256).exists()
    assert not list(letters.cache.glob("coming-*"))


def test_a_changed_index_and_a_missing_shard_are_named(letters: Small) -> None:
    letters.store.write(letters.manifest.shards[0].index, b"nonsense")
    letters.store.delete(letters.manifest.shards[2].key)
    with pytest.raises((CorruptShard, NotFound), match=r"train-0000[02]"):
        list(stream(letters))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, r"no samples in split 'test'; its splits: train \(26\)"),
        ({"batch_size": 0}, "expected 1 or more"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"batch_size": 2, "world_size": 3}, "less than the 3 ranks"),
        ({"last": "pad", "on_corrupt": "skip"}, "last='pad' needs on_corrupt='stop'"),
    ],
)
def test_wrong_options_are_told_in_one_line(letters: Small, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        stream(letters, **options)


def test_the_state_of_another_order_is_refused(letters: Small) -> None:
    with pytest.raises(TrainingError, match="with seed 1, this stream is of small@1 with 2"):
        stream(letters, seed=2).load_state_dict(stream(letters, seed=1).state_dict())


@pytest.fixture
def numbers(tmp_path: Path) -> Small:
    """600 samples in shards of 75."""
    store = MemoryStore()
    samples = [Sample(f"{number:03d}", {"txt": b"x"}) for number in range(600)]
    return Small(store, corpora.version(store, tmp_path, {"train": samples}, per_shard=75), tmp_path)


def test_a_state_of_a_release_without_quick_start_goes_on_in_its_order(numbers: Small) -> None:
    options: dict[str, Any] = {"batch_size": 40, "window": 4, "seed": 2}
    old = stream(numbers, quick_start=False, **options)
    expected = [batch for _ in range(2) for batch in old]
    assert expected != [batch for made in [stream(numbers, **options)] for _ in range(2) for batch in made]
    state = old.state_dict() | {"epoch": 0, "delivered": 80}
    del state["quick_start"]
    new = stream(numbers, **options)
    list(itertools.islice(new, 1))
    new.load_state_dict(state)
    assert new.state_dict() == state | {"quick_start": False}
    assert [batch for _ in range(2) for batch in new] == expected[2:]
    forked = new.reopen()
    forked.delivered = 80
    assert forked.batch(0, 80) == expected[2]


def test_a_state_of_a_release_whose_windows_counted_shards_goes_on_in_its_order(tmp_path: Path) -> None:
    store = MemoryStore()
    samples = [Sample(f"{number:03d}", {"txt": b"x"}) for number in range(90)]
    shards = {"train": samples[:40], "few": samples[40:42], "more": samples[42:44], "most": samples[44:]}
    small = Small(store, corpora.version(store, tmp_path, shards, per_shard=10), tmp_path)
    small.manifest = replace(
        small.manifest, shards=tuple(replace(shard, split="train") for shard in small.manifest.shards)
    )
    options: dict[str, Any] = {"batch_size": 10, "window": 3, "seed": 2}
    old = stream(small, full_windows=False, **options)
    expected = [batch for _ in range(2) for batch in old]
    assert expected != [batch for made in [stream(small, **options)] for _ in range(2) for batch in made]
    state = old.state_dict() | {"epoch": 0, "delivered": 50}
    del state["full_windows"]
    new = stream(small, **options)
    new.load_state_dict(state)
    assert new.state_dict() == state | {"full_windows": False}
    assert [batch for _ in range(2) for batch in new] == expected[5:]
    forked = new.reopen()
    assert forked.batch(0, 50) == expected[5]


def test_a_mix_of_a_release_without_quick_start_goes_on_in_its_order(numbers: Small) -> None:
    def mixed(**options: Any) -> MixedStream:
        parts = {"a": stream(numbers, seed=2, **options), "b": stream(numbers, seed=3, **options)}
        return MixedStream(parts, batch_size=40, decode=key_of)

    old = mixed(quick_start=False)
    expected = list(old)
    assert expected != list(mixed())
    state = old.state_dict() | {"epoch": 0, "delivered": 80}
    for part in state["streams"].values():
        del part["quick_start"]
    new = mixed()
    new.load_state_dict(state)
    assert list(new) == expected[2:]
    with pytest.raises(TrainingError, match="state is of a mix with streams"):
        new.load_state_dict(state | {"streams": {"a": state["streams"]["a"]}})


def test_a_state_that_is_refused_changes_nothing(numbers: Small) -> None:
    made = stream(numbers, batch_size=40)
    state = made.state_dict()
    with pytest.raises(TrainingError, match="it is damaged"):
        made.load_state_dict(state | {"quick_start": False, "delivered": 10**6})
    assert made.state_dict() == state


def test_the_options_of_a_stream_are_fixed_once_it_is_made(numbers: Small) -> None:
    made = stream(numbers, batch_size=40)
    with pytest.raises(AttributeError, match="quick_start is fixed when the stream is made"):
        made.quick_start = False


def test_a_shard_that_is_here_is_not_opened_again_while_those_behind_it_are_fetched(tmp_path: Path) -> None:
    store = MemoryStore()
    numbers = [Sample(f"n{number:03d}", {"txt": b"%d" % number}) for number in range(48)]
    manifest = corpora.version(store, tmp_path, {"train": numbers}, per_shard=4)
    made = ShardStream(store, manifest, batch_size=4, window=2, quick_start=False, cache=tmp_path / "cache")
    batches = iter(made)
    for number in range(9):  # behind the tenth those of the next epoch are asked for, which are here
        next(batches)
        until = time.monotonic() + 60
        while made._cache._rate.running and time.monotonic() < until:
            time.sleep(0.001)
        assert made.counters.sums().get("hits", 0) == 0, f"behind batch {number}"
    made.close()
