"""The ledger: heads that say which outcomes, raw parts, tombstones and plan count.

A head is created with the number after its parent's, so of two writers at once one meets AlreadyExists; it reads the
new head and tries again. No version needs a ledger to be read. The newest ``KEPT`` heads and all that they name stay;
older ones are for `stoker gc`.

A head is small: its raw parts are in a list beside it, as those of a manifest are, named by its content. So heads with
the same parts share it, also with a manifest.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.document import Document
from stoker.storage.versions.listed.lists import PARTS, LazyList, ListFile, encode_list, read_parts
from stoker.storage.versions.listed.named import Part
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from stoker.storage.versions.sealed import checksum, read_sealed, seal
from stoker.storage.versions.verified import put, second_read

SCHEMA = 1
KEPT = 30  # newest heads that gc keeps with all that they name
_MAX_SIZE = 16 * 2**20  # bytes: of 60,000 tables
_TEXTS = ("source", "extraction", "listing", "vanished")  # left out where they are empty
_REMEDY = "restore it from a copy, or remove {}: the head before it counts then, and what was done since is done again"


@dataclass(frozen=True)
class Ledger:
    """One head of the ledger of a corpus."""

    corpus: str
    number: int  # from 1
    created_at: str  # ISO 8601, UTC
    stoker: str  # version of Stoker that made it
    parent: int | None = None  # the head before; None for the first
    parent_checksum: str = ""  # ``Ledger.checksum`` of the parent
    outcomes: tuple[StoredTable, ...] = ()  # the base and its deltas, oldest first
    parts: Sequence[Part] = ()  # every raw part that counts; of a head that was loaded they are read when first used
    tombstones: tuple[StoredTable, ...] = ()  # obeyed by what this head tells
    plan: str | None = None  # key of the plan that is not finished; None if there is none
    source: str = ""  # name of the source whose candidates the parts are of; "": that of ``extraction``
    extraction: str = ""  # digest of the source and steps of the recipe that ran last
    listing: str = ""  # digest of the list whose candidates are all known; "": not known
    faults: tuple[str, ...] = ()  # digests of the parts with faults of that list itself
    vanished: str = ""  # the recipe's word by which candidates that vanished are counted; "": not all of them are

    @property
    def checksum(self) -> str:
        """SHA-256 that stands in its object, and in its successor."""
        return checksum(self.to_json())

    @cached_property
    def parts_list(self) -> tuple[ListFile, bytes | None]:
        """The list of its parts, and its bytes; None for that of a head that was loaded: it is in the store."""
        if isinstance(self.parts, LazyList):
            return self.parts.file, None
        return encode_list(self.corpus, PARTS, ({"omitted": {}, **part.to_json()} for part in self.parts))

    def successor(self, *, created_at: str, stoker: str) -> "Ledger":
        """The next head, with the same content; ``replace`` changes it."""
        return replace(
            self,
            number=self.number + 1,
            parent=self.number,
            parent_checksum=self.checksum,
            created_at=created_at,
            stoker=stoker,
        )

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The head as JSON values."""
        tables = {name: [asdict(stored) for stored in getattr(self, name)] for name in ("outcomes", "tombstones")}
        tables |= {"lookups": []}  # of versions now; earlier releases expect the name
        plain = ("corpus", "number", "created_at", "stoker", "parent", "parent_checksum", "plan")
        rest: dict[str, Any] = {name: getattr(self, name) for name in plain}
        rest |= {name: getattr(self, name) for name in _TEXTS if getattr(self, name)}
        rest |= {"faults": list(self.faults)} if self.faults else {}
        return rest | tables | {"parts": asdict(self.parts_list[0]), "schema": SCHEMA}

    @classmethod
    def from_document(cls, document: Document, store: Store) -> "Ledger":
        """Reverses ``to_json``; the parts are read from the store when they are first used. Raises CorruptShard."""
        corpus, head = document.text("corpus"), f"ledger head {document.whole('number')}"
        parts = ListFile.from_document(document.document("parts"), corpus, PARTS)

        def tables(name: str) -> tuple[StoredTable, ...]:
            return tuple(StoredTable.from_document(stored) for stored in document.documents(name))

        return cls(
            corpus=corpus,
            number=document.whole("number"),
            created_at=document.text("created_at"),
            stoker=document.text("stoker"),
            parent=None if document.is_null("parent") else document.whole("parent"),
            parent_checksum=document.text("parent_checksum"),
            outcomes=tables("outcomes"),
            parts=LazyList(parts, partial(read_parts, store, corpus, parts, partial(_REMEDY.format, head))),
            tombstones=tables("tombstones"),
            plan=None if document.is_null("plan") else document.text("plan"),
            faults=tuple(document.texts("faults")) if document.has("faults") else (),
            **{name: document.text(name) for name in _TEXTS if document.has(name)},
        )


def create_head(store: Store, head: Ledger) -> None:
    """Put a head into the store. Raises AlreadyExists if another writer has made one of its number."""
    if head.number != (head.parent or 0) + 1:
        raise ValueError(f"head {head.number} after {head.parent}: expected the next number")
    parts, payload = head.parts_list
    if parts.rows and payload is not None:
        put(store, parts.key, payload, sha256=parts.sha256)
    try:
        store.create(layout.ledger(head.corpus, head.number), encode(head))
    except AlreadyExists as error:
        raise AlreadyExists(
            f"{store.url}: {head.corpus} has a ledger head {head.number} already; another run was first"
        ) from error


def heads(store: Store, corpus: str) -> list[int]:
    """The numbers of the heads that are there, oldest first."""
    return numbered.numbers(store, layout.ledgers(corpus))


def newest_head(store: Store, corpus: str) -> Ledger | None:
    """The newest head; None if there is none yet. Raises CorruptShard, StorageRefused, StorageError."""
    number = max(heads(store, corpus), default=None)
    return None if number is None else load_head(store, corpus, number)


def load_head(store: Store, corpus: str, number: int) -> Ledger:
    """A head by its number. Raises NotFound, CorruptShard, StorageRefused for one of a newer Stoker."""
    key, remedy = layout.ledger(corpus, number), _REMEDY.format("it")
    try:
        document = second_read(lambda: read_sealed(store, key, newest=SCHEMA, remedy=remedy, most=_MAX_SIZE))
    except NotFound as error:
        raise NotFound(f"{store.url}: {corpus} has no ledger head {number}") from error
    head = Ledger.from_document(document, store)
    if (head.corpus, head.number) != (corpus, number):
        raise CorruptShard(
            f"{store.url}/{key}: it is head {head.number} of {head.corpus[:80]}; was it copied or renamed? {remedy}"
        )
    return head


def encode(head: Ledger) -> bytes:
    """The object of a head."""
    return seal(head.to_json())
