"""Batches of whole documents: each once, of like lengths, the same for any ranks and restarts."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.stream.documents import DocumentStream
from tests.training import corpora
from tests.training.conftest import Small

# A number in the first two bytes tells them apart.
LENGTHS = [3 + number * number * 7 % 211 for number in range(150)]
TEXTS = [number.to_bytes(2, "big") + b"x" * (length - 2) for number, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder: Path = tmp_path_factory.mktemp("documents")
    store = MemoryStore()
    samples = [Sample(f"d{number:03d}", {"txt": text}) for number, text in enumerate(TEXTS)]
    return Small(store, corpora.version(store, folder, {"train": samples}, per_shard=20), folder)


def stream(small: Small, **options: Any) -> DocumentStream:
    return DocumentStream(small.store, small.manifest, cache=small.cache, **({"batch_size": 8} | options))


def texts(batch: Any) -> list[bytes]:
    return [bytes(row[:length]) for row, length in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)]


def test_an_epoch_has_every_document_whole_and_once(corpus: Small) -> None:
    made = stream(corpus)
    for _ in range(2):
        batches = list(made)
        assert sorted(itertools.chain(*map(texts, batches))) == sorted(TEXTS)
        assert [len(batch.lengths) for batch in batches] == [8] * 18 + [6]
    for batch in batches:
        behind = np.arange(batch.tokens.shape[1])[None] >= batch.lengths.numpy()[:, None]
        assert (batch.tokens.numpy()[behind] == 256).all()


def test_little_of_a_batch_is_padding(corpus: Small) -> None:
    def padding(**options: Any) -> float:
        made = stream(corpus, **options)
        list(made)
        sums = made.counters.sums()
        return sums["padding"] / (sums["padding"] + sums["tokens"])

    assert padding() < 0.1 < 0.3 < padding(bucket=1)


def test_batches_do_not_come_in_order_of_their_lengths(corpus: Small) -> None:
    longest = [batch.tokens.shape[1] for batch in stream(corpus)]
    assert longest != sorted(longest)
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.6


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(3, 40),
    bucket=st.integers(1, 9),
    worlds=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    workers=st.integers(0, 2),
    stop=st.integers(0, 20),
    last=st.sampled_from(["short", "drop", "pad"]),
)
def test_any_ranks_threads_and_restarts_give_the_same_global_batches(
    corpus: Small, batch_size: int, bucket: int, worlds: tuple[int, int], workers: int, stop: int, last: str
) -> None:
    options = {"batch_size": batch_size, "bucket": bucket, "seed": 4, "last": last}
    expected = [texts(batch) for batch in stream(corpus, **options)]
    stop = min(stop, len(expected))
    found: list[list[bytes]] = []
    state: dict[str, Any] | None = None
    for world, count in ((worlds[0], stop), (worlds[1], len(expected) - stop)):
        parts: list[list[bytes]] = [[] for _ in range(count)]
        for rank in range(world):
            one = stream(corpus, **options, rank=rank, world_size=world)
            if state is not None:
                one.load_state_dict(state)
            loader = Loader(one, workers=workers)
            for number, batch in enumerate(itertools.islice(loader, count) if count else ()):
                parts[number] += texts(batch)
            loader.close()
            left = one.state_dict()
        state = left
        found += parts
    assert found == expected


def test_a_document_that_is_too_long_is_cut_where_asked_and_counted(corpus: Small) -> None:
    made = stream(corpus, longest=100)
    found = sorted(itertools.chain(*map(texts, made)))
    assert found == sorted(text[:100] for text in TEXTS)
    assert made.counters.sums()["cut_tokens"] == sum(max(0, length - 100) for length in LENGTHS)


def test_it_goes_to_another_process_and_its_state_names_its_batches(corpus: Small) -> None:
    made = stream(corpus, seed=2)
    copied = pickle.loads(pickle.dumps(made))
    assert [texts(batch) for batch in copied] == [texts(batch) for batch in made]
    with pytest.raises(TrainingError, match="with bucket 64, this stream is of small@1 with 3"):
        stream(corpus, bucket=3).load_state_dict(stream(corpus).state_dict())


def test_what_is_no_text_is_told(digits: Small) -> None:
    with pytest.raises(TrainingError, match="without a field 'txt'"):
        next(iter(stream(digits)))
    with pytest.raises(TrainingError, match="makes its batches itself"):
        stream(digits, decode=len)
    with pytest.raises(TrainingError, match="expected 1 or more batches"):
        stream(digits, bucket=0)
