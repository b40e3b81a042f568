"""What a corpus remembers, counted: candidates by what became of them, and how many are asked for again.

Price: the outcomes of the ledger are read, about 100 bytes a candidate.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.known import COLUMNS, Known, Moment
from stoker.storage.clock import timestamp
from stoker.storage.stores.store import Store
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import newest_head


@dataclass(frozen=True, slots=True)
class Remembered:
    """Candidates that the newest ledger head knows.

    Args:
        classes: how many by class, most first; "kept" also counts what a rule dropped.
        due: of the rejected ones those that the next ingest asks for, if the source still lists them.
        older_recipe: of the kept ones those that an older recipe made than that of the last ingest.
        vanished: of the kept ones those that the source has no more, whether the recipe drops or keeps them.
        vanished_first: when that was seen first of the one of them that was missing first, as ISO 8601; "": of none.
        vanished_last: of the one that was missing last.
        unanswered: of the kept ones those whose server said last that they do not exist.
    """

    classes: dict[str, int]
    due: int
    older_recipe: int
    vanished: int = 0
    vanished_first: str = ""
    vanished_last: str = ""
    unanswered: int = 0

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The counts as JSON values."""
        return asdict(self)


def count_remembered(store: Store, corpus: str, now: datetime) -> Remembered | None:
    """The counts of a corpus at a time; None if it remembers no candidate. Raises CorruptShard, StorageError."""
    head = newest_head(store, corpus)
    if head is None or not head.source or not head.outcomes:
        return None

    def of_source(table: pa.Table) -> pa.Table:
        return table.filter(pc.equal(table["source"], head.source))

    tables = (one for stored in head.outcomes for one in outcomes.open_outcomes(store, stored).scan(COLUMNS))
    known = Known(head.source, tables, Moment(now, None, head.extraction), of_source)
    if not known:
        return None
    first, last = (timestamp(at) if at else "" for at in known.unlisted_since)
    return Remembered(
        known.classes, known.due, known.made_by_older, known.unlisted, first, last, unanswered=known.unanswered
    )
