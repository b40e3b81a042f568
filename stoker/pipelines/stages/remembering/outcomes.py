"""What became of the candidates of raw parts: their outcomes, and which rows of the parts still count."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.images.formats import can_decode
from stoker.pipelines.memory.identity import IDENTITY, STAMP
from stoker.pipelines.memory.missing import lasts, with_day
from stoker.pipelines.memory.originals import ORIGINAL
from stoker.pipelines.partition import digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import OUTCOME_CLASS, OutcomeClass, class_of
from stoker.pipelines.source import Context, Source
from stoker.pipelines.stages.raw_part import DamagedParts
from stoker.pipelines.web import measured
from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.shards.blank import is_blank
from stoker.storage.shards.kinds import RECORDS
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.outcome_class import GONE, KEPT, KNOWN, MOVED, VANISHED
from stoker.storage.versions.memory.outcomes import Outcome, from_table, hash_of, hashes_of, merge
from stoker.storage.versions.queries.hashing import short_hashes
from stoker.storage.versions.verified import verified_table

_OF_SOURCES = ("sha256", "revision_id", "revision_sha1")  # that stamps and revisions are told by
_PARTITION = "partition"
REPEATED = "duplicate_key"  # of a row beside another one of a candidate
_COLUMNS = (
    *("key", IDENTITY, STAMP, "reason", "detail", "step", OUTCOME_CLASS, "recipe", "final_url", "fetched_at"),
    *_OF_SOURCES,
    *measured.COLUMNS,
    ORIGINAL,
)
_DEFINITE = (KEPT, OutcomeClass.RECIPE, OutcomeClass.BYTES, OutcomeClass.OWNER)
_LOOKED_AT = 1000  # rows: those of a file that was fetched whole all say when
_OPTIONAL_FORMATS = ("heic", "jxl")  # decoded if a package is there

Row = Mapping[str, Any]  # Any: Parquet values


@dataclass(frozen=True)
class RecordReader:
    """Reads what the records of raw parts say of candidates, for a recipe."""

    recipe: Recipe
    source: Source
    store: Store

    def rows(self, part: Part, columns: Sequence[str] = _COLUMNS, *, most: int | None = None) -> list[Row]:
        """The records of a part, by default with the columns that tell of candidates. Raises DamagedParts.

        Of a part that several partitions share with the column that ``partition_of`` reads, too.
        """
        rows: list[Row] = self._table(part, columns).slice(0, most).to_pylist()
        return rows

    def rows_among(self, part: Part, hashes: pa.Array, columns: Sequence[str] = _COLUMNS) -> list[tuple[int, Row]]:
        """The records with their numbers of candidates whose hashes are among these. Raises DamagedParts.

        For others no Python object is made. ``columns``: key and IDENTITY are among them.
        """
        table = self._table(part, columns)
        identities = table["key"]
        if IDENTITY in table.column_names:
            named = table[IDENTITY].cast(pa.string())
            identities = pc.if_else(pc.fill_null(pc.not_equal(named, ""), False), named, identities)
        found = short_hashes(f"{name_of(self.source)}\0".encode(), identities)
        numbers = np.flatnonzero(pc.is_in(pa.array(found), value_set=hashes).to_numpy(zero_copy_only=False))
        return list(zip(numbers.tolist(), table.take(pa.array(numbers)).to_pylist(), strict=True))

    def _table(self, part: Part, columns: Sequence[str]) -> pa.Table:
        columns = [*columns, _PARTITION] if part.shared else columns
        try:
            return verified_table(self.store, part.records, RECORDS, sha256=part.records_sha256, columns=columns)
        except (CorruptObject, CorruptShard, NotFound, pa.ArrowException, ValueError) as error:
            raise DamagedParts(f"{self.store.url}/{part.records}: {error}", [part]) from error

    def identities(self, part: Part, names: Collection[str]) -> list[str]:
        """Those of the candidates of a part, of partitions with these names. Raises DamagedParts."""
        rows = self.rows(part, ("key", IDENTITY, "reason", "detail", "step"))
        return [identity_in(row) for row in rows if not self.is_fault(row) and partition_of(row, part) in names]

    def first_fetched(self, part: Part, name: str) -> Row:
        """The first record of a partition in a part that says when it was fetched; {} if none does.

        Raises DamagedParts.
        """
        rows = self.rows(part, ("fetched_at", *measured.COLUMNS), most=None if part.shared else _LOOKED_AT)
        return next((row for row in rows if row.get("fetched_at") and partition_of(row, part) == name), {})

    def is_fault(self, row: Row) -> bool:
        """Whether a row is of the list and not of a candidate: a row without a URL, or another one of a candidate."""
        if row["reason"] in (None, KNOWN):
            return False
        return row["reason"] == REPEATED or self.source.is_of_list(row)

    def outcomes(
        self,
        part: Part,
        stamps: Mapping[str, str | None],
        earlier: "Earlier",
        *,
        at: datetime,
        setting: str,
        is_adopted: bool = False,
        unchanged: Collection[str] = (),
    ) -> Iterator[Outcome]:
        """What became of the candidates of a part, once for each.

        Of one that is unchanged, that it was seen so; nothing, if nothing is known of it.

        Args:
            part: the part.
            stamps: by identity, where they are known.
            earlier: what was known of them before.
            at: the time that they get, or one after that of the last attempt where the clock was set back since.
            is_adopted: of a part that was read before there was a ledger: the time of its records goes before ``at``.
            setting: fingerprint of the settings of the run.
            unchanged: identities of which only that counts here which is as it was, see ``samples.Alike``.
        """
        own: dict[str, tuple[int, Row]] = {}
        for number, row in enumerate(self.rows(part)):
            if self.is_fault(row) or is_blank(row["key"]):
                continue
            identity = identity_in(row)
            if identity in unchanged and row["reason"] != KNOWN:
                continue
            # Beside a candidate there may be rejects of what belongs to it, such as a file that describes an image.
            if identity not in own or _order(row) < _order(own[identity][1]):
                own[identity] = number, row
        for (identity, (number, row)), times in zip(own.items(), earlier.tries(list(own)), strict=True):
            stamp = stamps.get(identity)
            stamp = row.get(STAMP) if stamp is None else stamp
            validators = measured.validators_in(row)
            if row["reason"] == KNOWN:
                if (before := earlier.outcome(identity)) is not None:
                    seen = replace(
                        before, at=earlier.after(identity, at), stamp=before.stamp if stamp is None else stamp
                    )
                    if validators:
                        seen = replace(
                            seen, etag=validators.etag or None, last_modified=validators.last_modified or None
                        )
                    yield replace(seen, definite=False, reason=KNOWN) if before.kind == KEPT else seen
                continue
            kind = KEPT if row["reason"] is None else str(class_of(row, self.recipe.reasons))
            detail = row.get("detail") or None
            if row["reason"] == GONE and earlier.last_kept(identity):
                detail = with_day(detail or "", earlier.detail_of_gone(identity), at.date().isoformat())
            yield Outcome(
                source=name_of(self.source),
                id=identity,
                key=row["key"],
                definite=kind in _DEFINITE,
                kind=kind,
                reason=row["reason"],
                detail=detail,
                at=(fetched_at(row) or at) if is_adopted else earlier.after(identity, at),
                tries=1 if kind in _DEFINITE else (times or 0) + 1,
                size=measured.size_in(row),
                etag=validators.etag or None,
                last_modified=validators.last_modified or None,
                stamp=self.source.stamp_of(row) if stamp is None else stamp,
                revision=self.source.revision_of(row),
                recipe=row.get("recipe") or self.recipe.extraction_digest,
                setting=setting if kind == OutcomeClass.SETTING else measured.robots_in(row),
                part=part.digest,
                row=number,
            )

    def superseded(
        self,
        part: Part,
        current: "CurrentParts",
        listed: Collection[str],
        *,
        still: Collection[str] | None = None,
        spared: bool = False,
    ) -> dict[str, tuple[int, ...]]:
        """The rows of a part that no longer count, by reason; those of unchanged candidates never do.

        Args:
            part: the part; rows that did not count before still do not, where ``current`` does not know better.
            current: where the outcome lies that counts.
            listed: digests of the parts whose faults are those of the list as it is.
            still: of a source that lists nothing, the names of the partitions in the part that it still has. What was
                rejected there still is, and two samples of one identity are for rules to decide about, unless one is a
                newer revision. None: the source lists its candidates.
            spared: what vanished counts all the same, unless it did not before.
        """
        rows, before, left_out = self.rows(part), part.not_counted, part.vanished
        places = current.parts_of([identity_in(row) for row in rows])
        gone: dict[str, list[int]] = {}
        for number, (row, place) in enumerate(zip(rows, places, strict=True)):
            if row["reason"] == KNOWN:
                continue
            is_read = None if still is None else partition_of(row, part) in still
            if row["reason"] is None and number not in before:
                is_out = number in left_out
                has_vanished = current.has_vanished(identity_in(row))
                if is_out if has_vanished is None else has_vanished and (is_out or not spared):
                    gone.setdefault(VANISHED, []).append(number)
                    continue
            is_alike = None
            if row["reason"] in (None, REPEATED):
                is_alike = current.counts(identity_in(row), part.digest, number)
            if is_alike is not None:
                counts = is_alike
            elif self.is_fault(row):
                counts = part.digest in listed
            elif is_read and row["reason"] is None and self.source.revision_of(row) is None:
                counts = True
            else:
                counts = place == part.digest if place is not None else number not in before
            if not counts or (row["reason"] is not None and is_read is False and not is_alike):
                gone.setdefault(row["reason"] or "", []).append(number)
        return {reason: tuple(numbers) for reason, numbers in sorted(gone.items())}


class CurrentParts:
    """The raw part with the outcome that counts, of each candidate: the newest definite one, else the newest attempt.

    Args:
        source: name of the source.
        table: outcomes, in any order; they alone are known.
        drops: whether a kept candidate that the source has no more is left out; None: nothing changes about that.
        counting: of candidates that have several rows by themselves, the parts and numbers of those that count.
    """

    def __init__(
        self,
        source: str,
        table: pa.Table,
        *,
        drops: bool | None = None,
        counting: Mapping[str, Collection[tuple[str, int]]] = MappingProxyType({}),
    ) -> None:
        self._source, self._drops, self._counting = source, drops, counting
        self._parts: dict[tuple[int, str], str] = {}
        self._vanished: dict[tuple[int, str], bool] = {}
        rows = merge(table)
        columns = [rows[name].to_pylist() for name in ("hash", "id", "part", "reason", "tries")]
        for hashed, identity, part, reason, tries in zip(*columns, strict=True):
            # Of two rows the first is the definite outcome that counts, the second the newest attempt.
            self._parts.setdefault((hashed, identity), part)
            self._vanished[hashed, identity] = reason == VANISHED or lasts(reason, tries)

    def parts_of(self, identities: Sequence[str]) -> list[str | None]:
        """The digest of the part of each candidate; None: it is not known."""
        hashes = hashes_of(self._source, identities).tolist()
        return [self._parts.get(key) for key in zip(hashes, identities, strict=True)]

    def counts(self, identity: str, part: str, number: int) -> bool | None:
        """Whether this row of a kept candidate counts; None: the part with the outcome that counts tells."""
        counting = self._counting.get(identity)
        return None if counting is None else (part, number) in counting

    def has_vanished(self, identity: str) -> bool | None:
        """Whether a kept candidate is left out, as the source has it no more; None: as it was before."""
        found = self._vanished.get((hash_of(self._source, identity), identity))
        return None if found is None or self._drops is None else found and self._drops


def partition_of(row: Row, part: Part) -> str | None:
    """The name of the partition that a record is of; None of one that a purge blanked."""
    return row.get(_PARTITION) if part.shared else part.partition


def identity_in(row: Row) -> str:
    """The identity of a candidate in its source, from its record."""
    return str(row.get(IDENTITY) or row["key"])


class Earlier:
    """What was known of candidates before a round.

    Args:
        source: name of the source.
        table: outcomes, in any order; they alone are known.
    """

    def __init__(self, source: str, table: pa.Table) -> None:
        self._source, self._rows = source, merge(table)
        names = ("hash", "id", "definite", "tries", "reason", "at", "detail")
        columns = [self._rows[name].to_pylist() for name in names]
        self._at: dict[tuple[int, str], datetime] = {}
        self._tries: dict[tuple[int, str], int] = {}
        self._newest: dict[tuple[int, str], int] = {}  # number of the row
        self._gone: dict[tuple[int, str], str] = {}  # details of newest attempts that met GONE
        self._decisive: dict[tuple[int, str], int] = {}  # number of the row that says what the candidate is
        for number, (hashed, one, definite, tries, reason, at, detail) in enumerate(zip(*columns, strict=True)):
            # The newest attempt comes last.
            self._at[hashed, one], self._newest[hashed, one] = at, number
            self._tries[hashed, one] = 0 if definite or reason in (KNOWN, VANISHED) else tries
            self._gone[hashed, one] = (detail or "") if reason == GONE else ""
            self._decisive.setdefault((hashed, one), number)

    def tries(self, identities: Sequence[str]) -> list[int | None]:
        """How many attempts in a row brought nothing definite, of many candidates; None of one that is not known."""
        return [
            self._tries.get(key) for key in zip(hashes_of(self._source, identities).tolist(), identities, strict=True)
        ]

    def after(self, identity: str, now: datetime) -> datetime:
        """The time of an attempt that is made now: the newest attempt counts, also where the clock was set back."""
        last = self._at.get((hash_of(self._source, identity), identity))
        return now if last is None or last <= now else last + timedelta(microseconds=1)

    def outcome(self, identity: str) -> Outcome | None:
        """The newest definite outcome of a candidate, else its newest attempt; None of one that is not known."""
        number = self._decisive.get((hash_of(self._source, identity), identity))
        return None if number is None else from_table(self._rows.slice(number, 1))[0]

    def last_kept(self, identity: str) -> Outcome | None:
        """Of a kept candidate its newest attempt, if that found it as it was, else the outcome that kept it."""
        before = self.outcome(identity)
        if before is None or before.kind != KEPT:
            return None
        newest = self._newest[hash_of(self._source, identity), identity]
        last = from_table(self._rows.slice(newest, 1))[0]
        return last if last.kind == KEPT else before

    def detail_of_gone(self, identity: str) -> str:
        """The detail of a candidate's newest attempt, if that met GONE; else ""."""
        return self._gone.get((hash_of(self._source, identity), identity), "")

    def with_moved(self, made: Iterable[Outcome], moved: Mapping[str, str]) -> Iterator[Outcome]:
        """Outcomes, and after each kept one in ``moved`` that of the candidate whose place it takes, which goes."""
        for outcome in made:
            yield outcome
            former = self.outcome(moved[outcome.id]) if outcome.kind == KEPT and outcome.id in moved else None
            if former is not None:
                # Its stamp is none that a list tells: if it comes back, it is read again.
                yield replace(
                    former,
                    kind=str(OutcomeClass.BYTES),
                    definite=True,
                    reason=MOVED,
                    detail=f"now {outcome.key or outcome.id}",
                    at=self.after(former.id, outcome.at),
                    tries=1,
                    stamp="",
                    part=outcome.part,
                    row=None,
                )


def fetched_at(row: Row) -> datetime | None:
    """When a candidate was fetched, if its record tells that as a time with a zone."""
    try:
        at = datetime.fromisoformat(str(row.get("fetched_at")))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _order(row: Row) -> int:
    """Which of the rows of one candidate tells what became of it: the least."""
    return 0 if row["reason"] is None else 2 if row["reason"] == KNOWN else 1


def setting_of(context: Context) -> str:
    """Fingerprint of the settings that candidates are rejected by: addresses that are allowed, decoders."""
    decoders = [name for name in _OPTIONAL_FORMATS if can_decode(name)]
    return digest({"private": str(context.web.allow_private), "decoders": decoders})[: layout.DIGEST]
