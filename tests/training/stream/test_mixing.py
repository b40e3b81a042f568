"""Mixing: exact shares in every block, each corpus in its own order, whatever ranks and restarts; stated ends."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.stream.mixing import BLOCK, Mix, MixedStream, quotas_of, weights_of
from stoker.training.stream.stream import ShardStream
from tests.training import corpora

SIZES = st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=4)
WEIGHTS = st.lists(st.floats(0.01, 100), min_size=4, max_size=4)


@settings(max_examples=50, deadline=None)
@given(sizes=SIZES, weights=WEIGHTS, seed=st.integers(0, 99), exhaustion=st.sampled_from(["first", "all", "drop"]))
def test_what_is_taken_before_a_position_is_what_the_positions_say(
    sizes: list[int], weights: list[float], seed: int, exhaustion: Any
) -> None:
    mix = Mix(sizes, weights[: len(sizes)], seed=seed, exhaustion=exhaustion)
    corpora_of = mix.corpora(0, mix.samples)
    assert len(corpora_of) == mix.samples
    for position in {0, 1, mix.samples // 3, BLOCK, mix.samples - 1, mix.samples} & set(range(mix.samples + 1)):
        counted = Counter(corpora_of[:position].tolist())
        assert mix.taken(position) == tuple(counted[number] for number in range(len(sizes)))
        assert mix.corpora(position, mix.samples).tolist() == corpora_of[position:].tolist()
    taken = mix.taken(mix.samples)
    if exhaustion == "drop":
        assert taken == tuple(sizes)
    elif exhaustion == "first":
        assert all(gone <= size for gone, size in zip(taken, sizes, strict=True))
        assert any(gone == size for gone, size in zip(taken, sizes, strict=True))
    else:
        assert all(gone >= size for gone, size in zip(taken, sizes, strict=True))
        last = mix.taken(mix.samples - 1)
        assert any(gone < size for gone, size in zip(last, sizes, strict=True))


@given(weights=st.lists(st.floats(0.001, 1000), min_size=1, max_size=50))
def test_quotas_make_a_block_and_are_within_one_of_their_share(weights: list[float]) -> None:
    quotas = quotas_of(weights)
    assert sum(quotas) == BLOCK
    assert min(quotas) >= 1
    raised = sum(BLOCK * weight / sum(weights) < 1 for weight in weights)
    for quota, weight in zip(quotas, weights, strict=True):
        share = BLOCK * weight / sum(weights)
        assert abs(quota - share) <= 1 + raised


def test_every_block_has_exactly_its_quotas() -> None:
    mix = Mix([10**9, 10**9, 10**9], [5, 2, 1], seed=3, exhaustion="first")
    for block in (0, 1, 77_777):
        found = Counter(mix.corpora(block * BLOCK, (block + 1) * BLOCK).tolist())
        assert found == {0: 2560, 1: 1024, 2: 512}
    assert mix.corpora(0, BLOCK).tolist() != mix.corpora(BLOCK, 2 * BLOCK).tolist()


def test_a_high_temperature_makes_shares_alike() -> None:
    assert weights_of([1000, 10], 1) == pytest.approx([1000 / 1010, 10 / 1010])
    assert weights_of([1000, 10], 100)[1] == pytest.approx(0.5, abs=0.02)
    assert weights_of([7, 7, 7], 3) == pytest.approx([1 / 3] * 3)


class Corpora:
    """Three small versions in one store."""

    def __init__(self, folder: Path) -> None:
        self.store, self.folder = MemoryStore(), folder
        self.manifests = {}
        for name, count in (("a", 40), ("b", 23), ("c", 7)):
            samples = [Sample(f"{name}{number:03d}", {"txt": b"x"}) for number in range(count)]
            made = corpora.version(self.store, folder, {"train": samples}, corpus=name, per_shard=6)
            self.manifests[name] = made

    def mixed(self, **options: Any) -> MixedStream:
        streams = {
            name: ShardStream(self.store, made, seed=5, window=2, cache=self.folder / "cache")
            for name, made in self.manifests.items()
        }
        defaults: dict[str, Any] = {"batch_size": 8, "make": lambda samples, draws: samples.keys}
        return MixedStream(streams, **(defaults | options))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    return Corpora(tmp_path_factory.mktemp("mixed"))


def test_an_epoch_of_drop_has_every_sample_once_in_each_corpus_own_order(three: Corpora) -> None:
    mixed = three.mixed(exhaustion="drop")
    for epoch in range(2):
        found = list(itertools.chain(*mixed))
        assert len(found) == 70
        for name, made in three.manifests.items():
            own = ShardStream(three.store, made, seed=5, window=2, cache=three.folder / "cache", batch_size=50)
            own.epoch = epoch
            assert [key for key in found if key[0] == name] == list(itertools.chain(*[one.keys for one in own]))


def test_an_epoch_of_all_shows_the_small_ones_again_in_other_orders(three: Corpora) -> None:
    mixed = three.mixed(exhaustion="all", weights={"a": 1, "b": 1, "c": 1})
    found = list(itertools.chain(*mixed))
    counts = Counter(found)
    assert {key for key in counts if key[0] == "a"} == {f"a{number:03d}" for number in range(40)}
    assert max(counts[key] for key in counts if key[0] == "a") == 1
    small = [key for key in found if key[0] == "c"]
    assert len(small) > 14
    assert sorted(small[:7]) == sorted(small[7:14])
    assert small[:7] != small[7:14]
    again = [key for key in itertools.chain(*mixed) if key[0] == "c"]
    assert again[:7] not in (small[:7], small[7:14])


def test_an_epoch_of_first_ends_with_the_first_corpus_that_has_no_more(three: Corpora) -> None:
    mixed = three.mixed(weights={"a": 1, "b": 1, "c": 2})
    found = Counter(key[0] for key in itertools.chain(*mixed))
    assert found["c"] == 7
    assert mixed.shares["c"] == pytest.approx(7 / sum(found.values()))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    exhaustion=st.sampled_from(["first", "all", "drop"]),
    batch_size=st.integers(3, 20),
    worlds=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    workers=st.integers(0, 2),
    stop=st.integers(0, 15),
    last=st.sampled_from(["short", "drop", "pad"]),
)
def test_any_ranks_threads_and_restarts_give_the_same_global_batches(
    three: Corpora, exhaustion: str, batch_size: int, worlds: tuple[int, int], workers: int, stop: int, last: str
) -> None:
    options = {"exhaustion": exhaustion, "batch_size": batch_size, "last": last, "weights": {"a": 3, "b": 2, "c": 1}}
    whole = three.mixed(**options)
    expected = [batch for _ in range(2) for batch in whole]
    stop = min(stop, len(expected))
    found: list[list[str]] = []
    state: dict[str, Any] | None = None
    for world, count in ((worlds[0], stop), (worlds[1], len(expected) - stop)):
        parts: list[list[str]] = [[] for _ in range(count)]
        for rank in range(world):
            mixed = three.mixed(**options, rank=rank, world_size=world)
            if state is not None:
                mixed.load_state_dict(state)
            loader = Loader(mixed, workers=workers)
            endless: Iterator[list[str]] = (
                itertools.chain.from_iterable(itertools.repeat(loader)) if expected else iter(())
            )
            for number, batch in enumerate(itertools.islice(endless, count) if count else ()):
                parts[number] += batch
            loader.close()
            left = mixed.state_dict()
        state = left
        found += parts
    assert found == expected


def test_counts_of_all_corpora_are_the_mixs(three: Corpora) -> None:
    list(three.mixed(exhaustion="drop"))
    mixed = three.mixed(exhaustion="drop")
    list(mixed)
    sums = mixed.counters.sums()
    assert sums["samples"] == 70
    assert sums["hits"] >= 7 + 4 + 2  # by now all of them lie in the cache


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"a": 1}}, r"weights of \['a'\], but streams of \['a', 'b', 'c'\]"),
        ({"weights": {"a": 1, "b": 0, "c": 1}}, "expected numbers above 0"),
        ({"temperature": 0}, "temperature 0: expected above 0"),
        ({"exhaustion": "stop"}, "expected .first. or .all. or .drop."),
        ({"batch_size": 0}, "expected 1 or more"),
    ],
)
def test_wrong_options_are_told_in_one_line(three: Corpora, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        three.mixed(**options)


def test_the_state_of_another_mix_is_refused(three: Corpora) -> None:
    state = three.mixed(weights={"a": 1, "b": 1, "c": 1}).state_dict()
    with pytest.raises(TrainingError, match="a mix with quotas"):
        three.mixed().load_state_dict(state)
