"""What a corpus remembers, counted: candidates by what became of them, and how many are asked for again.

Price: the outcomes of the ledger are read, about 100 bytes a candidate.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.known import COLUMNS, Known, Moment
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
    """

    classes: dict[str, int]
    due: int
    older_recipe: int

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The counts as JSON values."""
        return {"classes": self.classes, "due": self.due, "older_recipe": self.older_recipe}


def count_remembered(store: Store, corpus: str, now: datetime) -> Remembered | None:
    """The counts of a corpus at a time; None if it remembers no candidate. Raises CorruptShard, StorageError."""
    head = newest_head(store, corpus)
    if head is None or not head.source or not head.outcomes:
        return None

    def of_source(table: pa.Table) -> pa.Table:
        return table.filter(pc.equal(table["source"], head.source))

    tables = (one for stored in head.outcomes for one in outcomes.open_outcomes(store, stored).scan(COLUMNS))
    known = Known(head.source, tables, Moment(now, None, head.extraction), of_source)
    return Remembered(known.classes, known.due, known.made_by_older) if known else None
