"""Batches of whole documents, those of a batch about equally long, so that little of it is padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from stoker.storage.shards.index import Places
from stoker.training.errors import TrainingError
from stoker.training.reading.samples import Samples
from stoker.training.stream.batching import Wanted, by_shard
from stoker.training.stream.corpus_text import sizes_of
from stoker.training.stream.order import permutation
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.tokens import BYTES, Tokens


class Documents(NamedTuple):
    """A batch: (B, longest) int64 tokens, boundaries behind each document's end, and (B,) int64 lengths."""

    tokens: torch.Tensor
    lengths: torch.Tensor


@dataclass
class DocumentStream(ShardStream):
    """A ShardStream whose batches are Documents of about equal length.

    The documents of ``bucket`` batches, as they follow each other in the epoch's order, are sorted by length and cut
    into batches, whose order is shuffled again. A document of more than ``longest`` tokens is cut there, and what was
    cut off is counted (``cut_tokens``); 0: none is. All promises of ShardStream hold.
    """

    tokens: Tokens = BYTES
    bucket: int = 64  # batches whose documents are sorted together
    longest: int = 0  # tokens of a document

    def __post_init__(self) -> None:
        if self.make is not None or self.decode is not None or self.augment is not None or self.collate is not None:
            raise TrainingError("a DocumentStream makes its batches itself; use ShardStream with make or decode")
        if self.bucket < 1 or self.longest < 0:
            raise TrainingError(
                f"bucket {self.bucket}, longest {self.longest}: expected 1 or more batches, and 0 or more tokens"
            )
        super().__post_init__()
        self.make = self._documents
        self._sorted: dict[tuple[int, int], tuple[Places, Places]] = {}

    def wanted(self, epoch: int, start: int, stop: int) -> Wanted:
        """See Batching."""
        chunk = self.bucket * self.batch_size
        shards: list[Places] = []
        rows: list[Places] = []
        while start < stop:
            number, first = divmod(start, chunk)
            last = min(chunk, first + stop - start)
            own = self._bucket(epoch, number)
            shards.append(own[0][first:last])
            rows.append(own[1][first:last])
            start += last - first
        none = [np.zeros(0, np.int64)]
        places = np.concatenate(shards or none), np.concatenate(rows or none)
        return [(self.cache_of_shards, by_shard(self.shards, places, np.arange(len(places[0]))))]

    def _bucket(self, epoch: int, number: int) -> tuple[Places, Places]:
        """Shards and rows of a bucket's documents: batches of like lengths, in a shuffled order."""
        found = self._sorted.get((epoch, number))
        if found is not None:
            return found
        chunk = self.bucket * self.batch_size
        shards, rows = self.order(epoch).places(number * chunk, (number + 1) * chunk)
        lengths = np.empty(len(shards), np.int64)
        for shard in np.unique(shards).tolist():
            own = shards == shard
            lengths[own] = sizes_of(self.cache_of_shards, self.shards[shard], self.tokens)[rows[own]]
        by_length = np.argsort(lengths, kind="stable")
        whole = len(by_length) // self.batch_size
        # An incomplete batch, which the epoch's last bucket may have, stays behind the others: made of any lengths,
        # taken from the middle, it is no worse than they are.
        spare = len(by_length) - whole * self.batch_size
        middle = (len(by_length) - spare) // 2
        kept = np.concatenate([by_length[:middle], by_length[middle + spare :]]).reshape(whole, self.batch_size)
        if self.shuffle:
            kept = kept[permutation(whole, self.seed, epoch, number, 1)]
        order = np.concatenate([kept.ravel(), by_length[middle : middle + spare]])
        found = shards[order], rows[order]
        self._sorted[epoch, number] = found
        for old in list(self._sorted)[:-4]:
            self._sorted.pop(old, None)
        return found

    def _documents(self, samples: Samples, draws: Sequence[bytes]) -> Documents:
        ids: list[npt.NDArray[Any]] = []  # Any: unsigned integers of the tokens' width
        cut = 0
        for place, payload in enumerate(samples.column(self.tokens.field)):
            if payload is None:
                raise TrainingError(f"{samples.where(place)}: no field {self.tokens.field!r}")
            own = self.tokens.read(payload)
            if self.longest and len(own) > self.longest:
                cut += len(own) - self.longest
                own = own[: self.longest]
            ids.append(own)
        lengths = np.array([len(one) for one in ids], np.int64)
        padded = np.full((len(ids), int(lengths.max(initial=0))), self.tokens.boundary, np.int64)
        for place, one in enumerate(ids):
            padded[place, : len(one)] = one
        self.counters.add(cut_tokens=cut, tokens=int(lengths.sum()), padding=padded.size - int(lengths.sum()))
        return Documents(torch.from_numpy(padded), torch.from_numpy(lengths))

    def identity(self) -> dict[str, Any]:  # Any: integers and texts
        """What the order of the documents depends on: of the batch size, too."""
        own = {"bucket": self.bucket, "batch_size": self.batch_size, "field": self.tokens.field}
        return super().identity() | own

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes
        return self.__dict__ | {"make": None, "_sorted": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: attributes
        self.__dict__.update(state)
        self.make = self._documents
