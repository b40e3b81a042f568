"""Batches of whole documents of about equal length, so that little of a batch is padding."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from stoker.storage.shards.index import Int64Array
from stoker.training.errors import TrainingError
from stoker.training.reading.samples import Samples
from stoker.training.stream.batching import SampleOrder, group_by_shard
from stoker.training.stream.corpus_text import sizes_of
from stoker.training.stream.options import check_options
from stoker.training.stream.order import permutation
from stoker.training.stream.stream import ShardOrder, ShardStream
from stoker.training.stream.tokens import BYTES, Tokens
from stoker.training.stream.withdrawn import Located

_BUCKETS = 4  # that are kept in memory


class Documents(NamedTuple):
    """A batch of documents: the tokens, boundaries behind each document's end, and the lengths.

    >>> documents = Documents(torch.tensor([[104, 105], [33, 256]]), torch.tensor([2, 1]))
    >>> [row[:length].tolist() for row, length in zip(documents.tokens, documents.lengths)]
    [[104, 105], [33]]
    """

    tokens: torch.Tensor  # (B, longest) int64
    lengths: torch.Tensor  # (B,) int64, tokens of each document


class BucketOrder:
    """A SampleOrder that sorts the documents of each bucket by length, cuts it into batches, and shuffles these.

    Price: the indexes of a bucket's shards are read when its first batch is made.
    """

    def __init__(
        self, shard_order: ShardOrder, tokens: Tokens, *, bucket: int, batch_size: int, seed: int, shuffle: bool
    ) -> None:
        self._shard_order, self._tokens = shard_order, tokens
        self._batches, self._batch_size = bucket, batch_size
        self._seed, self._shuffle = seed, shuffle
        self._sorted: dict[tuple[int, int], tuple[Int64Array, Int64Array]] = {}  # by epoch and number of the bucket

    @property
    def samples(self) -> int:
        """Documents of an epoch."""
        return self._shard_order.samples

    def locate(self, epoch: int, start: int, stop: int) -> Located:
        """See SampleOrder."""
        size = self._batches * self._batch_size
        shards: list[Int64Array] = []
        rows: list[Int64Array] = []
        while start < stop:
            number, first = divmod(start, size)
            last = min(size, first + stop - start)
            bucket_shards, bucket_rows = self._bucket(epoch, number)
            shards.append(bucket_shards[first:last])
            rows.append(bucket_rows[first:last])
            start += last - first
        none = [np.zeros(0, np.int64)]
        located = np.concatenate(shards or none), np.concatenate(rows or none)
        order = self._shard_order
        return [(order.cache, group_by_shard(order.shards, located, np.arange(len(located[0]))))]

    def prefetch(self, epoch: int, position: int) -> None:
        """See SampleOrder."""
        self._shard_order.prefetch(epoch, position)

    def wait_verified(self) -> None:
        """See SampleOrder."""
        self._shard_order.wait_verified()

    def _bucket(self, epoch: int, number: int) -> tuple[Int64Array, Int64Array]:
        """Shards and rows of a bucket's documents: batches of like lengths, in a shuffled order."""
        bucket = self._sorted.get((epoch, number))
        if bucket is not None:
            return bucket
        order, batch_size = self._shard_order, self._batch_size
        size = self._batches * batch_size
        shards, rows = order.of_epoch(epoch).locate(number * size, (number + 1) * size)
        lengths = np.empty(len(shards), np.int64)
        for shard in np.unique(shards).tolist():
            in_shard = shards == shard
            lengths[in_shard] = sizes_of(order.cache, order.shards[shard], self._tokens)[rows[in_shard]]
        by_length = np.argsort(lengths, kind="stable")
        whole = len(by_length) // batch_size
        # An incomplete batch, which the epoch's last bucket may have, stays behind the others. It gets the documents of
        # middle length, which are as much alike as those of any other batch.
        spare = len(by_length) - whole * batch_size
        middle = (len(by_length) - spare) // 2
        batches = np.concatenate([by_length[:middle], by_length[middle + spare :]]).reshape(whole, batch_size)
        if self._shuffle:
            batches = batches[permutation(whole, self._seed, epoch, number, 1)]
        selected = np.concatenate([batches.ravel(), by_length[middle : middle + spare]])
        bucket = shards[selected], rows[selected]
        self._sorted[epoch, number] = bucket
        for old in list(self._sorted)[:-_BUCKETS]:
            self._sorted.pop(old, None)
        return bucket

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes
        return self.__dict__ | {"_sorted": {}}


@dataclass
class DocumentStream(ShardStream):
    """A ShardStream whose batches are Documents of about equal length.

    >>> from stoker.testing import sample_corpus
    >>> stream = DocumentStream(*sample_corpus(12), batch_size=4, shuffle=False)
    >>> [batch.lengths.tolist() for batch in stream]
    [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 2, 2]]
    >>> stream.close()

    The documents of ``bucket`` batches, as they follow each other in the epoch's order, are sorted by length and cut
    into batches, whose order is shuffled again. All promises of ShardStream hold; its ``make``, ``decode``, ``augment``
    and ``collate`` cannot be set.

    Args:
        tokens: how the samples hold tokens.
        bucket: batches whose documents are sorted together.
        longest: tokens after which a document is cut, the rest being counted as ``cut_tokens``; 0: none is cut.
    """

    _: KW_ONLY
    tokens: Tokens = BYTES
    bucket: int = 64
    longest: int = 0

    def __post_init__(self) -> None:
        check_options(self)
        if self.make is not None or self.decode is not None or self.augment is not None or self.collate is not None:
            raise TrainingError("a DocumentStream makes its batches itself; use ShardStream with make or decode")
        if self.bucket < 1 or self.longest < 0:
            raise TrainingError(
                f"bucket {self.bucket}, longest {self.longest}: expected 1 or more batches, and 0 or more tokens"
            )
        super().__post_init__()

    def _sample_order(self) -> SampleOrder:
        return BucketOrder(
            self.shard_order,
            self.tokens,
            bucket=self.bucket,
            batch_size=self.batch_size,
            seed=self.seed,
            shuffle=self.shuffle,
        )

    def assemble_batch(self, samples: Samples, epoch: int) -> Documents:
        """The samples' documents, padded. Raises TrainingError if one has no tokens."""
        documents: list[npt.NDArray[Any]] = []  # Any: unsigned integers of the tokens' width
        cut = 0
        for index, payload in enumerate(samples.column(self.tokens.field)):
            if payload is None:
                raise TrainingError(samples.lacks(index, f"field {self.tokens.field!r}"))
            document = self.tokens.read(payload)
            if self.longest and len(document) > self.longest:
                cut += len(document) - self.longest
                document = document[: self.longest]
            documents.append(document)
        lengths = np.array([len(document) for document in documents], np.int64)
        padded = np.full((len(documents), int(lengths.max(initial=0))), self.tokens.boundary, np.int64)
        for row, document in enumerate(documents):
            padded[row, : len(document)] = document
        self.counters.add(cut_tokens=cut, tokens=int(lengths.sum()), padding=padded.size - int(lengths.sum()))
        return Documents(torch.from_numpy(padded), torch.from_numpy(lengths))

    def identity(self) -> dict[str, Any]:  # Any: integers and texts
        """What the order of the documents depends on: of the batch size, too."""
        return super().identity() | {
            "bucket": self.bucket,
            "batch_size": self.batch_size,
            "field": self.tokens.field,
        }
