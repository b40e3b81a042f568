"""A version: which shards it has, what they were made of, and how to know that they are intact."""

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
from stoker.storage.versions.document import Document

SCHEMA = 2  # the newest that is read; written only by what needs it, so that older Stokers read all else
_PLAIN = 1  # a manifest whose tars lie in the corpus's own store


TAR = ".tar"


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar of a split and its index."""

    key: str  # in the corpus's store, or where the manifest's ``tars`` says
    split: str
    samples: int
    size: int  # bytes
    sha256: str
    index: str  # key of the Parquet
    index_size: int  # bytes
    index_sha256: str
    group: str  # digest of the group it was packed in


@dataclass(frozen=True, slots=True)
class Part:
    """One raw part: what became of a partition."""

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


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the rules decided about the samples that the parts kept."""

    key: str
    size: int  # bytes
    sha256: str
    dropped: Mapping[str, int]  # by reason
    moved: int  # samples put into another split than their group's name says


@dataclass(frozen=True, slots=True)
class SplitTotals:
    """What a split has."""

    samples: int
    shards: int
    size: int  # bytes of its tars


@dataclass(frozen=True)
class Manifest:
    """A version of a corpus: immutable, complete, and there as soon as this object is in the store."""

    corpus: str
    version: int
    created_at: str  # ISO 8601, UTC
    stoker: str  # version of the code
    recipe: Mapping[str, Any]  # Any: TOML as JSON values
    recipe_digest: str
    parent: int | None  # the version before, None for the first
    content: str  # digest of what the version holds, whoever made it and when
    parts: tuple[Part, ...]
    shards: tuple[Shard, ...]
    decisions: Decisions
    statistics: Mapping[str, Any] = field(repr=False)  # split → JSON of a Summary; Any: JSON values
    licences: Mapping[str, int]  # samples by licence
    tars: str | None = None  # URL of the store that the shards' tars lie in; None: the corpus's own

    @property
    def schema(self) -> int:
        """That of the form in which it is written."""
        return _PLAIN if self.tars is None else SCHEMA

    @property
    def is_indexed(self) -> bool:
        """Whether others wrote its tars: what they left out, and why, is not known."""
        return bool(self.shards) and not self.parts

    @property
    def reference(self) -> str:
        """How people name it: ``digits@2``."""
        return f"{self.corpus}@{self.version}"

    @cached_property
    def samples(self) -> int:
        """Samples in all splits."""
        return sum(shard.samples for shard in self.shards)

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
        """Samples that neither a step nor a rule turned away."""
        return sum(part.kept for part in self.parts) - sum(self.decisions.dropped.values())

    @cached_property
    def rejected(self) -> Mapping[str, int]:
        """What was turned away, by steps and by rules, by reason, in order of the reason."""
        total: Counter[str] = Counter(self.decisions.dropped)
        for part in self.parts:
            total.update(part.rejected)
        return dict(sorted(total.items()))

    @cached_property
    def splits(self) -> Mapping[str, SplitTotals]:
        """What each split has, in the order in which the shards name them."""
        found: dict[str, SplitTotals] = {}
        for shard in self.shards:
            before = found.get(shard.split, SplitTotals(0, 0, 0))
            found[shard.split] = SplitTotals(
                before.samples + shard.samples, before.shards + 1, before.size + shard.size
            )
        return found

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """All of it as JSON values."""
        names = [one.name for one in dataclasses.fields(self)]
        content = {name: getattr(self, name) for name in names}
        content["parts"] = [dataclasses.asdict(part) for part in self.parts]
        content["shards"] = [dataclasses.asdict(shard) for shard in self.shards]
        content["decisions"] = dataclasses.asdict(self.decisions)
        if self.tars is None:
            del content["tars"]
        return content | {"schema": self.schema}

    @classmethod
    def from_json(cls, content: object, where: str = "manifest") -> "Manifest":
        """What ``to_json`` gave. Raises StorageRefused for a newer schema, CorruptShard naming what is wrong."""
        document = Document(content, where)
        schema = document.whole("schema")
        if schema > SCHEMA:
            raise StorageRefused(
                f"{where}: written with schema {schema}, and this Stoker knows up to {SCHEMA}; upgrade Stoker"
            )
        found = cls(
            corpus=document.text("corpus"),
            version=document.whole("version"),
            created_at=document.text("created_at"),
            stoker=document.text("stoker"),
            recipe=document.mapping("recipe"),
            recipe_digest=document.text("recipe_digest"),
            parent=None if document.is_null("parent") else document.whole("parent"),
            content=document.text("content"),
            parts=tuple(_part(one) for one in document.documents("parts")),
            shards=tuple(_shard(one) for one in document.documents("shards")),
            decisions=_decisions(document.document("decisions")),
            statistics=document.mapping("statistics"),
            licences=document.counts("licences"),
            tars=document.text("tars") if schema > _PLAIN else None,
        )
        _check_tars(found, where)
        return found


def publish(store: Store, manifest: Manifest) -> None:
    """Let the version exist. Raises AlreadyExists when another was published under its number: it stays."""
    key = layout.version(manifest.corpus, manifest.version)
    try:
        store.create(key, _encode(manifest))
    except AlreadyExists as error:
        raise AlreadyExists(f"{store.url}: {manifest.reference} is published and is never overwritten") from error


def load_manifest(store: Store, corpus: str, version: int | None = None) -> Manifest:
    """A version of a corpus, the newest if none is named; ``digits@2`` names both.

    Raises NotFound saying what there is, CorruptShard, StorageRefused for one of a newer schema.
    """
    name, named = catalog.parse_reference(corpus)
    if named is not None and version is not None and named != version:
        raise StorageRefused(f"{corpus} names version {named}, not {version}")
    number = named if version is None else version
    if number is None:
        number = max(catalog.versions(store, name), default=None)
        if number is None:
            raise NotFound(catalog.missing(store, name))
    key = layout.version(name, number)
    try:
        payload = store.read(key)
    except NotFound:
        raise NotFound(catalog.missing(store, name, number)) from None
    where = f"{store.url}/{key}"
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CorruptShard(f"{where}: not JSON ({error}); restore it from a copy, or publish again") from error
    found = Manifest.from_json(content, where)
    if (found.corpus, found.version) != (name, number):
        raise CorruptShard(f"{where}: holds {found.reference}; was it copied or renamed?")
    return found


def _check_tars(manifest: Manifest, where: str) -> None:
    """Whoever may write a manifest must not have a reader's other files shown: elsewhere, only tars are read."""
    if manifest.tars is None:
        return
    odd = next((one.key for one in manifest.shards if not one.key.lower().endswith(TAR)), None)
    if odd is not None:
        raise CorruptShard(f"{where}: names {odd[:100]!r} in {manifest.tars}; expected names that end with {TAR}")


def _encode(manifest: Manifest) -> bytes:
    text = json.dumps(
        manifest.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str
    )
    return text.encode("utf-8", "backslashreplace") + b"\n"


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
    )


def _part(document: Document) -> Part:
    return Part(
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
    )


def _decisions(document: Document) -> Decisions:
    return Decisions(
        key=document.text("key"),
        size=document.whole("size"),
        sha256=document.text("sha256"),
        dropped=document.counts("dropped"),
        moved=document.whole("moved"),
    )
