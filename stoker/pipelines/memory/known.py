"""Known candidates: which of a list are asked for, and which a corpus knows already.

Held as arrays, about 70 bytes a candidate, and asked for many at a time.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.backoff import next_try
from stoker.pipelines.memory.missing import LASTING, Missing
from stoker.pipelines.rejected import OutcomeClass
from stoker.storage.versions.memory.outcome_class import GONE, KEPT, MOVED, VANISHED
from stoker.storage.versions.memory.outcomes import SCHEMA, hashes_of

Rows = npt.NDArray[np.int64]
COLUMNS = ("hash", "source", "id", "definite", "class", "reason", "at", "tries", "stamp", "recipe", "setting", "part")

_OF_DUE = ("class", "reason", "tries", "at", "setting", "recipe")  # the arguments of ``Moment.is_due``
COLUMNS_OF_INTEREST = ("hash", "source", *_OF_DUE)


@dataclass(frozen=True)
class Again:
    """Which candidates are asked for again on demand.

    Args:
        all: those that were rejected, whatever the back-off says.
        reasons: those that were rejected for these reasons.
        older_recipe: those that are kept as an older recipe made them.
        kept: those that are kept, or were rejected for what their bytes are.
        older_than: of these, those alone that were seen last so long ago.
        max_bytes: of all bodies that are sent of them; None: any number. The longest not seen go first.

    What its owner keeps out is not asked for in either case.
    """

    all: bool = False
    reasons: tuple[str, ...] = ()
    older_recipe: bool = False
    kept: bool = False
    older_than: timedelta = timedelta(0)
    max_bytes: int | None = None

    def includes(self, kind: str, reason: str | None) -> bool:
        """Whether a reject of this class and reason is asked for again."""
        return kind not in (KEPT, OutcomeClass.OWNER) and (self.all or reason in self.reasons)


NOTHING_AGAIN = Again()


def nothing_changed(refusals: Collection[str]) -> Collection[str]:
    """The default of ``changed_robots``: none."""
    return ()


@dataclass(frozen=True)
class Moment:
    """What makes a candidate due that was asked for: the time, the run's settings and recipe, a person's word.

    Args:
        now: the time.
        setting: fingerprint of the settings; None: not known, and nothing is due by it.
        recipe: digest of what makes samples.
        again: what is asked for again in any case.
        retries: False: nothing that failed is asked for again.
        changed_robots: which of the robots.txt that refused candidates, as outcomes name them, have changed.
        kept_before: what is kept and was seen last before this is asked for again; None: nothing.
    """

    now: datetime
    setting: str | None
    recipe: str
    again: Again = NOTHING_AGAIN
    retries: bool = True
    changed_robots: Callable[[Collection[str]], Collection[str]] = nothing_changed
    kept_before: datetime | None = None

    def is_due(
        self, kind: str, reason: str | None, tries: int, at: datetime, setting: str | None, recipe: str | None
    ) -> bool:
        """Whether the candidate that an attempt rejected is asked for again though its list says what it said then."""
        if kind == OutcomeClass.RECIPE and recipe != self.recipe:
            return True
        if not self.retries:
            return False
        if self.again.includes(kind, reason):
            return True
        if kind == OutcomeClass.SETTING:
            return self.setting is not None and setting != self.setting
        due = next_try(OutcomeClass(kind), reason or "", max(tries, 1), at).at
        return due is not None and due <= self.now


def hashes_of_interest(rows: pa.Table, moment: Moment) -> npt.NDArray[np.uint64]:
    """The hashes of those rows by which a candidate may be due, or was made by an older recipe.

    Of all others of their candidates no row alone tells that.
    """
    is_kept = pc.equal(rows["class"], KEPT)
    older = pc.and_(is_kept, pc.fill_null(pc.not_equal(rows["recipe"], moment.recipe), True))
    hashes = [rows["hash"].filter(older).to_numpy()]
    # Many rows are alike in all that says when they are due: one run, one reason.
    alike = rows.filter(pc.invert(is_kept)).group_by(list(_OF_DUE), use_threads=False).aggregate([("hash", "list")])
    attempts = zip(*(alike[name].to_pylist() for name in _OF_DUE), strict=True)
    due = [number for number, attempt in enumerate(attempts) if moment.is_due(*attempt)]
    hashes += [alike["hash_list"][number].values.to_numpy() for number in due]
    if moment.retries:
        hashes.append(rows["hash"].filter(_is_by_robots(rows)).to_numpy())
    return np.unique(np.concatenate(hashes))


class Known:
    """The newest attempt of each candidate of a source.

    Args:
        source: the name of the source.
        tables: of the columns COLUMNS, in any order: all that is known.
        moment: of the run that asks.
        counting: the rows of a table that count: those whose raw part is there.
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
        columns = [rows[name].take(pa.array(rejected)).to_pylist() for name in _OF_DUE]
        for row, attempt in zip(rejected, zip(*columns, strict=True), strict=True):
            self._due[row] = moment.is_due(*attempt)
        earlier = self._earlier()
        self._due[earlier] = False
        self._seen, self._kept = np.zeros(rows.num_rows, np.bool_), np.zeros(rows.num_rows, np.bool_)
        kept, newest = _kept(rows, earlier)
        self._kept[newest] = True
        self._unlisted = self._kept & _is(rows, VANISHED)  # since the time of their newest attempt
        since = pc.min_max(rows["at"].filter(pa.array(self._unlisted))).as_py()
        self.unlisted_since: tuple[datetime | None, datetime | None] = since["min"], since["max"]
        self._unanswered = self._kept & _is(rows, GONE)
        self._tries = rows["tries"].to_numpy()
        self._last = np.ones(rows.num_rows, np.bool_)
        self._last[earlier] = False
        self._moved = _is(rows, MOVED)
        self._classes = rows["class"].dictionary_encode()
        is_older = pc.fill_null(pc.not_equal(rows["recipe"].take(pa.array(kept)), moment.recipe), True).to_numpy()
        kept, newest = kept[is_older], newest[is_older]
        if moment.again.older_recipe:
            # What was asked for a moment ago, and failed, has a later row than the one that is kept.
            self._due[newest if moment.retries else newest[newest == kept]] = True
        newest_ones = np.ones(rows.num_rows, np.bool_)
        newest_ones[earlier] = False
        if moment.retries:
            self._due |= newest_ones & _refused_by_what_changed(rows, newest_ones & ~self._due, moment)
        if moment.kept_before is not None:
            is_of_bytes = pc.is_in(rows["class"], pa.array([KEPT, OutcomeClass.BYTES]))
            is_old = pc.less(rows["at"], pa.scalar(moment.kept_before, rows["at"].type))
            self._due |= newest_ones & pc.and_(is_of_bytes, is_old).to_numpy()
        self.made_by_older = int((~self._due[newest]).sum())  # candidates that stay as an older recipe made them

    def __len__(self) -> int:
        return len(self._hashes)

    def _earlier(self) -> Rows:
        """Rows after which another one of the same candidate comes."""
        alike = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        ids, after = (self._ids.take(pa.array(rows)) for rows in (alike, alike + 1))
        is_same: npt.NDArray[np.bool_] = pc.equal(ids, after).to_numpy()
        return alike[is_same]

    @property
    def nothing_due(self) -> bool:
        """Whether no candidate is asked for again while the list says of it what it said."""
        return not self._due.any()

    @property
    def due(self) -> int:
        """How many candidates are asked for again while the list says of them what it said."""
        return int(self._due.sum())

    @property
    def unlisted(self) -> int:
        """How many kept candidates the source had no more when it was listed last."""
        return int(self._unlisted.sum())

    @property
    def unanswered(self) -> int:
        """How many kept candidates there are of which their server said last that they do not exist."""
        return int(self._unanswered.sum())

    @property
    def classes(self) -> dict[str, int]:
        """How many candidates there are by class, most first; that of one that is not kept is its last attempt's.

        A file that moved is counted under its new name alone.
        """
        others = pc.value_counts(self._classes.filter(pa.array(self._last & ~self._kept & ~self._moved))).to_pylist()
        counts = Counter({one["values"]: one["counts"] for one in others})
        counts[KEPT] += int(self._kept.sum())
        return {name: count for name, count in counts.most_common() if count}

    def knows(self, identities: Sequence[str]) -> list[bool]:
        """Whether each candidate was asked for before."""
        return [row is not None for row in self._rows(identities)]

    def keeps(self, identities: Sequence[str]) -> list[bool]:
        """Whether each candidate is kept, whatever became of a later attempt."""
        return [row is not None and bool(self._kept[row]) for row in self._rows(identities)]

    def see(self, identities: Sequence[str]) -> None:
        """Tell that the source has these candidates; ``is_due`` does so, too."""
        self._seen[[row for row in self._rows(identities) if row is not None]] = True

    def missing(self, *, is_there: bool = False) -> Missing | None:
        """The kept candidates that the source has no more, once it was seen to its end; None if it had none at all.

        ``is_there``: it has others that the corpus holds.
        """
        if len(self) and not is_there and not self._seen.any():
            return None
        gone = self._kept & ~self._seen
        lasting = self._unanswered & (self._tries >= LASTING)
        return Missing(
            new=self._named(gone & ~self._unlisted),
            returned=self._named(self._unlisted & self._seen),
            before=self._named((gone & self._unlisted) | lasting),
        )

    def _named(self, rows: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(self._ids.take(pa.array(np.flatnonzero(rows))).to_pylist())

    def gone(self) -> list[tuple[str, str]]:
        """Kept candidates that ``is_due`` was not asked for, with their stamps: once a list ended, those not in it."""
        rows = pa.array(np.flatnonzero(self._kept & ~self._seen))
        return list(
            zip(self._ids.take(rows).to_pylist(), pc.fill_null(self._stamps.take(rows), "").to_pylist(), strict=True)
        )

    def is_due(self, identities: Sequence[str], stamps: Sequence[str]) -> list[bool | None]:
        """Whether each candidate is due, or its list says other things of it than before. None: it is new."""
        rows = self._rows(identities)
        known = [row for row in rows if row is not None]
        self._seen[known] = True
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


def _kept(rows: pa.Table, earlier: Rows) -> tuple[Rows, Rows]:
    """The rows by which candidates are kept, and the newest row of each of them.

    Args:
        rows: outcomes, those of one candidate together and by time.
        earlier: those after which another one of the same candidate comes.
    """
    begins = np.ones(rows.num_rows, np.bool_)
    begins[earlier + 1] = False
    candidates = np.cumsum(begins) - 1
    newest = np.append(np.flatnonzero(begins)[1:], rows.num_rows) - 1
    definite = np.flatnonzero(rows["definite"].to_numpy())
    counting = definite[np.append(np.diff(candidates[definite]) != 0, True)[: len(definite)]]
    kept = counting[pc.equal(rows["class"], KEPT).to_numpy()[counting]]
    return kept, newest[candidates[kept]]


def _refused_by_what_changed(
    rows: pa.Table, asked: npt.NDArray[np.bool_], moment: Moment
) -> npt.NDArray[np.bool_] | bool:
    """Which rows a robots.txt refused that has changed since, of those that refused any of the rows ``asked``."""
    is_refused = _is_by_robots(rows)
    named = pc.unique(rows["setting"].filter(pc.and_(is_refused, pa.array(asked)))).to_pylist()
    if not named:
        return False
    changed = pa.array(sorted(moment.changed_robots(named)), pa.string())
    is_changed: npt.NDArray[np.bool_] = pc.fill_null(
        pc.and_(is_refused, pc.is_in(rows["setting"], changed)), False
    ).to_numpy()
    return is_changed


def _is(rows: pa.Table, reason: str) -> npt.NDArray[np.bool_]:
    """Which rows have this reason."""
    flags: npt.NDArray[np.bool_] = pc.fill_null(pc.equal(rows["reason"], reason), False).to_numpy()
    return flags


def _is_by_robots(rows: pa.Table) -> pa.ChunkedArray:
    """Whether each row is of a candidate that a robots.txt refused which it names."""
    return pc.and_(pc.fill_null(pc.equal(rows["reason"], "robots"), False), pc.is_valid(rows["setting"]))
