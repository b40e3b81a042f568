"""What a manifest names: shards, masks, raw parts, decisions; and their JSON."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.storage.versions.document import Document
from stoker.storage.versions.memory.outcome_class import KNOWN, VANISHED


@dataclass(frozen=True, slots=True)
class Mask:
    """Which stored rows of a group of shards a version leaves out: a deletion vector, see ``masks``."""

    group: str  # digest
    key: str
    size: int  # bytes
    sha256: str

    @classmethod
    def from_document(cls, document: Document) -> "Mask":
        """Raises CorruptShard naming the invalid field."""
        return cls(document.text("group"), document.text("key"), document.whole("size"), document.text("sha256"))


@dataclass(frozen=True, slots=True)
class MaskPlace:
    """Where a shard's rows lie in the mask of its group."""

    mask: Mask
    start: int  # the group's rows before the shard's first one
    rows: int  # of the whole group


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar of a split and its index."""

    key: str  # in the corpus's store, or in the store at the manifest's ``tars``
    split: str
    samples: int  # that the version holds of it
    size: int  # bytes
    sha256: str
    index: str  # key of the Parquet
    index_size: int  # bytes
    index_sha256: str
    group: str  # digest of the group that it was packed in
    masked: int = 0  # samples that its tar and index store, and the version leaves out
    place: MaskPlace | None = field(
        default=None, repr=False, compare=False
    )  # set by the manifest where some are masked
    # Where a purge wrote tar or index anew: as the manifest names them.
    before: "Shard | None" = field(default=None, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Samples that its tar and index store."""
        return self.samples + self.masked

    @property
    def identity(self) -> str:
        """Equal for shards that hold the same samples at the same places: checksums of the index and its mask."""
        return self.index_sha256 + (f" {self.place.mask.sha256} {self.place.start}" if self.place else "")

    def stored(self) -> "Shard":
        """The shard without its mask, as its group has it."""
        return self if not self.masked else dataclasses.replace(self, samples=self.rows, masked=0, place=None)

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The shard as JSON values, as manifests name it; ``masked`` only where some are."""
        own = {"samples": self.samples} | ({"masked": self.masked} if self.masked else {})
        return {name: getattr(self.before or self, name) for name in _OF_SHARDS} | own

    @classmethod
    def from_document(cls, document: Document) -> "Shard":
        """Raises CorruptShard naming the invalid field."""
        return cls(
            key=document.text("key"),
            split=document.text("split"),
            samples=document.whole("samples"),
            size=document.whole("size"),
            sha256=document.text("sha256"),
            index=document.text("index"),
            index_size=document.whole("index_size"),
            index_sha256=document.text("index_sha256"),
            group=document.text("group"),
            masked=document.whole("masked") if document.has("masked") else 0,
        )


_OF_SHARDS = tuple(name for name in Shard.__slots__ if name not in ("masked", "place", "before"))


@dataclass(frozen=True, slots=True)
class Part:
    """One raw part: the outcome of a partition."""

    partition: str
    digest: str
    tar: str  # key
    tar_sha256: str
    tar_size: int  # bytes
    records: str  # key of the Parquet
    records_sha256: str
    read: int  # candidates; read == kept + rejected
    kept: int
    rejected: Mapping[str, int]  # by reason; KNOWN among them, which is none
    omitted: Mapping[str, int] = field(default_factory=dict)  # what was read and left out, most frequent names
    # Rows of its records that no longer count, because a later part tells what became of the candidate: by reason, ""
    # those that were kept. Under VANISHED kept ones that count as rejected: the source has the candidate no more.
    superseded: Mapping[str, Sequence[int]] = field(default_factory=dict)
    grouped: bool = True  # False: nothing of it was kept, and it is in no group of shards
    ends_group: bool = False  # whether no part behind it is in its group, where another run read that
    # Keys of the tars with the bytes of its candidates as they were fetched, also of earlier parts, where the recipe
    # keeps them. No part is another one for it: nothing that it says depends on them.
    originals: Sequence[str] = field(default=(), compare=False)
    # Name → digest of each partition in it, where several small ones share the part; of one alone none.
    shared: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> Mapping[str, str]:
        """Name → digest of the partitions in it."""
        return self.shared or {self.partition: self.digest}

    @property
    def known(self) -> int:
        """Candidates that were known before and are as they were: earlier parts tell what became of them."""
        return self.rejected.get(KNOWN, 0)

    @property
    def counted(self) -> "Candidates":
        """Its candidates that count: all but those that an earlier or a later part tells of."""
        gone = {reason: len(rows) for reason, rows in self.superseded.items()} | {KNOWN: self.known}
        vanished = gone.pop(VANISHED, 0)
        rejected = {reason: left for reason, count in self.rejected.items() if (left := count - gone.get(reason, 0))}
        rejected |= {VANISHED: vanished} if vanished else {}
        kept = self.kept - gone.get("", 0) - vanished
        return Candidates(self.read - sum(gone.values()), kept, rejected, self.known)

    @property
    def not_counted(self) -> frozenset[int]:
        """The rows of its records that no longer count, because a later part tells of them."""
        return frozenset(row for reason, rows in self.superseded.items() if reason != VANISHED for row in rows)

    @property
    def vanished(self) -> frozenset[int]:
        """The rows of kept samples that are left out, because the source has them no more."""
        return frozenset(self.superseded.get(VANISHED, ()))

    @property
    def left_out(self) -> tuple[int, ...]:
        """The rows of kept samples that are none of the corpus: no longer counted, or vanished."""
        return tuple(sorted((*self.superseded.get("", ()), *self.superseded.get(VANISHED, ()))))

    def as_read(self) -> "Part":
        """The part as its marker says it: whatever later parts tell."""
        return dataclasses.replace(self, superseded={}, grouped=True, ends_group=False)

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The part as JSON values; those of fields that came later only where they say something."""
        content = dataclasses.asdict(self)
        for name, default in _LATER.items():
            if content[name] == default:
                del content[name]
        if self.superseded:
            content["superseded"] = {reason: list(rows) for reason, rows in sorted(self.superseded.items())}
        return content | ({"originals": list(self.originals)} if self.originals else {})

    @classmethod
    def from_document(cls, document: Document) -> "Part":
        """Raises CorruptShard naming the invalid field."""
        return cls(
            partition=document.text("partition"),
            digest=document.text("digest"),
            tar=document.text("tar"),
            tar_sha256=document.text("tar_sha256"),
            tar_size=document.whole("tar_size"),
            records=document.text("records"),
            records_sha256=document.text("records_sha256"),
            read=document.whole("read"),
            kept=document.whole("kept"),
            rejected=document.counts("rejected"),
            omitted=document.counts("omitted") if document.has("omitted") else {},
            superseded=_superseded(document) if document.has("superseded") else {},
            grouped=document.flag("grouped") if document.has("grouped") else True,
            ends_group=document.flag("ends_group") if document.has("ends_group") else False,
            originals=tuple(document.texts("originals")) if document.has("originals") else (),
            shared=_shared(document.document("shared")) if document.has("shared") else {},
        )


_LATER: Mapping[str, Any] = {
    "omitted": {},
    "superseded": {},
    "grouped": True,
    "ends_group": False,
    "originals": (),
    "shared": {},
}  # Any: JSON


def _shared(document: Document) -> dict[str, str]:
    return {name: document.text(name) for name in document.content}


def _superseded(document: Document) -> dict[str, tuple[int, ...]]:
    by_reason = document.document("superseded")
    return {reason: tuple(by_reason.wholes(reason)) for reason in by_reason.content}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of raw parts: ``read == kept + sum(rejected.values())``."""

    read: int
    kept: int  # by steps; rules may drop some of them
    rejected: Mapping[str, int]  # by reason
    known: int = 0  # beside them: what was read once more, and was as it was

    @classmethod
    def of(cls, parts: Iterable[Part]) -> "Candidates":
        """The totals of parts."""
        read = kept = known = 0
        rejected: Counter[str] = Counter()
        for part in parts:
            counted = part.counted
            read, kept, known = read + counted.read, kept + counted.kept, known + counted.known
            rejected.update(counted.rejected)
        return cls(read, kept, dict(sorted(rejected.items())), known)

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The counts as JSON values; ``known`` only where there are some."""
        content = dataclasses.asdict(self)
        if not self.known:
            del content["known"]
        return content

    @classmethod
    def from_document(cls, document: Document) -> "Candidates":
        """Raises CorruptShard naming the invalid field."""
        known = document.whole("known") if document.has("known") else 0
        return cls(document.whole("read"), document.whole("kept"), document.counts("rejected"), known)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the rules decided about the samples that the parts kept."""

    key: str
    size: int  # bytes
    sha256: str
    dropped: Mapping[str, int]  # by reason
    moved: int  # samples in another split than their group's name says
    leaks: int = 0  # contents in several splits: of versions of earlier releases, whose samples stay where they are

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The decisions as JSON values; ``leaks`` only where there are some."""
        content = dataclasses.asdict(self)
        if not self.leaks:
            del content["leaks"]
        return content

    @classmethod
    def from_document(cls, document: Document) -> "Decisions":
        """Raises CorruptShard naming the invalid field."""
        return cls(
            key=document.text("key"),
            size=document.whole("size"),
            sha256=document.text("sha256"),
            dropped=document.counts("dropped"),
            moved=document.whole("moved"),
            leaks=document.whole("leaks") if document.has("leaks") else 0,
        )


@dataclass(frozen=True, slots=True)
class SplitTotals:
    """Totals of one split."""

    samples: int
    shards: int
    size: int  # bytes of its tars
    masked: int = 0  # samples that its tars store, and the version leaves out

    @classmethod
    def from_document(cls, document: Document) -> "SplitTotals":
        """Raises CorruptShard naming the invalid field."""
        names = ("samples", "shards", "size", "masked")
        return cls(*(document.whole(name) for name in names))
