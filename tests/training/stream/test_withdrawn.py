"""What was taken out of a corpus leaves holes in streams of its versions; all other samples stay where they were."""

from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.memory.tombstones import add_tombstones
from stoker.storage.versions.version import Version
from stoker.testing import sample_corpus
from stoker.training import Loader, MixedStream, ShardStream, TextStream
from stoker.training.stream.order import share
from stoker.training.stream.tokens import BOUNDARY

AT = datetime(2026, 11, 27, tzinfo=UTC)
SAMPLES = 40


def corpus(*out: int) -> tuple[MemoryStore, Manifest]:
    store, manifest = sample_corpus(SAMPLES)
    assert isinstance(store, MemoryStore)
    if out:
        add_tombstones(store, manifest.corpus, [("key", f"n{number:04d}") for number in out], at=AT)
    return store, manifest


def number(sample: Any) -> int:  # Any: a Sample
    return int(sample.key[1:])


def stream(out: set[int], **options: Any) -> ShardStream:  # Any: options of a stream
    return ShardStream(*corpus(*sorted(out)), decode=number, **options)


@settings(max_examples=40, deadline=None)
@given(
    out=st.sets(st.integers(0, SAMPLES - 1), max_size=SAMPLES - 1),
    ranks=st.integers(1, 4),
    resumed=st.integers(1, 4),
    batch_size=st.integers(4, 17),
    seed=st.integers(0, 3),
    stop=st.integers(0, 12),
    shuffle=st.booleans(),
)
def test_each_batch_is_that_of_the_whole_version_without_what_was_taken_out(
    out: set[int], ranks: int, resumed: int, batch_size: int, seed: int, stop: int, shuffle: bool
) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "shuffle": shuffle}
    whole = stream(set(), **options)
    wanted = [batch for _ in range(2) for batch in whole]
    state = whole.state_dict() | {"epoch": 0, "delivered": 0}
    batches: list[list[int]] = []
    for world, until in ((ranks, stop), (resumed, len(wanted))):
        shares = [stream(out, rank=rank, world_size=world, **options) for rank in range(world)]
        for one in shares:
            one.load_state_dict(state)
        while len(batches) < min(until, len(wanted)):
            if not len(shares[0]):
                for one in shares:
                    one.next_epoch()
            batch: list[int] = []
            for one in shares:
                batch += one.batch(one.epoch, one.delivered)
                one.advance()
            batches.append(batch)
        state = shares[0].state_dict()
        for one in shares:
            one.close()
    assert batches == [[kept for kept in batch if kept not in out] for batch in wanted]
    whole.close()


@settings(max_examples=25, deadline=None)
@given(out=st.sets(st.integers(0, SAMPLES - 1), max_size=SAMPLES - 1), ranks=st.integers(1, 3), seed=st.integers(0, 3))
def test_padding_takes_the_place_of_what_was_taken_out(out: set[int], ranks: int, seed: int) -> None:
    whole = stream(set(), batch_size=9, seed=seed)
    wanted = [[kept for kept in batch if kept not in out] for batch in whole]
    shares = [stream(out, batch_size=9, seed=seed, last="pad", rank=rank, world_size=ranks) for rank in range(ranks)]
    for expected in wanted:
        real: list[int] = []
        for one in shares:
            batch, padding = one.batch(0, one.delivered), one.padding(one.delivered)
            first, stop = share(9, one.rank, ranks)
            assert len(batch) == stop - first
            assert not out & set(batch)
            real += batch[: len(batch) - padding]
            one.advance()
        assert real == expected
    for one in (whole, *shares):
        one.close()


def test_what_is_taken_out_while_an_epoch_runs_is_left_out_from_the_next_on() -> None:
    store, manifest = corpus()
    one = ShardStream(store, manifest, batch_size=10, decode=number)
    batches = iter(one)
    first = next(batches)
    add_tombstones(store, manifest.corpus, [("key", f"n{number:04d}") for number in range(30)], at=AT)
    assert sorted(chain(first, *batches)) == list(range(SAMPLES))
    assert sorted(chain.from_iterable(one)) == list(range(30, SAMPLES))
    one.close()


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_workers_leave_out_the_same(kind: Any) -> None:  # Any: a literal
    out = {3, 4, 5, 30}
    loader, plain = Loader(stream(out, batch_size=7, seed=2), workers=2, kind=kind), stream(out, batch_size=7, seed=2)
    assert list(loader) == list(plain)
    loader.close()
    plain.close()


def test_mixed_streams_leave_out_what_each_corpus_lacks() -> None:
    streams = {"a": stream({1, 2, 5}), "b": stream({3})}
    mixed = MixedStream(streams, batch_size=8, decode=number, exhaustion="first")
    seen = Counter(kept for batch in mixed for kept in batch)
    whole = MixedStream({"a": stream(set()), "b": stream(set())}, batch_size=8, decode=number, exhaustion="first")
    wanted = Counter(kept for batch in whole for kept in batch)
    assert {one for one in wanted if seen[one] < wanted[one]} <= {1, 2, 3, 5}
    assert seen.total() < wanted.total()
    assert max(seen[one] for one in (1, 2, 3, 5)) <= 1
    mixed.close()
    whole.close()


def test_a_text_that_was_taken_out_is_boundaries() -> None:
    options: dict[str, Any] = {"batch_size": 1, "window": 6, "shuffle": False}
    texts, whole = TextStream(*corpus(2, 11), **options), TextStream(*corpus(), **options)
    for _ in range(whole.batches):
        (ours, _), (theirs, _) = texts.batch(0, texts.delivered), whole.batch(0, whole.delivered)
        assert (ours[ours != theirs] == BOUNDARY).all()
        texts.advance()
        whole.advance()
    found = [texts.batch(0, 0)[0].flatten().tolist(), whole.batch(0, 0)[0].flatten().tolist()]
    assert found == [[256, 48, 256, 49, 256, 256], [256, 48, 256, 49, 256, 50]]
    texts.close()
    whole.close()


def test_a_version_has_no_such_sample_any_more() -> None:
    version = Version(*corpus(1, 2))
    assert "n0001" not in version
    assert [number(sample) for sample in version] == [0, *range(3, SAMPLES)]
    assert version.records(["key", "split"]).read_all().num_rows == SAMPLES - 2
    with pytest.raises(KeyError, match="n0002"):
        version["n0002"]
