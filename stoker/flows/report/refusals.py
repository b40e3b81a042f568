"""Which candidates are not in a version, and why: those rejected at ingest, then those dropped by a rule."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.flows.report.samples import SampleReader, first_member, members_of, stated_checksum
from stoker.pipelines.registry import reasons_of
from stoker.pipelines.rejected import UNKNOWN, OutcomeClass, Reason, class_of
from stoker.storage.errors import NotFound
from stoker.storage.shards.kinds import DECISIONS, RECORDS
from stoker.storage.shards.shard import Member
from stoker.storage.versions.listed.vanished import tell_vanished
from stoker.storage.versions.manifest import Manifest, Part
from stoker.storage.versions.memory.outcome_class import KNOWN

_JSON_NAMES = {"rejected_by": "by", "duplicate_of": "witness"}  # as the API has called them since its schema 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A candidate that is not in the version."""

    key: str
    reason: str
    outcome_class: OutcomeClass  # what it depends on
    detail: str
    rejected_by: str  # the source, step or rule
    url: str
    title: str
    part: str  # digest of the raw part
    duplicate_of: str  # key of the sample because of which a rule dropped it; "" if there is none
    similarity: float | None
    raw: bool  # its bytes are in a raw part, and can be shown

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """The refusal as the API writes it."""
        return {_JSON_NAMES.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class RefusalPage:
    """A page of refusals."""

    entries: tuple[Refusal, ...]
    number: int  # from 1
    size: int
    total: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // self.size))


def refusals(reader: SampleReader, manifest: Manifest, *, reason: str = "", number: int = 1, size: int) -> RefusalPage:
    """A page of the refusals, of one reason or of all. The manifest's counts say which parts need not be read."""
    at_ingest = [(part, _count(part.counted.rejected, reason)) for part in manifest.parts]
    dropped = _count(manifest.decisions.dropped, reason)
    total = sum(count for _, count in at_ingest) + dropped
    number = min(max(1, number), max(1, -(-total // size)))
    skip, left = (number - 1) * size, size
    reasons = reasons_of(manifest.recipe)
    entries: list[Refusal] = []
    for part, count in at_ingest:
        if skip < count and left > 0:
            rows = (_shown(reader, manifest, row) for row in _rows(reader, part, reason, skip, left))
            entries += [_rejected(row, part, reasons) for row in rows]
            left = size - len(entries)
        skip = max(0, skip - count)
    if left > 0 and skip < dropped:
        entries += _dropped(reader, manifest, reason, reasons, skip, left)
    return RefusalPage(tuple(entries), number, size, total)


def all_refusals(reader: SampleReader, manifest: Manifest, *, reason: str = "") -> Iterator[Refusal]:
    """The refusals, of one reason or of all, part by part: each part's records are read once."""
    reasons = reasons_of(manifest.recipe)
    dropped: dict[str, list[dict[str, Any]]] = {}  # by part; Any: Parquet values
    if _count(manifest.decisions.dropped, reason):
        for row in _drops(reader, manifest, reason).to_pylist():
            dropped.setdefault(row["part"], []).append(row)
    for part in manifest.parts:
        if _count(part.counted.rejected, reason):
            for row in _rows(reader, part, reason):
                yield _rejected(_shown(reader, manifest, row), part, reasons)
        if part.digest in dropped:
            table = reader.table(part.records, RECORDS, part.records_sha256)
            kept = table.filter(pc.is_null(table["reason"]))
            keys = pa.array([row["key"] for row in dropped[part.digest]], pa.string())
            records = {record["key"]: record for record in kept.filter(pc.is_in(kept["key"], keys)).to_pylist()}
            for row in dropped[part.digest]:
                yield _drop(row, _shown(reader, manifest, records.get(row["key"], {})), reasons)


def raw_member(
    reader: SampleReader, manifest: Manifest, digest: str, key: str, *extensions: str
) -> tuple[Part, Member, str]:
    """The part, byte range and SHA-256 of a sample's field, also of a sample that a rule dropped. Raises NotFound."""
    for part in manifest.parts:
        if part.digest == digest:
            record = _find_record(reader, part, key)
            members = members_of(record["members"]) if record else ()
            member = first_member(members, extensions)
            if record and reader.is_forgotten(manifest, record):
                raise NotFound(f"{manifest.reference}: {key[:100]!r} was taken out of the corpus")
            if record and member and (sha256 := stated_checksum(record, members, member)):
                return part, member, sha256
    raise NotFound(f"{manifest.reference}: no picture of {key[:100]!r} in its raw parts")


def _count(counts: Mapping[str, int], reason: str) -> int:
    return counts.get(reason, 0) if reason else sum(counts.values())


def _rows(
    reader: SampleReader, part: Part, reason: str, skip: int = 0, most: int | None = None
) -> Iterator[dict[str, Any]]:  # Any: Parquet
    table = tell_vanished(reader.table(part.records, RECORDS, part.records_sha256), part)
    mask = pc.equal(table["reason"], reason) if reason else pc.not_equal(table["reason"], KNOWN)
    if part.superseded:
        gone = part.not_counted
        mask = pc.and_(mask, pa.array([row not in gone for row in range(table.num_rows)]))
    yield from table.filter(pc.fill_null(mask, False)).slice(skip, most).to_pylist()


def _rejected(row: Mapping[str, Any], part: Part, reasons: Mapping[str, Reason]) -> Refusal:  # Any: Parquet values
    return Refusal(
        key=row["key"],
        reason=row["reason"],
        outcome_class=class_of(row, reasons),
        detail=row.get("detail") or "",
        rejected_by=row.get("step") or "",
        url=_text(row.get("url") or row.get("page_url")),
        title=_text(row.get("caption") or row.get("title")),
        part=part.digest,
        duplicate_of="",
        similarity=None,
        raw=False,
    )


def _drops(reader: SampleReader, manifest: Manifest, reason: str) -> pa.Table:
    """The rules' decisions that left a sample out."""
    table = reader.table(manifest.decisions.key, DECISIONS, manifest.decisions.sha256)
    mask = pc.equal(table["action"], "drop")
    return table.filter(pc.and_(mask, pc.equal(table["value"], reason)) if reason else mask)


def _dropped(
    reader: SampleReader, manifest: Manifest, reason: str, reasons: Mapping[str, Reason], skip: int, most: int
) -> Iterator[Refusal]:
    parts = {part.digest: part for part in manifest.parts}
    for row in _drops(reader, manifest, reason).slice(skip, most).to_pylist():
        part = parts.get(row["part"])
        record = (_find_record(reader, part, row["key"]) if part else None) or {}
        yield _drop(row, _shown(reader, manifest, record), reasons)


def _drop(
    row: Mapping[str, Any], record: Mapping[str, Any], reasons: Mapping[str, Reason]
) -> Refusal:  # Any: Parquet values
    return Refusal(
        key=row["key"],
        reason=row["value"],
        outcome_class=reasons.get(row["value"], UNKNOWN).outcome_class,
        detail=row.get("detail") or "",
        rejected_by=row["rule"],
        url=_text(record.get("url") or record.get("page_url")),
        title=_text(record.get("caption") or record.get("title")),
        part=row["part"],
        duplicate_of=row.get("witness") or "",
        similarity=row.get("similarity"),
        raw=bool(record),
    )


def _shown(
    reader: SampleReader, manifest: Manifest, record: Mapping[str, Any]
) -> Mapping[str, Any]:  # Any: Parquet values
    """What is told of a candidate: of one that was taken out of the corpus nothing but its key and its reason."""
    if not record or not reader.is_forgotten(manifest, record):
        return record
    return {name: record[name] for name in ("key", "reason", "step") if name in record and record["reason"] is not None}


def _find_record(reader: SampleReader, part: Part, key: str) -> dict[str, Any] | None:  # Any: Parquet values
    """The record of a candidate that was kept at ingest; None if there is none."""
    table = reader.table(part.records, RECORDS, part.records_sha256)
    rows = table.filter(pc.and_(pc.equal(table["key"], pa.scalar(key)), pc.is_null(table["reason"]))).to_pylist()
    return rows[0] if rows else None


def _text(value: object) -> str:
    return "" if value is None else str(value)
