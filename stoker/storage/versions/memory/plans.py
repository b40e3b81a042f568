"""Plans: the partitions of a run, stored before it starts, so that a killed run is finished with the same ones.

The partitions are a table; the plan itself is written after it, and counts once a ledger head names it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.document import Document
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.memory.sealed_parquet import SealedReader, StoredTable
from stoker.storage.versions.memory.sealed_writer import SealedWriter, put_table
from stoker.storage.versions.sealed import read_sealed, seal
from stoker.storage.versions.verified import second_read

SCHEMA = 1
PARTITIONS = pa.schema(
    [
        ("name", pa.string()),  # unique in the plan
        ("payload", pa.string()),  # JSON: all that the source needs to read it
        ("fingerprint", pa.string()),
        ("part", pa.string()),  # digest of the raw part that it becomes: gc keeps those of a plan that is not finished
    ]
)
_GROUP = 128  # partitions in a row group: payloads may hold thousands of URLs each
_MAX_SIZE = 2**20  # bytes of the plan's own object
_REMEDY = "restore it from a copy, or remove it and ingest again: the partitions are cut anew then"


@dataclass(frozen=True, slots=True)
class Plan:
    """The partitions of a run."""

    corpus: str
    number: int  # from 1
    created_at: str  # ISO 8601, UTC
    stoker: str  # version of Stoker that made it
    recipe_digest: str  # SHA-256 of the recipe's source and steps that it was made for: its extraction
    ledger: int | None  # number of the head whose outcomes were subtracted; None: there was none
    partitions: StoredTable

    @property
    def key(self) -> str:
        """Its key in the store."""
        return layout.plan(self.corpus, self.number)

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The plan as JSON values."""
        return asdict(self) | {"schema": SCHEMA}

    @classmethod
    def from_document(cls, document: Document) -> "Plan":
        """Reverses ``to_json``. Raises CorruptShard."""
        return cls(
            corpus=document.text("corpus"),
            number=document.whole("number"),
            created_at=document.text("created_at"),
            stoker=document.text("stoker"),
            recipe_digest=document.text("recipe_digest"),
            ledger=None if document.is_null("ledger") else document.whole("ledger"),
            partitions=StoredTable.from_document(document.document("partitions")),
        )


def create_plan(
    store: Store,
    corpus: str,
    partitions: Iterable[pa.Table],
    *,
    recipe_digest: str,
    ledger: int | None,
    created_at: str,
    stoker: str,
    folder: Path | None = None,
) -> Plan:
    """Store a plan under the next free number. Raises StorageError.

    Args:
        store: the store that holds the corpus.
        corpus: its name.
        partitions: tables of the columns PARTITIONS, some at a time.
        recipe_digest: see ``Plan``, as the next three.
        ledger: see there.
        created_at: see there.
        stoker: see there.
        folder: of the temporary file that the table is written to; None: the system's.
    """

    def fill(writer: SealedWriter) -> None:
        for table in partitions:
            writer.write(table)

    stored = put_table(store, lambda sha256: layout.plan_partitions(corpus, sha256), _writer, fill, folder=folder)

    def plan(number: int) -> Plan:
        return Plan(corpus, number, created_at, stoker, recipe_digest, ledger, stored)

    number = numbered.create_next(
        store, layout.plans(corpus), lambda number: layout.plan(corpus, number), lambda number: encode(plan(number))
    )
    return plan(number)


def load_plan(store: Store, key: str) -> Plan:
    """The plan under a key, such as that in a ledger head. Raises NotFound, CorruptShard, StorageRefused."""
    plan = Plan.from_document(
        second_read(lambda: read_sealed(store, key, newest=SCHEMA, remedy=_REMEDY, most=_MAX_SIZE))
    )
    if plan.key != key:
        raise CorruptShard(f"{store.url}/{key}: it is {plan.key[:100]}; was it copied or renamed? {_REMEDY}")
    return plan


def open_partitions(store: Store, plan: Plan) -> SealedReader:
    """The table of a plan's partitions, to be read some at a time. Reads nothing yet."""
    return SealedReader.of_object(store, plan.partitions, schema=PARTITIONS, remedy=_REMEDY)


def iter_partitions(store: Store, plan: Plan) -> Iterator[pa.Table]:
    """The partitions in their order, _GROUP at a time. Raises CorruptShard, StorageError."""
    return open_partitions(store, plan).scan()


def parts_of(store: Store, plan: Plan) -> Iterator[str]:
    """The digests of the raw parts that the partitions become, where they are known."""
    for table in open_partitions(store, plan).scan(["part"]):
        yield from (digest for digest in table["part"].to_pylist() if digest is not None)


def encode(plan: Plan) -> bytes:
    """The object of a plan."""
    return seal(plan.to_json())


def _writer(file: BinaryIO) -> SealedWriter:
    return SealedWriter(file, PARTITIONS, group=_GROUP)
