"""What became of the candidates of raw parts: their outcomes, and which rows of the parts still count."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from stoker.pipelines.images.formats import can_decode
from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.partition import digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import OUTCOME_CLASS, OutcomeClass, class_of
from stoker.pipelines.source import Context, ListedSource
from stoker.pipelines.stages.raw_part import DamagedParts
from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.shards.kinds import RECORDS
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.outcome_class import KEPT
from stoker.storage.versions.memory.outcomes import Outcome, hashes_of, merge
from stoker.storage.versions.verified import verified_table

_COLUMNS = ("key", IDENTITY, "reason", "detail", "step", OUTCOME_CLASS, "recipe", "sha256")
_DEFINITE = (KEPT, OutcomeClass.RECIPE, OutcomeClass.BYTES, OutcomeClass.OWNER)
_OPTIONAL_FORMATS = ("heic", "jxl")  # decoded if a package is there

Row = Mapping[str, Any]  # Any: Parquet values


@dataclass(frozen=True)
class RecordReader:
    """Reads what the records of raw parts say of candidates, for a recipe with a listed source."""

    recipe: Recipe
    source: ListedSource
    store: Store

    def rows(self, part: Part) -> list[Row]:
        """The records of a part, with the columns that tell of candidates. Raises DamagedParts."""
        try:
            table = verified_table(self.store, part.records, RECORDS, sha256=part.records_sha256, columns=_COLUMNS)
            rows: list[Row] = table.to_pylist()
        except (CorruptObject, CorruptShard, NotFound, pa.ArrowException, ValueError) as error:
            raise DamagedParts(f"{self.store.url}/{part.records}: {error}", [part]) from error
        return rows

    def is_ours(self, part: Part) -> bool:
        """Whether the part was made by the recipe as it is. Raises DamagedParts."""
        return any(row.get("recipe") == self.recipe.extraction_digest for row in self.rows(part)[:1])

    def is_fault(self, row: Row) -> bool:
        """Whether a row is of the list and not of a candidate: a row without a URL, or another one of a candidate."""
        return row["reason"] == "duplicate_key" or (row["reason"] is not None and self.source.is_of_list(row))

    def outcomes(
        self,
        part: Part,
        stamps: Mapping[str, str | None],
        tries: Callable[[Sequence[str]], Sequence[int | None]],
        *,
        at: datetime,
        setting: str,
    ) -> Iterator[Outcome]:
        """What became of the candidates of a part, once for each.

        Args:
            part: the part.
            stamps: by identity, where they are known.
            tries: the attempts before, of many candidates.
            at: the time that they get.
            setting: fingerprint of the settings of the run.
        """
        own: dict[str, tuple[int, Row]] = {}
        for number, row in enumerate(self.rows(part)):
            if self.is_fault(row):
                continue
            identity = identity_in(row)
            # Beside a candidate there may be rejects of what belongs to it, such as a file that describes an image.
            if identity not in own or (row["reason"] is None and own[identity][1]["reason"] is not None):
                own[identity] = number, row
        for (identity, (number, row)), times in zip(own.items(), tries(list(own)), strict=True):
            kind = KEPT if row["reason"] is None else str(class_of(row, self.recipe.reasons))
            stamp = stamps.get(identity)
            yield Outcome(
                source=name_of(self.source),
                id=identity,
                key=row["key"],
                definite=kind in _DEFINITE,
                kind=kind,
                reason=row["reason"],
                detail=row.get("detail") or None,
                at=at,
                tries=1 if kind in _DEFINITE else (times or 0) + 1,
                stamp=self.source.stamp_of(row) if stamp is None else stamp,
                recipe=self.recipe.extraction_digest,
                setting=setting if kind == OutcomeClass.SETTING else None,
                part=part.digest,
                row=number,
            )

    def superseded(self, part: Part, current: "CurrentParts", listed: Collection[str]) -> dict[str, tuple[int, ...]]:
        """The rows of a part that no longer count, by reason.

        Args:
            part: the part; rows that did not count before still do not, where ``current`` does not know better.
            current: where the outcome lies that counts.
            listed: digests of the parts whose faults are those of the list as it is.
        """
        rows, before = self.rows(part), part.not_counted
        places = current.parts_of([identity_in(row) for row in rows])
        gone: dict[str, list[int]] = {}
        for number, (row, place) in enumerate(zip(rows, places, strict=True)):
            if self.is_fault(row):
                counts = part.digest in listed
            else:
                counts = place == part.digest if place is not None else number not in before
            if not counts:
                gone.setdefault(row["reason"] or "", []).append(number)
        return {reason: tuple(numbers) for reason, numbers in sorted(gone.items())}


class CurrentParts:
    """The raw part with the outcome that counts, of each candidate: the newest definite one, else the newest attempt.

    Args:
        source: name of the source.
        table: outcomes, in any order; they alone are known.
    """

    def __init__(self, source: str, table: pa.Table) -> None:
        self._source = source
        self._parts: dict[tuple[int, str], str] = {}
        rows = merge(table)
        columns = [rows[name].to_pylist() for name in ("hash", "id", "definite", "part")]
        for hashed, identity, definite, part in zip(*columns, strict=True):
            # The newest attempt comes last: it counts only as long as nothing definite is known.
            if definite or (hashed, identity) not in self._parts:
                self._parts[hashed, identity] = part

    def parts_of(self, identities: Sequence[str]) -> list[str | None]:
        """The digest of the part of each candidate; None: it is not known."""
        hashes = hashes_of(self._source, identities).tolist()
        return [self._parts.get(key) for key in zip(hashes, identities, strict=True)]


def identity_in(row: Row) -> str:
    """The identity of a candidate in its source, from its record."""
    return str(row.get(IDENTITY) or row["key"])


def tries_in(source: str, table: pa.Table) -> Callable[[Sequence[str]], list[int | None]]:
    """How many attempts in a row brought nothing definite, of many candidates; None of one that is not in the table."""
    rows = merge(table)
    columns = [rows[name].to_pylist() for name in ("hash", "id", "definite", "tries")]
    # The newest attempt comes last.
    found = {(hashed, one): 0 if definite else tries for hashed, one, definite, tries in zip(*columns, strict=True)}
    return lambda identities: [
        found.get(key) for key in zip(hashes_of(source, identities).tolist(), identities, strict=True)
    ]


def setting_of(context: Context) -> str:
    """Fingerprint of the settings that candidates are rejected by: addresses that are allowed, decoders."""
    decoders = [name for name in _OPTIONAL_FORMATS if can_decode(name)]
    return digest({"private": str(context.web.allow_private), "decoders": decoders})[: layout.DIGEST]
