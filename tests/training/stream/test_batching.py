"""A BatchStream makes batches of any SampleOrder; streams can be opened again for a forked process."""

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.s3 import S3Store
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Batches, Loader
from stoker.training.stream.batching import BatchStream, group_by_shard
from stoker.training.stream.documents import DocumentStream
from stoker.training.stream.mixing import MixedStream
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.text import TextStream
from stoker.training.stream.withdrawn import Located
from tests.training.conftest import Small


class Backwards:
    """A SampleOrder: the stored samples from the last to the first, the same each epoch."""

    def __init__(self, stream: ShardStream) -> None:
        self._stream = stream
        self.prefetched: list[tuple[int, int]] = []
        self.samples = stream.samples

    def locate(self, epoch: int, start: int, stop: int) -> Located:
        shards, rows = self._stream.order(0).locate(0, self.samples)
        backwards = shards[::-1][start:stop], rows[::-1][start:stop]
        slots = np.arange(len(backwards[0]))
        return [(self._stream.shard_order.cache, group_by_shard(self._stream.shards, backwards, slots))]

    def prefetch(self, epoch: int, position: int) -> None:
        self.prefetched.append((epoch, position))

    def wait_verified(self) -> None:
        self._stream.wait_verified()


def test_a_batch_stream_cuts_and_shares_the_order_that_it_is_composed_of(letters: Small) -> None:
    stored = ShardStream(letters.store, letters.manifest, shuffle=False, cache=letters.cache)
    backwards = Backwards(stored)
    ranks = []
    for rank in range(2):
        stream = BatchStream(batch_size=10, rank=rank, world_size=2, collate=lambda batch: [s.key for s in batch])
        stream._compose(backwards)
        ranks.append(list(stream))
    keys = [first + second for first, second in zip(*ranks, strict=True)]
    assert "".join(itertools.chain(*keys)) == "zyxwvutsrqponmlkjihgfedcba"
    assert [len(batch) for batch in keys] == [10, 10, 6]
    assert backwards.prefetched == [(0, 10), (0, 20), (0, 26)] * 2
    stored.close()


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(TrainingError, match="rank 2 of 2: expected 0 to 1"):
        BatchStream(batch_size=4, rank=2, world_size=2)


def test_a_stream_is_reopened_at_the_beginning_of_its_version_with_its_options(letters: Small) -> None:
    part = ShardStream(letters.store, "small", batch_size=4, seed=3, cache=letters.cache)
    mixed = MixedStream({"one": part}, batch_size=5)
    part.advance()
    reopened = part.reopen()
    assert (reopened.version, reopened.seed, reopened.delivered) == (letters.manifest, 3, 0)
    assert reopened.shard_order.cache is not part.shard_order.cache
    assert mixed.reopen().batch(0, 0).keys == mixed.batch(0, 0).keys
    assert mixed.reopen().streams["one"].shard_order.cache is not part.shard_order.cache


def test_an_s3_store_is_reopened_without_its_client() -> None:
    store = S3Store("bucket", "prefix", access_key="key", secret_key="secret")
    assert store.reopen() == store
    assert store.reopen() is not store


def test_a_document_stream_works_in_a_forked_worker(handbook: Small) -> None:
    stream = DocumentStream(handbook.store, handbook.manifest, batch_size=4, bucket=2, cache=handbook.cache)
    expected = [stream.batch(0, start).lengths.tolist() for start in range(0, stream.samples, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        workers = DataLoader(Batches(stream), batch_size=None, num_workers=1, multiprocessing_context="fork")
        assert [batch.lengths.tolist() for batch in workers] == expected
    stream.close()


def test_an_error_of_decode_names_shard_sample_and_fields_and_keeps_its_cause(letters: Small) -> None:
    def decode(sample: Sample) -> bytes:
        return sample.fields["png"]

    stream = ShardStream(letters.store, letters.manifest, shuffle=False, decode=decode, cache=letters.cache)
    with pytest.raises(TrainingError) as caught:
        next(iter(stream))
    assert str(caught.value).endswith(
        "train-00000.tar: sample a: decode wants 'png', which it lacks; its fields: txt (3 bytes); its record: label"
    )
    assert isinstance(caught.value.__cause__, KeyError)
    stream.close()


@pytest.mark.parametrize("where", ["decode", "augment"])
def test_any_other_error_of_decode_and_augment_is_told_in_one_line(letters: Small, where: str) -> None:
    def fail(example: Any, random_bytes: bytes = b"") -> Any:
        raise ValueError("no\nnumber")

    options: dict[str, Any] = {where: fail}
    with pytest.raises(TrainingError, match=r"sample a: decode or augment raised ValueError: no number; its fields"):
        list(ShardStream(letters.store, letters.manifest, shuffle=False, cache=letters.cache, **options))


def test_an_error_of_ours_passes_decode_unchanged(letters: Small) -> None:
    def fail(sample: Sample) -> None:
        raise TrainingError("told by decode itself")

    with pytest.raises(TrainingError, match=r"^told by decode itself$"):
        list(ShardStream(letters.store, letters.manifest, decode=fail, cache=letters.cache))


def test_a_stream_says_what_to_use_in_place_of_an_index(letters: Small, handbook: Small) -> None:
    stream = ShardStream(letters.store, letters.manifest, batch_size=4, cache=letters.cache)
    texts = TextStream(handbook.store, handbook.manifest, batch_size=2, window=16, cache=handbook.cache)
    mixed = MixedStream({"one": stream}, batch_size=4)
    for wrong in (stream, texts, mixed):
        with pytest.raises(TrainingError, match=r"has no \[0\].*Loader\(stream, workers=2\).*DataLoader\(.*Batches"):
            wrong[0]
    assert len(stream) == 7


@pytest.mark.parametrize("options", [{}, {"batch_size": None}, {"shuffle": True}])
def test_a_dataloader_of_a_stream_names_what_it_needs(letters: Small, options: dict[str, Any]) -> None:
    stream = ShardStream(letters.store, letters.manifest, cache=letters.cache)
    with pytest.raises(TrainingError, match=r"DataLoader\(stoker.training.Batches\(stream\), batch_size=None\)"):
        next(iter(DataLoader(stream, **options)))  # type: ignore[arg-type]  # that it is wrong is what is tested
    with pytest.raises(TrainingError, match=r"in place of torch's DataLoader, `for batch in loader`"):
        next(iter(DataLoader(Loader(stream), **options)))  # type: ignore[arg-type]  # likewise
