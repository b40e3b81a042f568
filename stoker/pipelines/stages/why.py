"""The lineage of a candidate: looked up by its key, URL, line of a list, page or hash.

A full scan: every part's records and, for a kept sample, the indexes of shards are read. Price: one lookup reads all
records of the version; in return an ingest has no index to maintain.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.identity import identity_of
from stoker.pipelines.registry import reasons_of
from stoker.pipelines.rejected import OUTCOME_CLASS, UNKNOWN, OutcomeClass, Reason, class_of
from stoker.pipelines.stages.curate import FIRST_RULE
from stoker.pipelines.stages.forgetting.matching import taken_out_on
from stoker.pipelines.stages.remembering.attempts import NO_ATTEMPTS, Attempts, find_attempts
from stoker.storage.clock import timestamp
from stoker.storage.shards.kinds import DECISIONS, PACKED_INDEX, RECORDS
from stoker.storage.shards.row_checksum import CHECKSUMS
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.listed.vanished import tell_vanished
from stoker.storage.versions.manifest import Manifest, Part
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.memory.ledger import Ledger, newest_head
from stoker.storage.versions.memory.outcome_class import KNOWN
from stoker.storage.versions.verified import verified_table

_SEARCHED = ("key", "url", "line", "page_url", "sha256", "content_sha256")
# Columns that mean nothing to a person.
_HIDDEN = ("start", "stop", "members", *CHECKSUMS, "minhash", "image_hash", OUTCOME_CLASS)
_JSON_NAMES = {"rejected_by": "by", "duplicate_of": "witness"}  # as the API has called them since its schema 1

State = Literal["kept", "rejected", "dropped"]


@dataclass(frozen=True, slots=True)
class Lineage:
    """What became of one candidate in a version.

    Args:
        key: the candidate's key.
        state: "rejected" by the source or a step, "dropped" by a rule after ingest, or "kept".
        reason: reject reason; "" if kept.
        detail: free text about the reason; "" if there is none.
        rejected_by: name of the source, step or rule that rejected it; "" if kept.
        partition: name of the partition it was read in.
        part: digest of the raw part.
        split: "" unless kept.
        shard: key of the tar; "" unless kept.
        duplicate_of: key of the sample because of which a rule dropped this one; "" if there is none.
        similarity: to that sample, in [0, 1]; None if not measured.
        verified: whether the similarity was computed from the contents of both, and not estimated.
        record: the columns of its Parquet record that people can read.
        attempts: to read it, as the ledger remembers them; none of sources that list nothing.
        chain: if ``duplicate_of`` was dropped itself, the key of the sample because of which it was, and so on: the
            last one is kept, unless no sample of them is. Empty if it was not dropped.
        stays: key of the sample at the end of the chain that is kept; "" if there is none.
        outcome_class: what it depends on that it is not in the version; None if kept.
        withdrawn: day on which it was taken out of the corpus (`stoker forget`): nothing of its content is told; "" if
            it was not.
    """

    key: str
    state: State
    reason: str
    detail: str
    rejected_by: str
    partition: str
    part: str
    split: str
    shard: str
    duplicate_of: str
    similarity: float | None
    record: Mapping[str, Any]  # Any: Parquet values
    chain: tuple[str, ...] = ()
    stays: str = ""
    outcome_class: OutcomeClass | None = None
    verified: bool = False
    attempts: Attempts = NO_ATTEMPTS
    withdrawn: str = ""

    def to_json(self) -> dict[str, Any]:  # Any: JSON, Parquet values
        """The lineage as the API writes it."""
        names = (field.name for field in fields(self) if field.name != "attempts")
        content = {_JSON_NAMES.get(name, name): getattr(self, name) for name in names}
        coming = self.attempts.next
        return content | {
            "attempts": [
                {"at": timestamp(one.at), "reason": one.reason, "detail": one.detail, "tries": one.tries}
                for one in self.attempts.made
            ],
            "next_try": timestamp(coming.at) if coming and coming.at else None,
        }


def find_lineages(store: Store, manifest: Manifest, text: str, *, most: int = 100) -> list[Lineage]:
    """The lineages of all candidates whose key, URL, line of a list, page URL or SHA-256 equals the text.

    At most ``most``. An empty list means that the version does not know it; see ``former``. Raises StorageError.
    """
    decided = verified_table(store, manifest.decisions.key, DECISIONS, sha256=manifest.decisions.sha256)
    drops = {
        (decision["part"], decision["key"]): decision
        for decision in decided.to_pylist()
        if decision["action"] == "drop"
    }
    # A sample dropped for its key has a namesake that the later rules decided about.
    drop_of = {key: drop for (_, key), drop in drops.items() if drop["rule"] != FIRST_RULE}
    reasons = reasons_of(manifest.recipe)
    lineages: list[Lineage] = []
    head = newest_head(store, manifest.corpus)
    of_version = {part.digest for part in manifest.parts}
    for part in _parts(store, manifest, head):
        gone = part.not_counted
        told = {lineage.key for lineage in lineages} if part.digest not in of_version else frozenset()
        table = tell_vanished(verified_table(store, part.records, RECORDS, sha256=part.records_sha256), part)
        for row, record in matches(table, text):
            if row in gone or record["key"] in told or record["reason"] == KNOWN:
                continue
            drop = drops.get((part.digest, record["key"]))
            lineage = _lineage(store, manifest, part, record, drop, drop_of, reasons)
            if withdrawn := taken_out_on(store, manifest.corpus, record):
                lineage = replace(lineage, record={}, detail="", withdrawn=withdrawn)
            if head is not None:
                lineage = replace(lineage, attempts=find_attempts(store, head, *identity_of(record)))
            lineages.append(lineage)
            if len(lineages) >= most:
                return lineages
    return lineages


def _parts(store: Store, manifest: Manifest, head: Ledger | None) -> Iterator[Part]:
    """The raw parts of a version; of the newest one also those, of rejects alone, that were read since."""
    yield from manifest.parts
    if head is not None and manifest.version == max(catalog.versions(store, manifest.corpus), default=0):
        of_version = {part.digest for part in manifest.parts}
        yield from (part for part in head.parts if not part.kept and part.digest not in of_version)


def matches(table: pa.Table, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table that a text names, each with its number."""
    mask: pa.ChunkedArray | None = None
    for column in _SEARCHED:
        if column in table.column_names and pa.types.is_string(table.schema.field(column).type):
            equal = pc.fill_null(pc.equal(table[column], text), False)
            mask = equal if mask is None else pc.or_(mask, equal)
    if mask is not None:
        yield from zip(pc.indices_nonzero(mask).to_pylist(), table.filter(mask).to_pylist(), strict=True)


def _follow(
    dropped: str,
    witness: str,
    drop_of: Mapping[str, Mapping[str, Any]],  # Any: Parquet values
) -> tuple[tuple[str, ...], str]:
    """The samples after a witness because of which each one before was dropped, and the one that is kept, or ""."""
    chain: list[str] = []
    key = witness
    while key in drop_of:
        key = drop_of[key].get("witness") or ""
        if not key or key in (dropped, witness, *chain):  # samples that contradict each other name each other
            return tuple(chain), ""
        chain.append(key)
    return tuple(chain), key


def _lineage(
    store: Store,
    manifest: Manifest,
    part: Part,
    record: Mapping[str, Any],  # Any: Parquet values
    drop: Mapping[str, Any] | None,
    drop_of: Mapping[str, Mapping[str, Any]],
    reasons: Mapping[str, Reason],
) -> Lineage:
    """The lineage of a candidate from its record in a part, and from the rule's decision that dropped it, if any."""
    state: State = "kept"
    chain, stays = _follow(record["key"], drop["witness"], drop_of) if drop and drop.get("witness") else ((), "")
    reason, detail, rejected_by, split, shard = "", "", "", "", ""
    outcome_class: OutcomeClass | None = None
    if record["reason"] is not None:
        state, reason = "rejected", record["reason"]
        detail, rejected_by = record.get("detail") or "", record.get("step") or ""
        outcome_class = class_of(record, reasons)
    elif drop is not None:
        state, reason, rejected_by = "dropped", drop["value"], drop["rule"]
        detail = drop.get("detail") or ""
        outcome_class = reasons.get(reason, UNKNOWN).outcome_class
    else:
        split, shard = _find_shard(store, manifest, part, record["key"])
    return Lineage(
        key=record["key"],
        state=state,
        reason=reason,
        detail=detail,
        rejected_by=rejected_by,
        partition=part.partition,
        part=part.digest,
        split=split,
        shard=shard,
        duplicate_of=(drop.get("witness") or "") if drop else "",
        chain=chain,
        stays=stays,
        outcome_class=outcome_class,
        similarity=drop.get("similarity") if drop else None,
        verified=bool(drop and drop.get("verified")),  # a column of decisions of which one at least is
        record={name: value for name, value in record.items() if name not in _HIDDEN and value is not None},
    )


def _find_shard(store: Store, manifest: Manifest, part: Part, key: str) -> tuple[str, str]:
    """The split and the tar of a kept sample, from the shards' indexes; two empty strings if none holds it."""
    masks = Masks(store)
    for shard in manifest.shards:
        index = verified_table(store, shard.index, PACKED_INDEX, sha256=shard.index_sha256, columns=["key", "part"])
        index = masks.live(shard, index)
        if pc.any(pc.and_(pc.equal(index["key"], key), pc.equal(index["part"], part.digest))).as_py():
            return shard.split, shard.key
    return "", ""
