"""What a corpus remembers, counted: candidates by what became of them, and how many are asked for again.

Price: the outcomes of the ledger are read, about 100 bytes and 3 microseconds a candidate, some at a time.
"""

from collections import Counter
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
from stoker.storage.versions.memory.merging import in_windows


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

    files = [outcomes.open_outcomes(store, stored) for stored in head.outcomes]
    classes, numbers, days = Counter[str](), Counter[str](), list[datetime]()
    for rows in in_windows(files, COLUMNS):
        known = Known(head.source, [rows], Moment(now, None, head.extraction), of_source)
        classes.update(known.classes)
        for name, count in (
            ("due", known.due),
            ("older_recipe", known.made_by_older),
            ("vanished", known.unlisted),
            ("unanswered", known.unanswered),
        ):
            numbers[name] += count
        days += [at for at in known.unlisted_since if at]
    if not classes:
        return None
    first, last = (timestamp(at) for at in (min(days), max(days))) if days else ("", "")
    return Remembered(dict(classes.most_common()), vanished_first=first, vanished_last=last, **numbers)
