"""The samples of a corpus that a source which lists nothing leaves out: from all that the ledger knows."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.identity import IDENTITY, STAMP
from stoker.pipelines.memory.unchanged import NO_REVISION
from stoker.pipelines.registry import name_of
from stoker.pipelines.stages.remembering.outcomes import REPEATED, RecordReader, identity_in, partition_of
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.outcome_class import KEPT, KNOWN
from stoker.storage.versions.memory.outcomes import hashes_of


def newest_rows(rows: pa.Table) -> pa.Table:
    """The rows by which candidates are kept, sorted by hash, from all definite outcomes."""
    rows = deciding_rows(rows)
    return rows.filter(pc.equal(rows["class"], KEPT))


def deciding_rows(rows: pa.Table) -> pa.Table:
    """The rows that decide about candidates, one for each and sorted by hash, from all definite outcomes."""
    revisions = pc.fill_null(rows["revision"], NO_REVISION).to_numpy()
    hashes = rows["hash"].to_numpy()
    order = np.lexsort((rows["at"].cast(pa.int64()).to_numpy(), revisions, hashes))
    newest = order[np.append(hashes[order][1:] != hashes[order][:-1], True)[: len(order)]]
    return rows.take(pa.array(newest))


def told_by(kept: pa.Table) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The hashes, stamps (0: none) and revisions of ``newest_rows``."""
    stamps = np.zeros(kept.num_rows, np.uint64)
    with_stamp = pc.is_valid(kept["stamp"]).to_numpy()
    stamps[with_stamp] = hashes_of("", kept["stamp"].drop_null().to_pylist())
    return kept["hash"].to_numpy(), stamps, pc.fill_null(kept["revision"], NO_REVISION).to_numpy()


@dataclass(frozen=True, slots=True)
class Alike:
    """Candidates that were kept before and read again, and rows of one identity among them that say other things.

    A table without a key may have one text with two labels, and one with a key a key twice. The ledger knows one of
    them; the others are not new because of that, nor does one take the place of another that the source still has.

    Args:
        counting: by identity the parts and numbers of the rows that count.
        unchanged: those of which the outcome that the ledger knows still counts.
        parts: digests of the parts with such rows.
    """

    counting: Mapping[str, Collection[tuple[str, int]]] = field(default_factory=dict)
    unchanged: Collection[str] = ()
    parts: Collection[str] = ()


def alike(
    reader: RecordReader, before: Sequence[Part], parts: Sequence[Part], current: Collection[str], old: pa.Table
) -> Alike:
    """What counts of candidates without revisions that were kept before. Raises DamagedParts.

    Args:
        reader: of the records of parts.
        before: the parts that were read earlier.
        parts: those of this round.
        current: digests of the partitions that the source has.
        old: what was known of the candidates of the round.
    """
    kept = newest_rows(old.filter(old["definite"])).select(["id", "stamp", "revision", "recipe"]).to_pylist()
    stamps = {row["id"]: row["stamp"] for row in kept if row["stamp"] and row["revision"] is None}
    # What another recipe made may be made anew in this round.
    ours = {row["id"] for row in kept if row["recipe"] == reader.recipe.extraction_digest}
    read: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    there: dict[str, set[str]] = defaultdict(set)
    refused: set[str] = set()
    counting: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for part in parts if stamps else ():
        for number, row in enumerate(reader.rows(part, ("key", IDENTITY, STAMP, "reason", "detail", "step"))):
            identity = identity_in(row)
            if identity not in stamps:
                continue
            if row["reason"] == REPEATED:
                counting[identity].add((part.digest, number))
            elif reader.is_fault(row):
                continue
            elif row["reason"] == KNOWN:
                there[identity].add(stamps[identity])
            elif row["reason"] is not None:
                refused.add(identity)
            elif stamp := row.get(STAMP):
                read[identity].append((part.digest, number, stamp))
    looked_for = {*read} | (refused & there.keys())
    held: dict[str, list[tuple[str, int, str, bool]]] = defaultdict(list)
    given = {part.digest for part in parts}
    hashes = pa.array(hashes_of(name_of(reader.source), looked_for), pa.uint64())
    for part in before if looked_for else ():
        if part.digest in given:
            continue
        for number, row in reader.rows_among(part, hashes, ("key", IDENTITY, STAMP, "reason")):
            identity, reason = identity_in(row), row["reason"]
            if identity not in looked_for or reason not in (None, KNOWN, REPEATED):
                continue
            is_there = part.holds.get(partition_of(row, part) or "") in current
            if reason != KNOWN and number not in part.not_counted:
                held[identity].append((part.digest, number, row.get(STAMP) or "", is_there))
            if is_there and (reason != KNOWN or identity in ours):
                there[identity].add(stamps[identity] if reason == KNOWN else row.get(STAMP) or "")
    unchanged: set[str] = set()
    for identity in looked_for:
        has = there[identity] | {stamp for *_, stamp in read[identity]}
        is_unchanged = stamps[identity] in there[identity]  # and not made anew
        if is_unchanged:
            unchanged.add(identity)
        same = [
            (part, number, stamp)
            for part, number, stamp, is_there in held[identity]
            if is_there or (is_unchanged and stamp in has)
        ]
        known = {stamp for *_, stamp in same}
        new = [one for one in read[identity] if one[2] not in known]
        counting[identity].update((part, number) for part, number, _ in (*same, *new))
    touched = {part for rows in held.values() for part, *_ in rows} | {one[0] for rows in read.values() for one in rows}
    return Alike({one: counting[one] for one in looked_for}, unchanged, touched)
