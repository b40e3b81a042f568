"""The manifest of a version: its shards, what they were made of, and their checksums.

Its object is a small JSON with the totals; shards, parts and statistics are in lists beside it (see ``lists``). The
manifests of earlier releases hold everything themselves (schema 1, and 2 with external tars), and are read for ever.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StorageRefused
from stoker.storage.plural import plural
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.deleted import is_deleted
from stoker.storage.versions.document import Document
from stoker.storage.versions.listed import checks, lists, names
from stoker.storage.versions.listed.lists import LazyList, LazyStatistics, ListFile, PartList, ShardList
from stoker.storage.versions.listed.named import Candidates, Decisions, Mask, MaskPlace, Part, Shard, SplitTotals
from stoker.storage.versions.listed.names import TAR
from stoker.storage.versions.listed.redirected import Redirects, decisions_now, list_now, part_now, shard_now
from stoker.storage.versions.memory.withdrawn import load_redirects
from stoker.storage.versions.sealed import CHECKSUM, checksum, refuse_newer, seal
from stoker.storage.versions.verified import put

__all__ = [
    "CHECKSUM",
    "SCHEMA",
    "TAR",
    "WITH_LISTS",
    "Decisions",
    "Manifest",
    "Mask",
    "MaskPlace",
    "Part",
    "Shard",
    "SplitTotals",
    "list_splits",
    "load_manifest",
    "publish",
    "remedy",
]

T = TypeVar("T")

SCHEMA = 3  # that is written, and the newest that is read
_WITH_TARS = 2  # the first whose tars may be in another store
WITH_LISTS = 3  # the first with lists in objects of their own
_MAX_SIZE = 16 * 2**20  # bytes of a manifest whose lists are beside it: of 200,000 licences
_MAX_OLD_SIZE = 256 * 2**20  # of one that holds everything itself: of 400,000 shards
_SHOWN_SPLITS, _SHOWN_NAME = 6, 40  # splits, and characters of their names, in a repr


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
    parts: Sequence[Part]  # raw parts; empty for an indexed corpus
    shards: Sequence[Shard]  # tars and their indexes
    decisions: Decisions  # of the rules
    statistics: Mapping[str, Any] = field(repr=False)  # split → JSON of a Summary; Any: JSON values
    licences: Mapping[str, int]  # samples by licence
    tars: str | None = None  # URL of the store that holds the shards' tars; None: the corpus's own
    masks: Sequence[Mask] = ()  # of groups, of some of whose rows the version is without
    parent_checksum: str | None = None  # of the parent's manifest; None: there is none, or it could not be read
    lookups: tuple[ListFile, ...] = ()  # which records and indexes may have a candidate, oldest first; see ``lookups``
    pairs: tuple[ListFile, ...] = ()  # near-duplicates among its samples, oldest first; see ``measured.pairs``
    schema: int = field(default=SCHEMA, compare=False, repr=False)  # of its object
    checksum: str = field(default="", compare=False, repr=False)  # of its object; "": it was not read from a store

    def __post_init__(self) -> None:
        # Once: parts of a version, which streams are made of, may have some of the shards in another order.
        if self.masks and not isinstance(self.shards, ShardList) and not any(shard.place for shard in self.shards):
            object.__setattr__(self, "shards", _placed(self.shards, self.masks))

    def __repr__(self) -> str:
        """Name and totals: with every shard, part and statistic it would be thousands of characters."""
        samples = plural(self.samples, "sample")
        return f"Manifest({self.reference}: {samples} in {list_splits(self.splits)}; {self.size:,} bytes)"

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
        return sum(totals.samples for totals in self.splits.values())

    @cached_property
    def masked(self) -> int:
        """Samples in its tars that the version leaves out."""
        return sum(totals.masked for totals in self.splits.values())

    @cached_property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(totals.size for totals in self.splits.values())

    @cached_property
    def candidates(self) -> Candidates:
        """Candidates of all parts."""
        return self.parts.candidates if isinstance(self.parts, PartList) else Candidates.of(self.parts)

    @property
    def read(self) -> int:
        """Candidates of all parts: ``read == kept + sum(rejected.values())``."""
        return self.candidates.read

    @property
    def known(self) -> int:
        """Candidates that its parts read once more and found as they were; not counted in ``read``."""
        return self.candidates.known

    @property
    def kept(self) -> int:
        """Samples that neither a step nor a rule rejected."""
        return self.candidates.kept - sum(self.decisions.dropped.values())

    @cached_property
    def rejected(self) -> Mapping[str, int]:
        """Samples rejected by steps and rules, by reason, in order of the reason."""
        total = Counter(self.decisions.dropped)
        total.update(self.candidates.rejected)
        return dict(sorted(total.items()))

    @cached_property
    def splits(self) -> Mapping[str, SplitTotals]:
        """Totals of each split, in the order of the shards."""
        return self.shards.splits if isinstance(self.shards, ShardList) else lists.split_totals(self.shards)

    @property
    def lists(self) -> Iterator[ListFile]:
        """Its lists in the store, empty ones not among them; none if it was not read, or is of an earlier release."""
        for listed in (self.shards, self.parts, self.statistics, self.masks):
            if isinstance(listed, LazyList | LazyStatistics) and listed.file.rows:
                yield listed.file

    def read_lists(self) -> "Manifest":
        """The same, all of its lists read. Raises CorruptObject, NotFound, StorageUnavailable."""
        for listed in (self.shards, self.parts, self.statistics, self.masks):
            next(iter(listed), None)
        return self


def list_splits(splits: Mapping[str, SplitTotals]) -> str:
    """Splits and their samples, for people.

    >>> list_splits({"train": SplitTotals(1437, 3, 9), "test": SplitTotals(360, 1, 9)})
    'train 1,437, test 360'
    """
    shown = [f"{name[:_SHOWN_NAME]} {totals.samples:,}" for name, totals in splits.items()]
    return ", ".join(shown[:_SHOWN_SPLITS]) + ", ..." * (len(shown) > _SHOWN_SPLITS) or "no split"


def publish(store: Store, manifest: Manifest) -> None:
    """Publish a version: write its lists, and its manifest last. Raises AlreadyExists if its number is or was taken."""
    key = layout.version(manifest.corpus, manifest.version)
    content, objects = encode(manifest)
    if len(content) > _MAX_SIZE:
        raise StorageRefused(
            f"{manifest.reference}: its manifest has {len(content):,} bytes, expected at most {_MAX_SIZE:,}: it counts "
            f"{len(manifest.licences):,} licences and {len(manifest.splits):,} splits, and holds the whole recipe"
        )
    for file, payload in objects:
        if file.rows:
            put(store, file.key, payload, sha256=file.sha256)
    try:
        store.create(key, content)
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
    reader = _Lists(store, f"{store.url}/{key}", corpus, version, load_redirects(store, corpus))
    try:
        return _parsed(_read(store, key, reader.where), reader)
    except CorruptShard as error:
        raise CorruptShard(f"{error}; {remedy(store, corpus, version)}") from error


def _read(store: Store, key: str, where: str) -> bytes:
    """The bytes of a manifest. Raises NotFound, and CorruptShard for more than any has: they are not read."""
    payload = store.read(key, size=_MAX_SIZE + 1)
    if len(payload) <= _MAX_SIZE:
        return payload
    if (size := store.size(key)) > _MAX_OLD_SIZE:
        raise CorruptShard(f"{where}: {size:,} bytes, expected at most {_MAX_OLD_SIZE:,}")
    return payload + store.read(key, start=len(payload), size=_MAX_OLD_SIZE - len(payload))


def _parsed(payload: bytes, reader: "_Lists") -> Manifest:
    """The manifest in these bytes. Raises CorruptShard, StorageRefused."""
    where = reader.where
    try:
        content = json.loads(payload)
        damage = _damage(content) if isinstance(content, dict) else ""
    except (ValueError, RecursionError) as error:
        raise CorruptShard(f"{where}: not JSON ({str(error)[:100]})") from error
    if damage:
        raise CorruptShard(f"{where}: {damage}")
    document = Document(content, where)
    schema = document.whole("schema")
    refuse_newer(schema, SCHEMA, where)
    if schema >= WITH_LISTS and len(payload) > _MAX_SIZE:
        raise CorruptShard(f"{where}: {len(payload):,} bytes, expected at most {_MAX_SIZE:,}")
    held = f"{document.text('corpus')[:80]}@{document.whole('version')}"
    if held != f"{reader.corpus}@{reader.version}":
        raise CorruptShard(f"{where}: holds {held}, so it was copied or renamed")
    return _manifest(document, schema, reader)


@dataclass(frozen=True)
class _Lists:
    """Reads the lists of a version."""

    store: Store
    where: str
    corpus: str
    version: int
    redirects: Redirects  # of objects that purges wrote anew

    def read(self, kind: str, file: ListFile, make: Callable[[Iterator[Document]], T]) -> T:
        return lists.read_list(self.store, kind, file, make, partial(remedy, self.store, self.corpus, self.version))

    def shards(
        self, file: ListFile, masks: Sequence[Mask], totals: Mapping[str, SplitTotals], *, indexed: bool
    ) -> tuple[Shard, ...]:
        def make(rows: Iterator[Document]) -> tuple[Shard, ...]:
            shards = tuple(map(Shard.from_document, rows))
            names.check_shards(self.corpus, shards, f"{self.store.url}/{file.key}", indexed=indexed)
            checks.check_masks(shards, masks, f"{self.store.url}/{file.key}")
            if (made := lists.split_totals(shards)) != totals:
                raise CorruptShard(
                    f"its shards hold {list_splits(made)}, but the manifest counts {list_splits(totals)}"
                )
            return self.now(_placed(shards, masks) if masks else shards)

        masks = tuple(masks)
        return self.read(lists.SHARDS, file, make)

    def now(self, shards: Iterable[Shard]) -> tuple[Shard, ...]:
        return tuple(shard_now(shard, self.redirects) for shard in shards)

    def masks(self, file: ListFile) -> tuple[Mask, ...]:
        def made(rows: Iterator[Document]) -> tuple[Mask, ...]:
            masks = tuple(map(Mask.from_document, rows))
            names.check_masks(self.corpus, masks, f"{self.store.url}/{file.key}")
            return masks

        return self.read(lists.MASKS, file, made)

    def parts(self, file: ListFile) -> tuple[Part, ...]:
        parts = lists.read_parts(self.store, self.corpus, file, partial(remedy, self.store, self.corpus, self.version))
        return tuple(part_now(part, self.redirects) for part in parts)

    def statistics(self, file: ListFile) -> dict[str, Any]:  # Any: JSON of a Summary
        def made(rows: Iterator[Document]) -> dict[str, Any]:  # as here
            pairs = [(row.text("split"), row.mapping("summary")) for row in rows]
            checks.check_once([split for split, _ in pairs], f"{self.store.url}/{file.key}")
            return dict(pairs)

        return self.read(lists.STATISTICS, file, made)


def _manifest(document: Document, schema: int, reader: _Lists) -> Manifest:
    """The manifest that a document says. Raises CorruptShard naming the invalid field."""
    tars = None if schema < _WITH_TARS or document.is_null("tars") else document.text("tars")
    shards: Sequence[Shard]
    parts: Sequence[Part]
    statistics: Mapping[str, Any]
    masks: Sequence[Mask] = ()
    if schema < WITH_LISTS:
        shards = tuple(map(Shard.from_document, document.documents("shards")))
        parts = tuple(map(Part.from_document, document.documents("parts")))
        statistics = document.mapping("statistics")
        names.check_shards(reader.corpus, shards, reader.where, indexed=not parts)
        names.check_parts(reader.corpus, parts, reader.where)
        shards = reader.now(shards)
        parts = tuple(part_now(part, reader.redirects) for part in parts)
    else:
        named, totals = document.document("lists"), document.document("totals")
        files = {kind: ListFile.from_document(named.document(kind), reader.corpus, kind) for kind in lists.KINDS}
        of_splits = [(one.text("split"), SplitTotals.from_document(one)) for one in totals.documents("splits")]
        checks.check_once([split for split, _ in of_splits], reader.where)
        by_split = dict(of_splits)
        candidates = Candidates.from_document(totals.document("candidates"))
        masks = LazyList(files[lists.MASKS], partial(reader.masks, files[lists.MASKS]))
        parts = PartList(files[lists.PARTS], partial(reader.parts, files[lists.PARTS]), candidates)
        files[lists.STATISTICS] = list_now(files[lists.STATISTICS], reader.redirects)
        read_shards = partial(reader.shards, files[lists.SHARDS], masks, by_split, indexed=not parts)
        shards = ShardList(files[lists.SHARDS], read_shards, by_split)
        statistics = LazyStatistics(files[lists.STATISTICS], partial(reader.statistics, files[lists.STATISTICS]))
    if tars is not None and parts:
        raise CorruptShard(
            f"{reader.where}: 'tars' is {tars[:100]!r}, expected null: its tars are beside its raw parts"
        )
    checks.check_recipe(document.document("recipe"), indexed=not parts)
    decisions = Decisions.from_document(document.document("decisions"))
    names.check_decisions(reader.corpus, decisions, reader.where)
    return Manifest(
        corpus=document.text("corpus"),
        version=document.whole("version"),
        created_at=document.text("created_at"),
        stoker=document.text("stoker"),
        recipe=document.mapping("recipe"),
        recipe_digest=document.text("recipe_digest"),
        parent=None if document.is_null("parent") else document.whole("parent"),
        content=document.text("content"),
        parts=parts,
        shards=shards,
        decisions=decisions_now(decisions, reader.redirects),
        statistics=statistics,
        licences=document.counts("licences"),
        tars=tars,
        masks=masks,
        lookups=_beside(document, reader, "lookups", lists.LOOKUP),
        pairs=_beside(document, reader, "pairs", lists.PAIRS),
        schema=schema,
        parent_checksum=None
        if schema < WITH_LISTS or document.is_null("parent_checksum")
        else document.text("parent_checksum"),
        checksum=document.text(CHECKSUM) if document.has(CHECKSUM) else checksum(document.content),
    )


def _beside(document: Document, reader: _Lists, name: str, kind: str) -> tuple[ListFile, ...]:
    """Objects beside the lists as they are now; none in versions of earlier releases. Raises CorruptShard."""
    named = document.documents(name) if document.has(name) else ()
    files = (ListFile.from_document(one, reader.corpus, kind) for one in named)
    return tuple(list_now(file, reader.redirects) for file in files)


def remedy(store: Store, corpus: str, version: int) -> str:
    """What to do about a damaged manifest or list; what a manifest says itself is not believed."""
    newest = max(catalog.versions(store, corpus), default=version)
    if version < newest:
        return f"restore it from a copy; newer versions do not need it, the newest is {corpus}@{newest}"
    if catalog.has_masks(store, corpus) and not catalog.is_ingested(store, corpus):
        return "restore it from a copy, or index its tars under another name (--as), with the samples that it may mask"
    again = "ingest again" if catalog.is_ingested(store, corpus) else "give the same `stoker index` command again"
    return f"restore it from a copy, or {again}: that publishes the next version, which does not need this one"


def _placed(shards: Iterable[Shard], masks: Iterable[Mask]) -> tuple[Shard, ...]:
    """The shards, of which those with masked samples know their place in the mask of their group."""
    by_group = {mask.group: mask for mask in masks}
    shards = tuple(shards)
    rows: Counter[str] = Counter()
    for shard in shards:
        rows[shard.group] += shard.rows
    before: Counter[str] = Counter()
    placed = []
    for shard in shards:
        place = None
        if shard.masked and shard.group in by_group:
            place = MaskPlace(by_group[shard.group], before[shard.group], rows[shard.group])
        placed.append(replace(shard, place=place))
        before[shard.group] += shard.rows
    return tuple(placed)


def encode(manifest: Manifest) -> tuple[bytes, list[tuple[ListFile, bytes]]]:
    """The objects of a manifest and of its lists."""
    rows = {
        lists.SHARDS: ({**shard.to_json(), "masked": shard.masked} for shard in manifest.shards),
        lists.PARTS: ({"omitted": {}, **part.to_json()} for part in manifest.parts),
        lists.STATISTICS: ({"split": split, "summary": one} for split, one in manifest.statistics.items()),
        lists.MASKS: map(asdict, manifest.masks),
    }
    objects = {kind: lists.encode_list(manifest.corpus, kind, rows[kind]) for kind in lists.KINDS}
    written = {
        "schema": SCHEMA,
        "corpus": manifest.corpus,
        "version": manifest.version,
        "created_at": manifest.created_at,
        "stoker": manifest.stoker,
        "recipe": manifest.recipe,
        "recipe_digest": manifest.recipe_digest,
        "parent": manifest.parent,
        "parent_checksum": manifest.parent_checksum,
        "content": manifest.content,
        "totals": {
            "splits": [{"split": name, **asdict(totals)} for name, totals in manifest.splits.items()],
            "candidates": manifest.candidates.to_json(),
        },
        "lists": {kind: asdict(file) for kind, (file, _) in objects.items()},
        "decisions": manifest.decisions.to_json(),
        "licences": manifest.licences,
        "tars": manifest.tars,
    }
    for name, files in (("lookups", manifest.lookups), ("pairs", manifest.pairs)):
        if files:
            written[name] = [asdict(file) for file in files]
    return seal(written), list(objects.values())


def _damage(content: Mapping[str, Any]) -> str:  # Any: JSON values
    """What the checksum in a manifest's JSON tells of it, "" if nothing; that of older schemas has none."""
    schema = content.get("schema")
    if CHECKSUM not in content:
        is_one = isinstance(schema, int) and WITH_LISTS <= schema <= SCHEMA  # a newer one is refused as such
        return f"its checksum is missing, which each of schema {schema} has" if is_one else ""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    if isinstance(schema, int) and schema > SCHEMA:  # its checksum may be counted otherwise, or just this is damaged
        differs = any(content[CHECKSUM] == checksum(rest | {"schema": number}) for number in range(1, SCHEMA + 1))
    else:
        differs = content[CHECKSUM] != checksum(rest)
    return "it differs from its own checksum" if differs else ""
