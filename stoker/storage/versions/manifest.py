"""The manifest of a version: its shards, what they were made of, and their checksums."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.deleted import is_deleted
from stoker.storage.versions.document import Document
from stoker.storage.versions.sealed import CHECKSUM, checksum, seal

# The newest schema that is read. Each is written only where it is needed, so that older releases read all others.
SCHEMA = 3  # of versions with masks
_EXTERNAL = 2  # of those whose tars are external
_PLAIN = 1  # of those whose tars are in the corpus's own store
TAR = ".tar"
_SHOWN_SPLITS, _SHOWN_NAME = 6, 40  # splits, and characters of their names, in a repr


@dataclass(frozen=True, slots=True)
class Mask:
    """Which stored rows of a group of shards a version leaves out: a deletion vector, see ``masks``."""

    group: str  # digest
    key: str
    size: int  # bytes
    sha256: str


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
        """The shard as JSON values; ``masked`` only where some are."""
        return {name: getattr(self, name) for name in _OF_SHARDS} | ({"masked": self.masked} if self.masked else {})


_OF_SHARDS = tuple(name for name in Shard.__slots__ if name not in ("masked", "place"))


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
    rejected: Mapping[str, int]  # by reason
    omitted: Mapping[str, int] = field(default_factory=dict)  # what was read and left out, most frequent names

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The part as JSON values; nothing omitted is not there."""
        content = dataclasses.asdict(self)
        if not self.omitted:
            del content["omitted"]
        return content

    @classmethod
    def from_document(cls, document: Document) -> "Part":
        """Reverses ``to_json``. Raises CorruptShard."""
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
        )


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the rules decided about the samples that the parts kept."""

    key: str
    size: int  # bytes
    sha256: str
    dropped: Mapping[str, int]  # by reason
    moved: int  # samples in another split than their group's name says


@dataclass(frozen=True, slots=True)
class SplitTotals:
    """Totals of one split."""

    samples: int
    shards: int
    size: int  # bytes of its tars


@dataclass(frozen=True)
class Manifest:
    """A version of a corpus: immutable, and complete as soon as the manifest is in the store.

    >>> from stoker import load_manifest
    >>> from stoker.testing import sample_corpus
    >>> store, _ = sample_corpus(12)
    >>> manifest = load_manifest(store, "numbers")
    >>> manifest.reference, manifest.samples, list(manifest.splits)
    ('numbers@1', 12, ['train'])
    >>> manifest
    Manifest(numbers@1: 12 samples in train 12; 25,600 bytes)
    """

    corpus: str  # its name
    version: int  # from 1
    created_at: str  # ISO 8601, UTC
    stoker: str  # version of Stoker that made it
    recipe: Mapping[str, Any]  # what the corpus was made by; Any: TOML as JSON values
    recipe_digest: str  # SHA-256 of the recipe
    parent: int | None  # the version before; None for the first
    content: str  # digest of the samples and splits: equal for equal content, whatever made it
    parts: tuple[Part, ...]  # raw parts; empty for an indexed corpus
    shards: tuple[Shard, ...]  # tars and their indexes
    decisions: Decisions  # of the rules
    statistics: Mapping[str, Any] = field(repr=False)  # split → JSON of a Summary; Any: JSON values
    licences: Mapping[str, int]  # samples by licence
    tars: str | None = None  # URL of the store that holds the shards' tars; None: the corpus's own
    masks: tuple[Mask, ...] = ()  # of groups, of some of whose rows the version is without

    def __post_init__(self) -> None:
        # Once: parts of a version, which streams are made of, may have some of the shards in another order.
        if self.masks and not any(shard.place for shard in self.shards):
            object.__setattr__(self, "shards", _placed(self.shards, self.masks))

    def __repr__(self) -> str:
        """Name and totals: with every shard, part and statistic it would be thousands of characters."""
        return (
            f"Manifest({self.reference}: {self.samples:,} samples in {list_splits(self.splits)}; {self.size:,} bytes)"
        )

    @property
    def schema(self) -> int:
        """Version of the manifest's JSON format."""
        if self.masks:
            return SCHEMA
        return _PLAIN if self.tars is None else _EXTERNAL

    @property
    def is_packed(self) -> bool:
        """Whether its tars hold its samples and no others; a version with masks is a view of them."""
        return not self.masks

    @property
    def is_indexed(self) -> bool:
        """Whether its tars are external, indexed in place: there are no records of rejected samples then."""
        return bool(self.shards) and not self.parts

    @property
    def reference(self) -> str:
        """Its name, such as ``digits@2``."""
        return f"{self.corpus}@{self.version}"

    @cached_property
    def samples(self) -> int:
        """Samples in all splits."""
        return sum(shard.samples for shard in self.shards)

    @cached_property
    def masked(self) -> int:
        """Samples in its tars that the version leaves out."""
        return sum(shard.masked for shard in self.shards)

    @cached_property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)

    @cached_property
    def read(self) -> int:
        """Candidates of all parts: ``read == kept + sum(rejected.values())``."""
        return sum(part.read for part in self.parts)

    @cached_property
    def kept(self) -> int:
        """Samples that neither a step nor a rule rejected."""
        return sum(part.kept for part in self.parts) - sum(self.decisions.dropped.values())

    @cached_property
    def rejected(self) -> Mapping[str, int]:
        """Samples rejected by steps and rules, by reason, in order of the reason."""
        total: Counter[str] = Counter(self.decisions.dropped)
        for part in self.parts:
            total.update(part.rejected)
        return dict(sorted(total.items()))

    @cached_property
    def splits(self) -> Mapping[str, SplitTotals]:
        """Totals of each split, in the order of the shards."""
        totals: dict[str, SplitTotals] = {}
        for shard in self.shards:
            before = totals.get(shard.split, SplitTotals(0, 0, 0))
            totals[shard.split] = SplitTotals(
                before.samples + shard.samples, before.shards + 1, before.size + shard.size
            )
        return totals

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The manifest as JSON values."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content["parts"] = [part.to_json() for part in self.parts]
        content["shards"] = [shard.to_json() for shard in self.shards]
        content["decisions"] = dataclasses.asdict(self.decisions)
        content["masks"] = [dataclasses.asdict(mask) for mask in self.masks]
        if self.tars is None:
            del content["tars"]
        if not self.masks:
            del content["masks"]
        return content | {"schema": self.schema}

    @classmethod
    def from_json(cls, content: object, where: str = "manifest") -> "Manifest":
        """Reverses ``to_json``. Raises StorageRefused for a newer schema, CorruptShard naming the invalid field."""
        document = Document(content, where)
        schema = document.whole("schema")
        if schema > SCHEMA:
            raise StorageRefused(
                f"{where}: written with schema {schema}, and this Stoker knows up to {SCHEMA}; upgrade Stoker"
            )
        manifest = cls(
            corpus=document.text("corpus"),
            version=document.whole("version"),
            created_at=document.text("created_at"),
            stoker=document.text("stoker"),
            recipe=document.mapping("recipe"),
            recipe_digest=document.text("recipe_digest"),
            parent=None if document.is_null("parent") else document.whole("parent"),
            content=document.text("content"),
            parts=tuple(Part.from_document(part) for part in document.documents("parts")),
            shards=tuple(_shard(shard) for shard in document.documents("shards")),
            decisions=_decisions(document.document("decisions")),
            statistics=document.mapping("statistics"),
            licences=document.counts("licences"),
            tars=document.text("tars") if schema == _EXTERNAL or document.has("tars") else None,
            masks=tuple(_mask(mask) for mask in document.documents("masks")) if schema > _EXTERNAL else (),
        )
        _check_tars(manifest, where)
        _check_masks(manifest, where)
        return manifest


def list_splits(splits: Mapping[str, SplitTotals]) -> str:
    """Splits and their samples, for people.

    >>> list_splits({"train": SplitTotals(1437, 3, 9), "test": SplitTotals(360, 1, 9)})
    'train 1,437, test 360'
    """
    shown = [f"{name[:_SHOWN_NAME]} {totals.samples:,}" for name, totals in splits.items()]
    return ", ".join(shown[:_SHOWN_SPLITS]) + ", ..." * (len(shown) > _SHOWN_SPLITS) or "no split"


def publish(store: Store, manifest: Manifest) -> None:
    """Publish a version: write its manifest. Raises AlreadyExists if its number is or was taken."""
    key = layout.version(manifest.corpus, manifest.version)
    try:
        store.create(key, encode(manifest))
    except AlreadyExists as error:
        raise AlreadyExists(f"{store.url}: {manifest.reference} is published and is never overwritten") from error
    if is_deleted(store, manifest.corpus, manifest.version):  # also if another process has done so just now
        store.delete(key)
        raise AlreadyExists(f"{store.url}: {manifest.reference} was deleted, and its number is never used again")


def load_manifest(store: Store, corpus: str, version: int | None = None) -> Manifest:
    """The manifest of a version of a corpus.

    Raises NotFound naming what exists, CorruptShard for an invalid manifest, StorageRefused for one of a newer schema.

    Args:
        store: the store that holds the corpus.
        corpus: a name such as ``digits``, or ``digits@2`` for its version 2.
        version: the version's number; without it that of ``corpus``, or the newest.

    >>> from stoker import load_manifest
    >>> from stoker.testing import sample_corpus
    >>> store, _ = sample_corpus(12)
    >>> load_manifest(store, "numbers@1").splits["train"].samples
    12
    """
    name, referenced = catalog.parse_reference(corpus)
    if referenced is not None and version is not None and referenced != version:
        raise StorageRefused(f"{corpus} names version {referenced}, not {version}")
    number = referenced if version is None else version
    if number is None:
        number = max(catalog.versions(store, name), default=None)
        if number is None:
            raise NotFound(catalog.missing(store, name))
    try:
        return _load(store, layout.version(name, number), name, number)
    except NotFound:
        raise NotFound(catalog.missing(store, name, number)) from None


def _load(store: Store, key: str, corpus: str, version: int) -> Manifest:
    """The manifest in an object. Raises NotFound, CorruptShard, StorageRefused."""
    where = f"{store.url}/{key}"
    try:
        content = json.loads(store.read(key))
        damaged = isinstance(content, dict) and _is_damaged(content)
    except (ValueError, RecursionError) as error:
        raise CorruptShard(f"{where}: not JSON ({error}); {_remedy(store, corpus, version)}") from error
    if damaged:
        raise CorruptShard(f"{where}: it differs from its own checksum; {_remedy(store, corpus, version)}")
    manifest = Manifest.from_json(content, where)
    if (manifest.corpus, manifest.version) != (corpus, version):
        raise CorruptShard(f"{where}: holds {manifest.reference}; was it copied or renamed?")
    return manifest


def _remedy(store: Store, corpus: str, version: int) -> str:
    """What to do about a damaged manifest; what it says itself is not believed."""
    newest = max(catalog.versions(store, corpus), default=version)
    if version < newest:
        return f"restore it from a copy; newer versions do not need it, the newest is {corpus}@{newest}"
    again = "ingest again" if catalog.is_ingested(store, corpus) else "give the same `stoker index` command again"
    return f"restore it from a copy, or {again}: that publishes the next version, which does not need this one"


def _check_tars(manifest: Manifest, where: str) -> None:
    """Raises CorruptShard if keys in another store are not tars: a manifest must not expose other files there."""
    if manifest.tars is None:
        return
    other = next((shard.key for shard in manifest.shards if not shard.key.lower().endswith(TAR)), None)
    if other is not None:
        raise CorruptShard(f"{where}: names {other[:100]!r} in {manifest.tars}; expected names that end with {TAR}")


def _check_masks(manifest: Manifest, where: str) -> None:
    """Raises CorruptShard if masks and the shards' counts of masked samples do not belong together."""
    groups = [mask.group for mask in manifest.masks]
    masked = {shard.group for shard in manifest.shards if shard.masked}
    if len(set(groups)) != len(groups) or masked != set(groups):
        raise CorruptShard(
            f"{where}: {len(groups)} masks, but samples of {len(masked)} groups are masked; expected one for each"
        )


def _placed(shards: tuple[Shard, ...], masks: tuple[Mask, ...]) -> tuple[Shard, ...]:
    """The shards, of which those with masked samples know their place in the mask of their group."""
    by_group = {mask.group: mask for mask in masks}
    rows: Counter[str] = Counter()
    for shard in shards:
        rows[shard.group] += shard.rows
    before: Counter[str] = Counter()
    placed = []
    for shard in shards:
        place = None
        if shard.masked and shard.group in by_group:
            place = MaskPlace(by_group[shard.group], before[shard.group], rows[shard.group])
        placed.append(dataclasses.replace(shard, place=place))
        before[shard.group] += shard.rows
    return tuple(placed)


def encode(manifest: Manifest) -> bytes:
    """The object of a manifest."""
    return seal(manifest.to_json())


def _is_damaged(content: Mapping[str, Any]) -> bool:  # Any: JSON values
    """Whether a manifest's JSON differs from the checksum in it; older ones, without a checksum, do not."""
    if CHECKSUM not in content:
        return False
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    schema = content.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:  # its checksum may be counted otherwise, or just this is damaged
        return any(content[CHECKSUM] == checksum(rest | {"schema": known}) for known in range(_PLAIN, SCHEMA + 1))
    return bool(content[CHECKSUM] != checksum(rest))


def _shard(document: Document) -> Shard:
    return Shard(
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


def _mask(document: Document) -> Mask:
    return Mask(
        group=document.text("group"),
        key=document.text("key"),
        size=document.whole("size"),
        sha256=document.text("sha256"),
    )


def _decisions(document: Document) -> Decisions:
    return Decisions(
        key=document.text("key"),
        size=document.whole("size"),
        sha256=document.text("sha256"),
        dropped=document.counts("dropped"),
        moved=document.whole("moved"),
    )
