"""The lineage of a candidate: looked up by its key, URL, line of a list, page or hash.

The version's lookups tell which records and indexes may have it, and these are read. A version that an earlier release
made has no lookups: the records of all its parts are read then.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, Self

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
from stoker.storage.versions.lookups.finding import Finder
from stoker.storage.versions.lookups.table import SEARCHED
from stoker.storage.versions.manifest import Manifest, Part
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.memory.ledger import Ledger, newest_head
from stoker.storage.versions.memory.outcome_class import KNOWN
from stoker.storage.versions.verified import verified_table

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


class Drops:
    """What the rules of a version dropped, looked up in the table of their decisions."""

    def __init__(self, decided: pa.Table) -> None:
        self._table = decided.filter(pc.equal(decided["action"], "drop"))

    @classmethod
    def of_version(cls, store: Store, manifest: Manifest) -> Self:
        """Those of a version. Raises StorageError."""
        decisions = manifest.decisions
        return cls(verified_table(store, decisions.key, DECISIONS, sha256=decisions.sha256))

    def of(self, part: str, key: str) -> Mapping[str, Any] | None:  # Any: Parquet values
        """The drop of a sample, the last if there are several."""
        found = [row for row in self._of_key(key) if row["part"] == part]
        return found[-1] if found else None

    def follow(self, dropped: str, witness: str) -> tuple[tuple[str, ...], str]:
        """The samples after a witness because of which each one before was dropped, and the one that is kept, or ""."""
        chain: list[str] = []
        key = witness
        # A sample dropped for its key has a namesake that the later rules decided about.
        while drops := [row for row in self._of_key(key) if row["rule"] != FIRST_RULE]:
            key = drops[-1].get("witness") or ""
            if not key or key in (dropped, witness, *chain):  # samples that contradict each other name each other
                return tuple(chain), ""
            chain.append(key)
        return tuple(chain), key

    def _of_key(self, key: str) -> list[Mapping[str, Any]]:  # Any: Parquet values
        rows: list[Mapping[str, Any]] = self._table.filter(pc.equal(self._table["key"], key)).to_pylist()
        return rows


def find_lineages(store: Store, manifest: Manifest, text: str, *, most: int = 100) -> list[Lineage]:
    """The lineages of all candidates whose key, URL, line of a list, page URL or SHA-256 equals the text.

    At most ``most``. An empty list means that the version does not know it; see ``former``. Raises StorageError.
    """
    return Search(store, manifest).lineages(text, most=most)


class Search:
    """Finds the candidates of a version that texts name; what several searches need is read once.

    Args:
        store: that holds the version.
        manifest: of the version.
        finder: asks the lookups, also those of other versions.
    """

    def __init__(self, store: Store, manifest: Manifest, finder: Finder | None = None) -> None:
        self._store, self._manifest = store, manifest
        self.finder = finder or Finder(store)

    def lineages(self, text: str, *, most: int = 100) -> list[Lineage]:
        """See ``find_lineages``."""
        store, manifest = self._store, self._manifest
        may_hold = self.finder.may_hold(manifest, text)
        lineages: list[Lineage] = []
        of_version = {part.digest for part in manifest.parts}
        for part in self._parts:
            if not may_hold(part.records):
                continue
            gone = part.not_counted
            told = {lineage.key for lineage in lineages} if part.digest not in of_version else frozenset()
            table = tell_vanished(verified_table(store, part.records, RECORDS, sha256=part.records_sha256), part)
            for row, record in matches(table, text):
                if row in gone or record["key"] in told or record["reason"] == KNOWN:
                    continue
                lineages.append(self._lineage(part, record))
                if len(lineages) >= most:
                    return lineages
        return lineages

    @cached_property
    def _head(self) -> Ledger | None:
        return newest_head(self._store, self._manifest.corpus)

    @cached_property
    def _parts(self) -> Sequence[Part]:
        """The raw parts of a version; of the newest one also those, of rejects alone, that were read since."""
        parts, head = [*self._manifest.parts], self._head
        if head is not None and self._manifest.version == max(
            catalog.versions(self._store, self._manifest.corpus), default=0
        ):
            of_version = {part.digest for part in parts}
            parts += (part for part in head.parts if not part.kept and part.digest not in of_version)
        return parts

    @cached_property
    def _drops(self) -> Drops:
        return Drops.of_version(self._store, self._manifest)

    @cached_property
    def _reasons(self) -> Mapping[str, Reason]:
        return reasons_of(self._manifest.recipe)

    def _lineage(self, part: Part, record: Mapping[str, Any]) -> Lineage:  # Any: Parquet values
        """The lineage of a candidate from its record in a part, what rules decided, and what the ledger remembers."""
        store, manifest = self._store, self._manifest
        drop = self._drops.of(part.digest, record["key"]) if record["reason"] is None else None
        lineage = _lineage(part, record, drop, self._reasons)
        if drop is not None and drop.get("witness"):
            chain, stays = self._drops.follow(record["key"], drop["witness"])
            lineage = replace(lineage, chain=chain, stays=stays)
        if lineage.state == "kept":
            split, shard = _find_shard(store, manifest, part, record["key"], self.finder)
            lineage = replace(lineage, split=split, shard=shard)
        if withdrawn := taken_out_on(store, manifest.corpus, record):
            lineage = replace(lineage, record={}, detail="", withdrawn=withdrawn)
        if self._head is not None:
            lineage = replace(lineage, attempts=find_attempts(store, self._head, *identity_of(record)))
        return lineage


def matches(table: pa.Table, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table that a text names, each with its number."""
    mask: pa.ChunkedArray | None = None
    for column in SEARCHED:
        if column in table.column_names and pa.types.is_string(table.schema.field(column).type):
            equal = pc.fill_null(pc.equal(table[column], text), False)
            mask = equal if mask is None else pc.or_(mask, equal)
    if mask is not None:
        yield from zip(pc.indices_nonzero(mask).to_pylist(), table.filter(mask).to_pylist(), strict=True)


def _lineage(
    part: Part,
    record: Mapping[str, Any],  # Any: Parquet values
    drop: Mapping[str, Any] | None,
    reasons: Mapping[str, Reason],
) -> Lineage:
    """What a record and the rule's decision that dropped it, if any, tell of a candidate."""
    state: State = "kept"
    reason, detail, rejected_by = "", "", ""
    outcome_class: OutcomeClass | None = None
    if record["reason"] is not None:
        state, reason = "rejected", record["reason"]
        detail, rejected_by = record.get("detail") or "", record.get("step") or ""
        outcome_class = class_of(record, reasons)
    elif drop is not None:
        state, reason, rejected_by = "dropped", drop["value"], drop["rule"]
        detail = drop.get("detail") or ""
        outcome_class = reasons.get(reason, UNKNOWN).outcome_class
    return Lineage(
        key=record["key"],
        state=state,
        reason=reason,
        detail=detail,
        rejected_by=rejected_by,
        partition=(record.get("partition") if part.shared else None) or part.partition,
        part=part.digest,
        split="",
        shard="",
        duplicate_of=(drop.get("witness") or "") if drop else "",
        outcome_class=outcome_class,
        similarity=drop.get("similarity") if drop else None,
        verified=bool(drop and drop.get("verified")),  # a column of decisions of which one at least is
        record={name: value for name, value in record.items() if name not in _HIDDEN and value is not None},
    )


def _find_shard(store: Store, manifest: Manifest, part: Part, key: str, finder: Finder) -> tuple[str, str]:
    """The split and the tar of a kept sample, from the shards' indexes; two empty strings if none holds it."""
    masks, may_hold = Masks(store), finder.may_hold(manifest, key)
    for shard in manifest.shards:
        if not may_hold(shard.index):
            continue
        index = verified_table(store, shard.index, PACKED_INDEX, sha256=shard.index_sha256, columns=["key", "part"])
        index = masks.live(shard, index)
        if pc.any(pc.and_(pc.equal(index["key"], key), pc.equal(index["part"], part.digest))).as_py():
            return shard.split, shard.key
    return "", ""
