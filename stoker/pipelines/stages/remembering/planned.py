"""Rounds whose partitions are stored as a plan before they start; after a kill the plan is finished first."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import pyarrow as pa

from stoker.pipelines.memory.missing import Missing
from stoker.pipelines.memory.unchanged import NOTHING_KNOWN
from stoker.pipelines.partition import PackedTexts, Partition, Partitions
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.source import Context, Cut
from stoker.pipelines.stages.forgetting.matching import Forgotten
from stoker.pipelines.stages.ingest import part_digest
from stoker.pipelines.stages.reading.sharing import sharing
from stoker.pipelines.stages.remembering.outcomes import RecordReader
from stoker.pipelines.stages.remembering.recall import Recall, Stamps
from stoker.pipelines.stages.remembering.refreshing import AskedAgain
from stoker.pipelines.stages.trust import check_paths
from stoker.release import __version__
from stoker.storage.clock import timestamp
from stoker.storage.errors import AlreadyExists, NotFound, StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.plans import PARTITIONS, Plan, create_plan, iter_partitions, load_plan

T = TypeVar("T")
_log = logging.getLogger(__name__)
_WRITTEN = 16  # partitions that are written at a time: each may be of thousands of candidates
_MAX_ATTEMPTS = 20  # plans that other ingests may store before this one gives up


class PlannedRounds:
    """The rounds of one source: first a plan that was not finished, then what else there is.

    ``_cut`` and ``_planned`` are those of a kind of source.
    """

    known = NOTHING_KNOWN  # what the partitions are read with, see ``Context``
    _current: frozenset[str] | None = None  # digests of the parts of all partitions, of a source that lists nothing
    _forgotten: Forgotten
    _left: Sequence[Partition] = ()  # that a round planned to be in shared parts, and left out of them

    def __init__(self, recipe: Recipe, context: Context, store: Store) -> None:
        self.recall = Recall(RecordReader(recipe, recipe.source, store), context)
        self._recipe, self._context, self._store = recipe, context, store
        self._has_told = False
        self._has_asked = False  # what failed a moment ago is not asked for again at once
        self.restart()

    def _planned(self) -> "Cuts | None":
        """What is to be read now, stored as a plan if something is; None if all is known."""
        raise NotImplementedError

    def is_all_known(self) -> bool:
        """Whether nothing is to be asked for, where that is seen soon. Nothing is written."""
        raise NotImplementedError

    def _left_over(self) -> "Cuts":
        """What the round before left out, stored as a plan."""
        raise NotImplementedError

    def _cut_now(self, number: int) -> Iterator[Cut]:
        """The partitions that there would be now if the plan of this head were not."""
        raise NotImplementedError

    def _moved(self, cuts: "Cuts") -> dict[str, str]:
        """By the identity of a candidate, the one whose place it takes if it is kept."""
        return {}

    def _tell_older(self, samples: int) -> None:
        """Log how many samples stay as an older recipe made them, once: by the run that finds the recipe changed."""
        if samples and self.recall.is_made_by_another() and not self._has_told:
            self._has_told = True
            _log.warning(
                "%s: %s made by an older recipe and %s; `stoker ingest RECIPE --refresh=recipe` makes anew what the "
                "source still has",
                self._recipe.corpus,
                "1 sample was" if samples == 1 else f"{samples:,} samples were",
                "stays" if samples == 1 else "stay",
            )

    def _missing(self, parts: Sequence[Part]) -> Missing | None:
        """What the source has no more, once it was listed or read to its end; ``parts``: of the round."""
        raise NotImplementedError

    def restart(self) -> None:
        """See Rounds."""
        self.asked_again = AskedAgain()
        self._cuts: Cuts | None = None
        self._left = ()
        self._was_resumed = self._is_planned = False

    def next(self) -> Partitions | None:
        """See Rounds."""
        if self._is_planned:
            self.asked_again = AskedAgain()  # told already
            if not self._left:
                return None
        for _ in range(_MAX_ATTEMPTS):
            self._load()
            try:
                if self._left:
                    self._cuts = self._left_over()
                    return self._cuts.partitions
                self._cuts = None if self._was_resumed else self._unfinished()
                if self._cuts is None:
                    self._cuts = self._planned()
                    self._is_planned = True
            except AlreadyExists as error:  # another ingest has planned since: its plan is read, and done first
                first = error
                continue
            return None if self._cuts is None else self._cuts.partitions
        raise StorageUnavailable(f"{first}; try again") from first

    def finish(self, parts: Sequence[Part]) -> None:
        """See Rounds."""
        assert self._cuts is not None
        self.recall.remember(
            parts,
            self._cuts.stamps,
            listing=self._cuts.listing,
            is_whole=self._is_planned,
            moved=self._moved(self._cuts),
            current=self._current,
            missing=self._missing(parts) if self._is_planned else None,
        )
        self._was_resumed, self._has_asked = not self._is_planned, True

    def _load(self) -> None:
        check_paths(self._recipe, self._context)
        self.recall.load()
        self._forgotten = Forgotten.load(self._store, self._recipe.corpus)

    def _unfinished(self) -> "Cuts | None":
        """Of a plan that was not finished the partitions that are done, or would be cut of the list as it is now."""
        if not self.recall.plan_key:
            return None
        try:
            plan = load_plan(self._store, self.recall.plan_key)
        except NotFound as error:
            _log.warning("%s; the list is planned anew", error)
            return None
        cut_now = self._cut_now(plan.ledger or 0)
        wanted: dict[str, int] = {}
        stamps = PackedTexts()
        for cut in cut_now:
            wanted[part_digest(self._recipe, cut.partition)] = len(stamps)
            stamps.append(json.dumps(cut.stamps))

        def cuts() -> Iterator[Cut]:
            for row in (row for table in iter_partitions(self._store, plan) for row in table.to_pylist()):
                partition = Partition(row["name"], json.loads(row["payload"]), row["fingerprint"])
                members = [part_digest(self._recipe, one) for one in sharing(partition)] or [row["part"]]
                if self.recall.is_finished(row["part"]) or wanted.keys() >= set(members):
                    yield Cut(partition, json.loads(stamps[wanted[row["part"]]]) if row["part"] in wanted else {})

        return Cuts(cuts(), "") or None

    def _begin(self, cuts: "Cuts", digests: Sequence[str]) -> bool:
        """Store the plan, if not all of it is done; whether it was stored. Raises AlreadyExists, StorageError."""
        if all(map(self.recall.is_finished, digests)):
            return False
        self.recall.begin(self._store_plan(cuts, digests), digests)
        return True

    def _store_plan(self, cuts: "Cuts", digests: Sequence[str]) -> Plan:
        rows = (
            {
                "name": partition.name,
                "payload": json.dumps(partition.payload, separators=(",", ":")),
                "fingerprint": partition.fingerprint,
                "part": digest,
            }
            for partition, digest in zip(cuts.partitions, digests, strict=True)
        )
        tables = (pa.Table.from_pylist(some, schema=PARTITIONS) for some in batches(rows, _WRITTEN))
        self._context.scratch.mkdir(parents=True, exist_ok=True)
        return create_plan(
            self._store,
            self._recipe.corpus,
            tables,
            recipe_digest=self._recipe.extraction_digest,
            ledger=self.recall.number or None,
            created_at=timestamp(self._context.now()),
            stoker=__version__,
            folder=self._context.scratch,
        )


class Cuts:
    """Partitions and the stamps of their candidates, in little memory; ``listing``: of the list that they are of."""

    def __init__(self, cuts: Iterable[Cut], listing: str) -> None:
        self._packed = PackedTexts()
        self.partitions = Partitions(self._partitions(cuts))
        self.listing = listing

    def _partitions(self, cuts: Iterable[Cut]) -> Iterator[Partition]:
        for partition, stamps in cuts:
            self._packed.append(json.dumps(stamps))
            yield partition

    def __bool__(self) -> bool:
        return bool(self._packed)

    def stamps(self) -> Iterator[Stamps]:
        """Those of each partition."""
        return map(json.loads, self._packed)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time."""
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some
