"""Keep similar samples in the same split."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.images import hamming
from stoker.pipelines.rule import Decision, Rule
from stoker.pipelines.rules import near_duplicate_texts
from stoker.pipelines.text.measures import SLOTS


@dataclass(frozen=True)
class LeakFreeSplit(Rule):
    """Move a sample that is similar to an older one into the same split, with its whole group.

    Samples are similar if their content is the same, if they are near-duplicate images or if they are near-duplicate
    texts. The first sample of a group decides the split of the group: the split of the samples similar to it, or, if
    there are none, the split of the group's name. A later sample that is similar to a sample of another split is
    dropped (``split_conflict``). So no sample moves as the corpus grows, and similar samples are never in two splits.

    Args:
        distance: bits, default 31: the most in which the 256-bit hashes of near-duplicate images may differ.
        min_quality: 0 to 100, default 50: images whose hash has a lower quality are not compared.
        similarity: 0.3 to 1, default 0.8: the least similarity of near-duplicate texts.

    Example::

        [[rules]]
        name = "leak_free_split"
        distance = 31
        similarity = 0.8
    """

    distance: Annotated[int, Field(ge=0, le=hamming.MAX_DISTANCE)] = 31
    min_quality: Annotated[int, Field(ge=0, le=100)] = 50
    similarity: Annotated[float, Field(ge=0.3, le=1)] = 0.8

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """See Rule."""
        keys = records["key"].to_pylist()
        groups = records["group"].to_pylist()
        splits = records["split"].to_pylist()
        finders = [_same_content(records), *self._images(records), *self._texts(records)]
        split_of_group: dict[str, str] = {}
        for row, (key, group) in enumerate(zip(keys, groups, strict=True)):
            similar = [older for finder in finders for older in finder.similar_to(row)]
            similar_splits = {splits[older] for older in similar}
            target = split_of_group.get(group)
            if target is None:
                target = next(iter(similar_splits)) if len(similar_splits) == 1 else split_of(group)
            conflicting = next((older for older in similar if splits[older] != target), None)
            if conflicting is not None:
                yield Decision(key, "drop", "split_conflict", witness=keys[conflicting])
                continue
            if target != splits[row]:
                yield Decision(key, "split", target, witness=keys[similar[0]] if similar else "")
                splits[row] = target
            split_of_group[group] = target
            for finder in finders:
                finder.keep(row)

    def _images(self, records: pa.Table) -> "list[_SimilarSamples]":
        if "image_hash" not in records.column_names:
            return []
        hashes, qualities = (records[name].to_pylist() for name in ("image_hash", "image_hash_quality"))
        usable = [
            image_hash if image_hash is not None and (quality or 0) >= self.min_quality else None
            for image_hash, quality in zip(hashes, qualities, strict=True)
        ]
        values, distinct = _numbered(usable)
        try:
            pairs = hamming.near_pairs(hamming.parse_hashes(distinct), self.distance)
            return [_SimilarSamples(values, _neighbours(pairs))]
        except ValueError as error:
            raise RecipeError(f"rule 'leak_free_split': column 'image_hash' is not Stoker's: {error}") from error

    def _texts(self, records: pa.Table) -> "list[_SimilarSamples]":
        if "minhash" not in records.column_names:
            return []
        values, distinct = _numbered([signature or None for signature in records["minhash"].to_pylist()])
        if any(len(signature) != SLOTS * 4 for signature in distinct):
            raise RecipeError(f"rule 'leak_free_split': column 'minhash' is not Stoker's: expected {SLOTS * 4} bytes")
        signatures = np.frombuffer(b"".join(distinct), "<u4").reshape(-1, SLOTS)
        return [_SimilarSamples(values, _neighbours(near_duplicate_texts.near_pairs(signatures, self.similarity)))]


@dataclass
class _SimilarSamples:
    """The samples that are similar in one respect: those with the same value, and those with neighbouring values."""

    values: list[int | None]  # the number of each sample's value; None if it has none
    neighbours: dict[int, list[int]]  # value → the values near it
    oldest: dict[int, int] = field(default_factory=dict)  # value → the row of its oldest kept sample

    def similar_to(self, row: int) -> Iterator[int]:
        """The oldest kept sample of each similar value. One is enough: all kept samples of a value are in one split."""
        value = self.values[row]
        if value is not None:
            for other in (value, *self.neighbours.get(value, ())):
                if other in self.oldest:
                    yield self.oldest[other]

    def keep(self, row: int) -> None:
        """Remember a sample that is kept."""
        value = self.values[row]
        if value is not None:
            self.oldest.setdefault(value, row)


def _same_content(records: pa.Table) -> _SimilarSamples:
    return _SimilarSamples(_numbered(records["content_sha256"].to_pylist())[0], {})


def _numbered(column: list[Any]) -> tuple[list[int | None], list[Any]]:  # Any: what the column holds
    """The number of each row's value, None for None, and the distinct values in the order of their numbers."""
    numbers: dict[Any, int] = {}
    values = [None if value is None else numbers.setdefault(value, len(numbers)) for value in column]
    return values, list(numbers)


def _neighbours(pairs: Iterator[tuple[int, int]]) -> dict[int, list[int]]:
    """The pairs as lists of neighbours, in both directions."""
    neighbours: dict[int, list[int]] = {}
    for older, newer in pairs:
        neighbours.setdefault(older, []).append(newer)
        neighbours.setdefault(newer, []).append(older)
    return neighbours
