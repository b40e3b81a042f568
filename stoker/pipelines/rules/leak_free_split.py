"""No two samples that are alike on different sides of a split."""

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
    """Put a sample that is like an older one into that one's split, and its whole group with it.

    Alike are images whose hashes differ in at most ``distance`` of 256 bits (of quality ``min_quality`` or more), texts
    that share ``similarity`` of their wording, and samples of the same content. The first sample of a group decides
    for the group: it goes where those like it are, or, where there are none, where the group's name says. A later one
    that is like a sample of another split is dropped (``split_conflict``). So no sample moves as the corpus grows, and
    what is alike is never on two sides.

    Example::

        [[rules]]
        name = "leak_free_split"
        distance = 31
        similarity = 0.8
    """

    distance: Annotated[int, Field(ge=0, le=hamming.MAX_DISTANCE)] = 31  # bits
    min_quality: Annotated[int, Field(ge=0, le=100)] = 50
    similarity: Annotated[float, Field(ge=0.3, le=1)] = 0.8

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """See Rule."""
        keys = records["key"].to_pylist()
        groups = records["group"].to_pylist()
        given = records["split"].to_pylist()
        likenesses = [_contents(records), *self._images(records), *self._texts(records)]
        split_of_group: dict[str, str] = {}
        for place, (key, group) in enumerate(zip(keys, groups, strict=True)):
            alike = [older for likeness in likenesses for older in likeness.alike(place)]
            splits = {given[older] for older in alike}
            settled = split_of_group.get(group)
            wished = settled or (next(iter(splits)) if len(splits) == 1 else split_of(group))
            other = next((older for older in alike if given[older] != wished), None)
            if other is not None:
                yield Decision(key, "drop", "split_conflict", witness=keys[other])
                continue
            if wished != given[place]:
                yield Decision(key, "split", wished, witness=keys[alike[0]] if alike else "")
                given[place] = wished
            split_of_group[group] = wished
            for likeness in likenesses:
                likeness.keep(place)

    def _images(self, records: pa.Table) -> "list[_Likeness]":
        if "image_hash" not in records.column_names:
            return []
        hashes, qualities = (records[name].to_pylist() for name in ("image_hash", "image_hash_quality"))
        fit = [
            one if one is not None and (quality or 0) >= self.min_quality else None
            for one, quality in zip(hashes, qualities, strict=True)
        ]
        families, distinct = _families(fit)
        try:
            return [_Likeness(families, _both_ways(hamming.near_pairs(hamming.parse_hashes(distinct), self.distance)))]
        except ValueError as error:
            raise RecipeError(f"rule 'leak_free_split': column 'image_hash' is not Stoker's: {error}") from error

    def _texts(self, records: pa.Table) -> "list[_Likeness]":
        if "minhash" not in records.column_names:
            return []
        families, distinct = _families([one or None for one in records["minhash"].to_pylist()])
        if any(len(one) != SLOTS * 4 for one in distinct):
            raise RecipeError(f"rule 'leak_free_split': column 'minhash' is not Stoker's: expected {SLOTS * 4} bytes")
        signatures = np.frombuffer(b"".join(distinct), "<u4").reshape(-1, SLOTS)
        return [_Likeness(families, _both_ways(near_duplicate_texts.pairs(signatures, self.similarity)))]


@dataclass
class _Likeness:
    """Which samples are alike in one respect: those of a family, and those of families near to it."""

    families: list[int | None]  # of each sample
    near: dict[int, list[int]]
    first: dict[int, int] = field(default_factory=dict)  # family → its oldest sample that is kept

    def alike(self, place: int) -> Iterator[int]:
        """The oldest kept samples of the families that a sample is like: all of one family are in one split."""
        family = self.families[place]
        if family is not None:
            for other in (family, *self.near.get(family, ())):
                if other in self.first:
                    yield self.first[other]

    def keep(self, place: int) -> None:
        """Remember a sample that stays."""
        family = self.families[place]
        if family is not None:
            self.first.setdefault(family, place)


def _contents(records: pa.Table) -> _Likeness:
    return _Likeness(_families(records["content_sha256"].to_pylist())[0], {})


def _families(values: list[Any]) -> tuple[list[int | None], list[Any]]:  # Any: what the column holds
    """The number of each value, None for none, and the distinct values in order of their numbers."""
    numbers: dict[Any, int] = {}
    families = [None if value is None else numbers.setdefault(value, len(numbers)) for value in values]
    return families, list(numbers)


def _both_ways(pairs: Iterator[tuple[int, int]]) -> dict[int, list[int]]:
    near: dict[int, list[int]] = {}
    for older, newer in pairs:
        near.setdefault(older, []).append(newer)
        near.setdefault(newer, []).append(older)
    return near
