"""The ledger: heads that say which outcomes, raw parts, tombstones and plan count.

A head is created with the number after its parent's, so of two writers at once one meets AlreadyExists; it reads the
new head and tries again. No version needs a ledger to be read. The newest ``KEPT`` heads and all that they name stay;
older ones are for `stoker gc`.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.document import Document
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from stoker.storage.versions.sealed import checksum, read_sealed, seal
from stoker.storage.versions.verified import second_read

SCHEMA = 1
KEPT = 30  # newest heads that gc keeps with all that they name
_MAX_SIZE = 512 * 2**20  # bytes: of more than a million parts
_REMEDY = "restore it from a copy, or remove it: the head before it counts then, and what was done since is done again"


@dataclass(frozen=True, slots=True)
class Ledger:
    """One head of the ledger of a corpus."""

    corpus: str
    number: int  # from 1
    created_at: str  # ISO 8601, UTC
    stoker: str  # version of Stoker that made it
    parent: int | None = None  # the head before; None for the first
    parent_checksum: str = ""  # ``Ledger.checksum`` of the parent
    outcomes: tuple[StoredTable, ...] = ()  # the base and its deltas, oldest first
    lookups: tuple[StoredTable, ...] = ()
    parts: tuple[Part, ...] = ()  # every raw part that counts
    tombstones: tuple[StoredTable, ...] = ()  # obeyed by what this head tells
    plan: str | None = None  # key of the plan that is not finished; None if there is none

    @property
    def checksum(self) -> str:
        """SHA-256 that stands in its object, and in its successor."""
        return checksum(self.to_json())

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
        tables = {
            name: [asdict(stored) for stored in getattr(self, name)] for name in ("outcomes", "lookups", "tombstones")
        }
        plain = ("corpus", "number", "created_at", "stoker", "parent", "parent_checksum", "plan")
        rest: dict[str, Any] = {name: getattr(self, name) for name in plain}
        return rest | tables | {"parts": [part.to_json() for part in self.parts], "schema": SCHEMA}

    @classmethod
    def from_document(cls, document: Document) -> "Ledger":
        """Reverses ``to_json``. Raises CorruptShard."""

        def tables(name: str) -> tuple[StoredTable, ...]:
            return tuple(StoredTable.from_document(stored) for stored in document.documents(name))

        return cls(
            corpus=document.text("corpus"),
            number=document.whole("number"),
            created_at=document.text("created_at"),
            stoker=document.text("stoker"),
            parent=None if document.is_null("parent") else document.whole("parent"),
            parent_checksum=document.text("parent_checksum"),
            outcomes=tables("outcomes"),
            lookups=tables("lookups"),
            parts=tuple(Part.from_document(part) for part in document.documents("parts")),
            tombstones=tables("tombstones"),
            plan=None if document.is_null("plan") else document.text("plan"),
        )


def create_head(store: Store, head: Ledger) -> None:
    """Put a head into the store. Raises AlreadyExists if another writer has made one of its number."""
    if head.number != (head.parent or 0) + 1:
        raise ValueError(f"head {head.number} after {head.parent}: expected the next number")
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
    key = layout.ledger(corpus, number)
    try:
        document = second_read(lambda: read_sealed(store, key, newest=SCHEMA, remedy=_REMEDY, most=_MAX_SIZE))
    except NotFound as error:
        raise NotFound(f"{store.url}: {corpus} has no ledger head {number}") from error
    head = Ledger.from_document(document)
    if (head.corpus, head.number) != (corpus, number):
        raise CorruptShard(
            f"{store.url}/{key}: it is head {head.number} of {head.corpus}; was it copied or renamed? {_REMEDY}"
        )
    return head


def encode(head: Ledger) -> bytes:
    """The object of a head."""
    return seal(head.to_json())
