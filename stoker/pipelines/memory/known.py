"""Known candidates: which of a list are asked for, and which a corpus knows already.

Held as arrays, about 70 bytes a candidate, and asked for many at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.backoff import next_try
from stoker.pipelines.rejected import OutcomeClass
from stoker.storage.versions.memory.outcome_class import KEPT
from stoker.storage.versions.memory.outcomes import SCHEMA, hashes_of

COLUMNS = ("hash", "source", "id", "definite", "class", "reason", "at", "tries", "stamp", "recipe", "setting", "part")


@dataclass(frozen=True)
class Again:
    """Which rejected candidates are asked for again whatever the back-off says.

    Args:
        all: those of any reason.
        reasons: those of these reasons.

    What its owner keeps out is not asked for in either case.
    """

    all: bool = False
    reasons: tuple[str, ...] = ()

    def includes(self, kind: str, reason: str | None) -> bool:
        """Whether an outcome of this class and reason is asked for again."""
        return kind not in (KEPT, OutcomeClass.OWNER) and (self.all or reason in self.reasons)


NOTHING_AGAIN = Again()


@dataclass(frozen=True)
class Moment:
    """What makes a candidate due that was rejected: the time, the settings of the run, a person's word.

    Args:
        now: the time.
        setting: fingerprint of the settings.
        again: what is asked for again in any case.
        retries: False: nothing that failed is asked for again.
    """

    now: datetime
    setting: str
    again: Again = NOTHING_AGAIN
    retries: bool = True

    def is_due(self, kind: str, reason: str | None, tries: int, at: datetime, setting: str | None) -> bool:
        """Whether the candidate of an attempt is asked for again though its list says what it said then."""
        if not self.retries or kind == KEPT:
            return False
        if self.again.includes(kind, reason):
            return True
        if kind == OutcomeClass.SETTING:
            return setting != self.setting
        due = next_try(OutcomeClass(kind), reason or "", max(tries, 1), at).at
        return due is not None and due <= self.now


class Known:
    """The newest attempt of each candidate of a source.

    Args:
        source: the name of the source.
        tables: of the columns COLUMNS, in any order: all that is known.
        moment: of the run that asks.
        counting: the rows of a table that count: those of the same recipe whose raw part is there.
    """

    def __init__(
        self, source: str, tables: Iterable[pa.Table], moment: Moment, counting: Callable[[pa.Table], pa.Table]
    ) -> None:
        self._source = source
        empty = pa.schema([SCHEMA.field(name) for name in COLUMNS]).empty_table()
        rows = pa.concat_tables([empty, *map(counting, tables)]).combine_chunks()
        order = np.lexsort(
            (rows["definite"].to_numpy(), rows["at"].cast(pa.int64()).to_numpy(), rows["hash"].to_numpy())
        )
        # Of several rows of one candidate the last is its newest attempt; candidates of one hash are told apart below.
        rows = rows.take(pa.array(order))
        self._hashes = rows["hash"].to_numpy()
        self._ids, self._stamps = rows["id"], rows["stamp"]
        self._due = np.zeros(rows.num_rows, np.bool_)
        rejected = np.flatnonzero(pc.not_equal(rows["class"], KEPT).to_numpy())
        columns = [
            rows[name].take(pa.array(rejected)).to_pylist() for name in ("class", "reason", "tries", "at", "setting")
        ]
        for row, attempt in zip(rejected, zip(*columns, strict=True), strict=True):
            self._due[row] = moment.is_due(*attempt)
        self._due[self._earlier()] = False

    def __len__(self) -> int:
        return len(self._hashes)

    def _earlier(self) -> list[int]:
        """Rows after which another one of the same candidate comes."""
        alike = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        ids, after = (self._ids.take(pa.array(rows)).to_pylist() for rows in (alike, alike + 1))
        return [int(row) for row, one, other in zip(alike, ids, after, strict=True) if one == other]

    @property
    def nothing_due(self) -> bool:
        """Whether no candidate is asked for again while the list says of it what it said."""
        return not self._due.any()

    def knows(self, identities: Sequence[str]) -> list[bool]:
        """Whether each candidate was asked for before."""
        return [row is not None for row in self._rows(identities)]

    def is_due(self, identities: Sequence[str], stamps: Sequence[str]) -> list[bool | None]:
        """Whether each candidate is due, or its list says other things of it than before. None: it is new."""
        rows = self._rows(identities)
        known = [row for row in rows if row is not None]
        stamp_of = dict(zip(known, self._stamps.take(pa.array(known, pa.int64())).to_pylist(), strict=True))
        return [
            None if row is None else bool(self._due[row]) or stamp_of[row] not in (None, stamp)
            for row, stamp in zip(rows, stamps, strict=True)
        ]

    def _rows(self, identities: Sequence[str]) -> list[int | None]:
        """The row of each candidate's newest attempt."""
        hashes = hashes_of(self._source, identities)
        ends = np.searchsorted(self._hashes, hashes, side="right")
        found = np.flatnonzero(ends > 0)
        found = found[self._hashes[ends[found] - 1] == hashes[found]] if len(found) else found
        result: list[int | None] = [None] * len(identities)
        ids = self._ids.take(pa.array(ends[found] - 1)).to_pylist()
        for place, identity in zip(found, ids, strict=True):
            row = int(ends[place]) - 1
            while identity != identities[place]:  # another one of the same hash
                row -= 1
                if row < 0 or self._hashes[row] != hashes[place]:
                    break
                identity = self._ids[row].as_py()
            else:
                result[place] = row
        return result
