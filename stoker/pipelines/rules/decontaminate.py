"""Drop the samples that another corpus, such as a test set, holds too."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from stoker.pipelines.images import hamming
from stoker.pipelines.rejected import OutcomeClass, Reason
from stoker.pipelines.rule import Decision, Rule, RuleInputs, RuleTools, decisions
from stoker.pipelines.text.measures import Hashes, runs_of, word_hashes
from stoker.pipelines.text.signatures import parse_signatures
from stoker.pipelines.text.verified import near_duplicates
from stoker.storage.plural import plural
from stoker.storage.versions.version import Version

_READ = ("sha256", "content_sha256", "image_hash", "image_hash_quality", "minhash")
_TEXT = "txt"
_Found = Iterator[tuple[str, str, float | None]]  # key, what was found, how similar it is


@dataclass(frozen=True)
class Decontaminate(Rule):
    """Drop what a version of another corpus holds too (``contaminated``): the same, nearly the same, or a part of it.

    The same bytes, as fetched or after all steps; near-duplicate images and texts; and texts that share a run of
    ``ngrams`` words with any of its texts, for which all texts are read. `stoker why` names the other sample, or says
    how many runs there are and which words they are. The version's recipe names the version that was compared with; a
    newer one, or another, is a changed rule. It cannot be deleted while the newest version names it.

    Args:
        against: a corpus of the same store, "digits" (its newest version when a run begins), or a version, "digits@3".
        near: true or false, default true: whether near-duplicates count.
        distance: bits, default 31: as in ``near_duplicate_images``.
        similarity: 0.3 to 1, default 0.8: as in ``near_duplicate_texts``.
        ngrams: words, default 13; 0: runs of words are not compared.

    Example::

        [[rules]]
        name = "decontaminate"
        against = "benchmark@1"
    """

    reasons: ClassVar[Mapping[str, Reason]] = {
        "contaminated": Reason("another corpus, that it is kept apart from, holds it too", OutcomeClass.RECIPE)
    }
    columns: ClassVar[tuple[str, ...]] = ("content_sha256",)
    optional_columns: ClassVar[tuple[str, ...]] = ("sha256", "image_hash", "image_hash_quality", "minhash")

    against: Annotated[str, Field(min_length=1)]
    near: bool = True
    distance: Annotated[int, Field(ge=0, le=hamming.MAX_DISTANCE)] = 31
    similarity: Annotated[float, Field(ge=0.3, le=1)] = 0.8
    ngrams: Annotated[int, Field(ge=0, le=1000)] = 13

    def pinned(self, inputs: RuleInputs) -> Rule:
        """See Rule."""
        return replace(self, against=inputs.version(self.against))

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        if tools.elders_stay:
            rows = rows.filter(pa.array(~rows["is_elder"].to_numpy()))
        other = tools.version(self.against)
        known = other.records([name for name in ("key", *_READ) if name in other.columns]).read_all()
        found: dict[str, tuple[str, float | None]] = {}  # key → what was found, and how similar it is
        finders: list[_Found] = [_exact(rows, known, self.against)]
        if self.near:
            finders += [self._images(rows, known), self._texts(rows, known, other, tools)]
        if self.ngrams:
            finders.append(self._runs(rows, other, tools))
        for finder in finders:
            for key, detail, similarity in finder:
                found.setdefault(key, (detail, similarity))
        return decisions(
            Decision(key, "drop", "contaminated", detail=found[key][0], similarity=found[key][1])
            for key in rows["key"].to_pylist()
            if key in found
        )

    def _images(self, rows: pa.Table, known: pa.Table) -> _Found:
        theirs, ours = (_measured(table, "image_hash") for table in (known, rows))
        if not theirs or not ours:
            return
        hashes = hamming.parse_hashes([value for _, value in (*theirs, *ours)])
        for near in hamming.near_duplicates(hashes, self.distance, elders=len(theirs)):
            if near.representative < len(theirs):  # the oldest near one is chosen, so it is theirs if any is
                detail = f"like {theirs[near.representative][0]} of {self.against}"
                yield ours[near.index - len(theirs)][0], detail, 1 - near.distance / hamming.BITS

    def _texts(self, rows: pa.Table, known: pa.Table, other: Version, tools: RuleTools) -> _Found:
        theirs, ours = (_measured(table, "minhash") for table in (known, rows))
        if not theirs or not ours:
            return
        signatures, first = parse_signatures([value for _, value in (*theirs, *ours)]), len(theirs)

        def read(asked: Sequence[int]) -> Iterator[bytes | None]:
            own = tools.contents([ours[row - first][0] for row in asked if row >= first], _TEXT)
            return (next(own) if row >= first else other[theirs[row][0]].fields.get(_TEXT) for row in asked)

        for near in near_duplicates(signatures, self.similarity, read, elders=first, among_elders=True):
            detail = f"like {theirs[near.older][0]} of {self.against}"
            yield ours[near.row - first][0], detail, near.similarity

    def _runs(self, rows: pa.Table, other: Version, tools: RuleTools) -> _Found:
        keys = [key for key, _ in _measured(rows, "minhash")]
        if not keys:
            return
        texts = (sample.fields.get(_TEXT) for sample in other)
        runs = [np.unique(self._hashed(text)) for text in texts if text is not None]
        theirs = np.unique(np.concatenate(runs)) if runs else np.empty(0, np.uint64)
        if not theirs.size:
            return
        for key, text in zip(keys, tools.contents(keys, _TEXT), strict=True):
            own = self._hashed(text) if text is not None else np.empty(0, np.uint64)
            places = np.minimum(np.searchsorted(theirs, own), theirs.size - 1)
            hits = np.flatnonzero(theirs[places] == own)
            if hits.size:
                shared = f"{plural(hits.size, 'run')} of {plural(self.ngrams, 'word')}"
                yield key, f"shares {shared} with {self.against}: {self._spans(hits)}", None

    def _hashed(self, text: bytes) -> Hashes:
        return runs_of(word_hashes(text.decode("utf-8", "replace"))[0], self.ngrams)

    def _spans(self, hits: "np.typing.NDArray[np.intp]") -> str:
        """The words that runs cover, counted from 1, runs that overlap as one."""
        ends = np.flatnonzero(np.diff(hits) > self.ngrams)
        starts = hits[np.concatenate([[0], ends + 1])] + 1
        stops = hits[np.concatenate([ends, [hits.size - 1]])] + self.ngrams
        return "words " + ", ".join(f"{start} to {stop}" for start, stop in zip(starts, stops, strict=True))


def _measured(table: pa.Table, name: str) -> list[tuple[str, Any]]:  # Any: what the column holds
    """Key and value of the rows that have one, of images only where their hash says enough."""
    if name not in table.column_names:
        return []
    pairs = zip(table["key"].to_pylist(), table[name].to_pylist(), strict=True)
    if name == "image_hash" and "image_hash_quality" in table.column_names:
        qualities = table["image_hash_quality"].to_pylist()
        return [pair for pair, quality in zip(pairs, qualities, strict=True) if pair[1] and (quality or 0) >= 50]
    return [pair for pair in pairs if pair[1]]


def _exact(rows: pa.Table, known: pa.Table, against: str) -> _Found:
    """The rows whose fetched bytes or content another sample has."""
    columns = [name for name in ("content_sha256", "sha256") if name in known.column_names]
    theirs: dict[str, str] = {}
    for name in columns:
        for key, sha256 in zip(known["key"].to_pylist(), known[name].to_pylist(), strict=True):
            if sha256:
                theirs.setdefault(sha256, key)
    for name in ("content_sha256", "sha256"):
        for key, sha256 in zip(rows["key"].to_pylist(), rows[name].to_pylist(), strict=True):
            if sha256 in theirs:
                yield key, f"the same as {theirs[sha256]} of {against}", 1.0
