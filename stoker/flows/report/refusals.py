"""Who was left out of a version, and why: candidates rejected at ingest, then samples dropped by a rule."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.flows.report.samples import Shelf, members_of
from stoker.storage.errors import NotFound
from stoker.storage.shards.shard import Member
from stoker.storage.versions.manifest import Manifest, Part

_DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A candidate that is not in the version."""

    key: str
    reason: str
    detail: str
    by: str  # the source, step or rule that decided
    url: str
    title: str
    part: str  # digest of the raw part
    witness: str  # key of the sample kept in its place; "" if none
    similarity: float | None
    raw: bool  # its bytes were kept beside the version, and can be shown


@dataclass(frozen=True, slots=True)
class Refusals:
    """A page of them."""

    entries: tuple[Refusal, ...]
    number: int  # from 1
    size: int
    total: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // self.size))


def refusals(shelf: Shelf, manifest: Manifest, *, reason: str = "", number: int = 1, size: int) -> Refusals:
    """A page of the refused, of one reason or all. The manifest's counts tell which parts need not be read."""
    at_ingest = [(part, _count(part.rejected, reason)) for part in manifest.parts]
    dropped = _count(manifest.decisions.dropped, reason)
    total = sum(count for _, count in at_ingest) + dropped
    number = min(max(1, number), max(1, -(-total // size)))
    skip, left = (number - 1) * size, size
    entries: list[Refusal] = []
    for part, count in at_ingest:
        if skip < count and left > 0:
            entries += [_rejected(row, part) for row in _rows(shelf, part, reason, skip, left)]
            left = size - len(entries)
        skip = max(0, skip - count)
    if left > 0 and skip < dropped:
        entries += _dropped(shelf, manifest, reason, skip, left)
    return Refusals(tuple(entries), number, size, total)


def raw_member(shelf: Shelf, manifest: Manifest, digest: str, key: str, *extensions: str) -> tuple[Part, Member]:
    """Where a sample's field lies in a raw part, also of a sample that a rule dropped. Raises NotFound."""
    for part in manifest.parts:
        if part.digest == digest:
            row = _find(shelf, part, key)
            own = {member.extension: member for member in members_of(row["members"])} if row else {}
            for extension in extensions:
                if extension in own:
                    return part, own[extension]
    raise NotFound(f"{manifest.reference}: no picture of {key[:100]!r} in its raw parts")


def _count(counts: Mapping[str, int], reason: str) -> int:
    return counts.get(reason, 0) if reason else sum(counts.values())


def _rows(shelf: Shelf, part: Part, reason: str, skip: int, most: int) -> Iterator[dict[str, Any]]:  # Any: Parquet
    table = shelf.table(part.records, part.records_sha256)
    chosen = pc.equal(table["reason"], reason) if reason else pc.is_valid(table["reason"])
    yield from table.filter(pc.fill_null(chosen, False)).slice(skip, most).to_pylist()


def _rejected(row: Mapping[str, Any], part: Part) -> Refusal:  # Any: Parquet values
    return Refusal(
        key=row["key"],
        reason=row["reason"],
        detail=row.get("detail") or "",
        by=row.get("step") or "",
        url=_text(row.get("url") or row.get("page_url")),
        title=_text(row.get("caption") or row.get("title")),
        part=part.digest,
        witness="",
        similarity=None,
        raw=False,
    )


def _dropped(shelf: Shelf, manifest: Manifest, reason: str, skip: int, most: int) -> Iterator[Refusal]:
    table = shelf.table(manifest.decisions.key, manifest.decisions.sha256)
    chosen = pc.equal(table["action"], "drop")
    if reason:
        chosen = pc.and_(chosen, pc.equal(table["value"], reason))
    parts = {part.digest: part for part in manifest.parts}
    for row in table.filter(chosen).slice(skip, most).to_pylist():
        part = parts.get(row["part"])
        known = (_find(shelf, part, row["key"]) if part else None) or {}
        yield Refusal(
            key=row["key"],
            reason=row["value"],
            detail="",
            by=row["rule"],
            url=_text(known.get("url") or known.get("page_url")),
            title=_text(known.get("caption") or known.get("title")),
            part=row["part"],
            witness=row["witness"] or "",
            similarity=row["similarity"],
            raw=bool(known),
        )


def _find(shelf: Shelf, part: Part, key: str) -> dict[str, Any] | None:  # Any: Parquet values
    """The record of a candidate that was kept at ingest."""
    table = shelf.table(part.records, part.records_sha256)
    rows = table.filter(pc.and_(pc.equal(table["key"], pa.scalar(key)), pc.is_null(table["reason"]))).to_pylist()
    return rows[0] if rows else None


def _text(value: object) -> str:
    return "" if value is None else str(value)
