"""Keep similar samples in the same split."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.images import hamming
from stoker.pipelines.rule import Decision, Rule, RuleTools, decisions
from stoker.pipelines.text.signatures import KeptTexts, Signatures, parse_signatures


@dataclass(frozen=True)
class LeakFreeSplit(Rule):
    """Move a sample that is similar to an older one into the same split, with its whole group.

    Samples are similar if their content is the same, if they are near-duplicate images or if they are near-duplicate
    texts. The first sample of a group decides the split of the group: the split of the samples similar to it, or, if
    there are none, the split of the group's name. A later sample that is similar to a sample of another split is
    dropped (``split_conflict``). Samples of the version before come first, and stay where they are. So no sample moves
    as the corpus grows, and similar samples are never in two splits.

    Args:
        distance: bits, default 31: the most in which the 256-bit hashes of near-duplicate images may differ.
        min_quality: 0 to 100, default 50: images whose hash has a lower quality are not compared.
        similarity: 0.3 to 1, default 0.8: the least similarity of near-duplicate texts. It is estimated by their
            MinHash signatures, with an error of a few percent, and not verified by the texts.

    Example::

        [[rules]]
        name = "leak_free_split"
        distance = 31
        similarity = 0.8
    """

    version: ClassVar[int] = 2  # 2: of many pages of a template only some are compared
    columns: ClassVar[tuple[str, ...]] = ("content_sha256",)
    optional_columns: ClassVar[tuple[str, ...]] = ("image_hash", "image_hash_quality", "minhash")

    distance: Annotated[int, Field(ge=0, le=hamming.MAX_DISTANCE)] = 31
    min_quality: Annotated[int, Field(ge=0, le=100)] = 50
    similarity: Annotated[float, Field(ge=0.3, le=1)] = 0.8

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        return decisions(self._decide(rows, elders_stay=tools.elders_stay))

    def _decide(self, rows: pa.Table, *, elders_stay: bool) -> Iterator[Decision]:
        keys = rows["key"].to_pylist()
        groups = rows["group"].to_pylist()
        splits = rows["split"].to_pylist()
        elders = rows["is_elder"].to_pylist()
        finders: list[_SameContent | _SimilarImages | _SimilarTexts] = [
            _SameContent(rows["content_sha256"].to_pylist()),
            *self._images(rows),
            *self._texts(rows),
        ]
        split_of_group: dict[str, str] = {}
        for row, (key, group) in enumerate(zip(keys, groups, strict=True)):
            similar = [older for finder in finders for older in finder.similar_to(row)]
            similar_splits = {splits[older] for older in similar}
            target = splits[row] if elders[row] else split_of_group.get(group)
            if target is None:
                target = next(iter(similar_splits)) if len(similar_splits) == 1 else splits[row]
            conflicting = next((older for older in similar if splits[older] != target), None)
            if conflicting is not None and not (elders[row] and elders_stay):
                yield Decision(key, "drop", "split_conflict", witness=keys[conflicting])
                continue
            if target != splits[row]:
                yield Decision(key, "split", target, witness=keys[similar[0]] if similar else "")
                splits[row] = target
            split_of_group.setdefault(group, target)
            for finder in finders:
                finder.keep(row, target)

    def _images(self, rows: pa.Table) -> "list[_SimilarImages]":
        hashes, qualities = (rows[name].to_pylist() for name in ("image_hash", "image_hash_quality"))
        usable = [
            image_hash if image_hash is not None and (quality or 0) >= self.min_quality else None
            for image_hash, quality in zip(hashes, qualities, strict=True)
        ]
        values, distinct = _numbered(usable)
        if not distinct:
            return []
        try:
            return [_SimilarImages(values, hamming.parse_hashes(distinct), self.distance)]
        except ValueError as error:
            raise RecipeError(f"rule 'leak_free_split': column 'image_hash' is not Stoker's: {error}") from error

    def _texts(self, rows: pa.Table) -> "list[_SimilarTexts]":
        values, distinct = _numbered([signature or None for signature in rows["minhash"].to_pylist()])
        if not distinct:
            return []
        try:
            return [_SimilarTexts(values, parse_signatures(distinct), self.similarity)]
        except ValueError as error:
            raise RecipeError(f"rule 'leak_free_split': column 'minhash' is not Stoker's: {error}") from error


class _SameContent:
    """The oldest kept sample of the same content. All kept samples of one content are in one split."""

    def __init__(self, column: list[Any]) -> None:  # Any: what the column holds
        self._contents = column
        self._oldest: dict[Any, int] = {}

    def similar_to(self, row: int) -> Iterator[int]:
        content = self._contents[row]
        if content is not None and content in self._oldest:
            yield self._oldest[content]

    def keep(self, row: int, split: str) -> None:
        if self._contents[row] is not None:
            self._oldest.setdefault(self._contents[row], row)


class _Similar:
    """Kept samples that are like a row's: one of the same value is enough, else a subclass looks for similar values."""

    def __init__(self, values: list[int | None]) -> None:
        self._values = values  # the number of each row's hash or signature; None if it has none
        self._oldest: dict[int, int] = {}  # value → the row of its oldest kept sample

    def similar_to(self, row: int) -> Iterator[int]:
        value = self._values[row]
        if value is None:
            return
        if value in self._oldest:
            yield self._oldest[value]
            return
        yield from self._rows_near(value)

    def keep(self, row: int, split: str) -> None:
        value = self._values[row]
        if value is not None and value not in self._oldest:
            self._add(value, split)
            self._oldest[value] = row

    def _rows_near(self, value: int) -> Iterable[int]:
        """Rows of kept samples whose values are near one that is not kept."""
        raise NotImplementedError

    def _add(self, value: int, split: str) -> None:
        """Note a value that will be kept."""
        raise NotImplementedError


class _SimilarImages(_Similar):
    """Kept images near a row's: of each split that has any at least one, the oldest of those looked at.

    Kept images that are near each other are in one split. So of images near one that is kept, those in its split need
    not be looked at, and an image whose hash is kept needs no search.
    """

    def __init__(self, values: list[int | None], hashes: hamming.Words, distance: int) -> None:
        super().__init__(values)
        self._neighbours = hamming.OlderNeighbours.of(hashes, distance)
        self._split = np.full(len(hashes), -1)  # of kept hashes; -1: not kept
        self._splits: dict[str, int] = {}  # name → number
        self._kept = np.zeros(len(hashes), np.int64)  # hashes in the order in which they were kept
        self._leaders: list[int] = self._neighbours.families.tolist()
        self._walk = self._neighbours.walk(self._is_useless)
        self._met = 0  # hashes
        self._dropped: dict[int, tuple[int, list[int]]] = {}  # hash → kept hashes compared with it, and those near it

    def _rows_near(self, value: int) -> Iterable[int]:
        return sorted(self._oldest[near] for near in self._near(value))

    def _add(self, value: int, split: str) -> None:
        self._kept[len(self._oldest)] = value
        self._split[value] = self._splits.setdefault(split, len(self._splits))

    def _near(self, value: int) -> list[int]:
        """Kept hashes near one that is not kept."""
        if value == self._met:  # hashes are numbered in the order in which they are met
            self._met += 1
            older = next(self._walk)
            leader = self._leaders[value]
            if leader == value or leader in self._oldest:
                if leader == value and not older.size:
                    return []
                return self._one_a_split([leader, *older[self._split[older] >= 0].tolist()], value)
        return self._near_by_comparison(value)

    def _near_by_comparison(self, value: int) -> list[int]:
        """The same for a hash met before and dropped, or whose family's oldest member is not kept: both are rare."""
        compared, near = self._dropped.get(value, (0, []))
        among = self._kept[compared : len(self._oldest)]
        near = self._one_a_split([*near, *self._neighbours.near(value, among).tolist()], value)
        self._dropped[value] = (len(self._oldest), near)
        return near

    def _one_a_split(self, hashes: list[int], value: int) -> list[int]:
        first: dict[int, int] = {}
        for other in hashes:
            if other != value:
                first.setdefault(int(self._split[other]), other)
        return list(first.values())

    def _is_useless(self, older: hamming.Indices, newer: hamming.Indices) -> "np.typing.NDArray[np.bool_]":
        """Whether the newer hash has a family in the older one's split already."""
        of_family = self._split[self._neighbours.families[newer]]
        useless: np.typing.NDArray[np.bool_] = (of_family >= 0) & (of_family == self._split[older])
        return useless


class _SimilarTexts(_Similar):
    """Kept texts similar to a row's: those of each similar signature that is looked at, the oldest first."""

    def __init__(self, values: list[int | None], signatures: Signatures, similarity: float) -> None:
        super().__init__(values)
        self._kept = KeptTexts(signatures, similarity)

    def _rows_near(self, value: int) -> Iterable[int]:
        return (self._oldest[similar.row] for similar in self._kept.similar_to(value))

    def _add(self, value: int, split: str) -> None:
        self._kept.add(value)


def _numbered(column: list[Any]) -> tuple[list[int | None], list[Any]]:  # Any: what the column holds
    """The number of each row's value, None for None, and the distinct values in the order of their numbers."""
    numbers: dict[Any, int] = {}
    values = [None if value is None else numbers.setdefault(value, len(numbers)) for value in column]
    return values, list(numbers)
