"""What the ledger remembers of one candidate: the attempts to read it, and when it is tried again."""

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.backoff import NextTry, next_try
from stoker.pipelines.rejected import OutcomeClass
from stoker.storage.stores.store import Store
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import Ledger
from stoker.storage.versions.memory.outcome_class import KEPT
from stoker.storage.versions.memory.outcomes import SCHEMA, hash_of


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt; ``tries`` counts those in a row that brought nothing definite, this one included."""

    at: datetime
    reason: str  # "": it was kept
    detail: str
    tries: int


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts that the ledger still has, oldest first, and the next one; None: there will be none.

    Files of outcomes are merged from time to time: of older attempts the last one's ``tries`` is left.
    """

    made: tuple[Attempt, ...] = ()
    next: NextTry | None = None


NO_ATTEMPTS = Attempts()


def find_attempts(store: Store, head: Ledger, source: str, identity: str) -> Attempts:
    """What a ledger head remembers of a candidate. Raises CorruptShard, StorageError."""
    files = [outcomes.open_outcomes(store, stored) for stored in head.outcomes]
    rows = pa.concat_tables([SCHEMA.empty_table(), *(file.with_hash(hash_of(source, identity)) for file in files)])
    rows = rows.filter(pc.and_(pc.equal(rows["source"], source), pc.equal(rows["id"], identity)))
    if not rows.num_rows:
        return NO_ATTEMPTS
    found = sorted(outcomes.from_table(rows), key=lambda one: one.at)
    last = outcomes.from_table(outcomes.merge(rows))[-1]
    coming = None
    if last.kind != KEPT:
        coming = next_try(OutcomeClass(last.kind), last.reason or "", last.tries, last.at)
    made = dict.fromkeys(Attempt(one.at, one.reason or "", one.detail or "", one.tries) for one in found)
    return Attempts(tuple(made), coming)
