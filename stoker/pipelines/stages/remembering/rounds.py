"""The rounds of an ingest: which partitions are to be read, with what the corpus remembers subtracted.

A source that lists its candidates (``ListedSource``) is asked for those alone that are new, of which its list says
other things than before, or that are due to be tried again. A plan is stored before it starts: after a kill its
partitions are done first, in their order, so that the version is that of a run without one. Of any other source
see ``ReadRounds``.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.memory.known import NOTHING_AGAIN, Again, Known, Moment
from stoker.pipelines.memory.missing import Missing
from stoker.pipelines.memory.rows_read import Unsettled
from stoker.pipelines.memory.unchanged import KnownSamples
from stoker.pipelines.partition import Partitions
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.source import (
    AGAIN,
    BUDGET,
    EARLIER,
    ORIGINALS,
    Context,
    Cut,
    Listed,
    ListedSource,
    nothing_finished,
)
from stoker.pipelines.stages.ingest import check_names, part_digest
from stoker.pipelines.stages.remembering.listing import Listing
from stoker.pipelines.stages.remembering.outcomes import setting_of
from stoker.pipelines.stages.remembering.planned import Cuts, PlannedRounds, batches
from stoker.pipelines.stages.remembering.read_rounds import ReadRounds
from stoker.pipelines.stages.remembering.refreshing import AskedAgain
from stoker.pipelines.stages.remembering.vanishing import tell_nothing_there
from stoker.pipelines.web.measured import changed_robots
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Part

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BATCH = 4096  # candidates that are looked up at a time
_LEVEL = 1  # of compression: the fastest
_LOOK_S = 5.0  # for seeing that nothing is to be done; what takes longer is seen by the run itself
_MAX_OTHERS = 100_000  # outcomes of candidates that a list does not name, beside which it is read line by line
_LOOKED_AT = 64  # candidates between two looks at the clock: files are read for their checksums


class Rounds:
    """What an ingest reads: ``while partitions := rounds.next(): rounds.finish(...)``, with the parts of them all.

    After that ``parts`` are those of the corpus.

    Args:
        recipe: with the source.
        context: what the source may use.
        store: the store that holds the corpus.
        again: which candidates are asked for again on demand.
    """

    parts: Sequence[Part]
    asked_again = AskedAgain()  # of the round

    def __init__(self, recipe: Recipe, context: Context, store: Store, *, again: Again = NOTHING_AGAIN) -> None:
        source = recipe.source
        self._rounds: PlannedRounds = ReadRounds(recipe, context, store, again)
        if isinstance(source, ListedSource) and source.is_listed:
            self._rounds = _ListedRounds(recipe, source, context, store, again)
        self.restart()

    def restart(self) -> None:
        """Begin anew: what was found damaged is gone now, and is read again."""
        self.parts = ()
        self._rounds.restart()

    @property
    def known(self) -> KnownSamples:
        """What the partitions of the round are read with, see ``Context``."""
        return self._rounds.known

    @property
    def head(self) -> int:
        """The number of the newest ledger head."""
        return self._rounds.recall.number

    def next(self) -> Partitions | None:
        """The partitions of the next round, finished ones among them; None: there is none.

        Raises what ``Source.partitions`` raises, and StorageError; then it may be called again.
        """
        partitions = self._rounds.next()
        self.parts, self.asked_again = self._rounds.recall.parts, self._rounds.asked_again
        return partitions

    def known_parts(self) -> Sequence[Part] | None:
        """The parts of the corpus, where nothing is to be asked for; None where that is not so, or takes long to see.

        Nothing is written. Raises as ``next``.
        """
        return self._rounds.recall.parts if self._rounds.is_all_known() else None

    def finish(self, parts: Sequence[Part]) -> None:
        """Remember what became of the candidates of a round. ``parts``: of its partitions, in their order.

        Raises StorageError, DamagedParts among them.
        """
        self._rounds.finish(parts)
        self.parts = self._rounds.recall.parts


class _NotAllKnown(Exception):
    """Something is to be asked for, or it takes too long to see that nothing is."""


class _ListedRounds(PlannedRounds):
    """The rounds of a source that lists its candidates."""

    _gone: Missing | None = None  # what the list of the round has no more

    def __init__(self, recipe: Recipe, source: ListedSource, context: Context, store: Store, again: Again) -> None:
        self._source, self._again = source, again
        # A round of the same run changes nothing about what is old.
        refreshes = again.kept and not source.stamps_tell_all
        self._kept_before = context.now() - again.older_than if refreshes else None
        self._listing = Listing(source)
        super().__init__(recipe, context, store)

    def is_all_known(self) -> bool:
        """See PlannedRounds. Seen without parsing a list."""
        self._load()
        if self._source.is_crawled or self.recall.is_first or self.recall.plan_key or self.recall.lost:
            return False
        if not self.recall.knows_vanished:
            return False
        listing, moment = self._source.listing(self._context), self._moment()
        if listing and not self._is_listing(listing):
            return False
        known = self.recall.known_of_interest(moment) if listing else self.recall.known(moment)
        if not known.nothing_due:
            return False
        if listing:
            return True
        context = replace(self._context, is_finished=nothing_finished)
        try:
            faults = [cut.partition for cut in self._source.cut(self._faults_alone(known), context)]
        except _NotAllKnown:
            return False
        missing = known.missing()
        if missing is not None and missing.has_changed:
            return False
        return self.recall.is_whole(listing, [part_digest(self._recipe, partition) for partition in faults])

    def _faults_alone(self, known: Known) -> Iterator[Listed]:
        """The faults of the list itself. Raises _NotAllKnown as soon as a candidate is to be asked for, or too late."""
        until = time.monotonic() + _LOOK_S
        for some in batches(self._listed(self._context, known), _LOOKED_AT):
            candidates = [one for one in some if one.identity]
            due = known.is_due([one.identity for one in candidates], [one.stamp for one in candidates])
            if (
                time.monotonic() > until
                or any(due)
                or any(
                    is_due is None and not _is_owned(one, known, self._source)
                    for one, is_due in zip(candidates, due, strict=True)
                )
            ):
                raise _NotAllKnown
            yield from (one for one in some if not one.identity)

    def _is_listing(self, listing: str) -> bool:
        """Whether the list is the one of which all is known."""
        head = self.recall.head
        return bool(listing and head and self.recall.is_whole(listing, head.faults) and self.recall.knows_vanished)

    def _planned(self) -> "Cuts | None":
        """What is to be asked for now, stored as a plan if something is; None if all is known."""
        recall, source = self.recall, self._source
        listing = source.listing(self._context)
        known, unsettled = None, None
        if listing and not self._is_listing(listing):
            known, unsettled = self._look_at_lines()
        known = self._known = recall.known(self._moment()) if known is None else known
        self._tell_older(known.made_by_older)
        if known.nothing_due and self._is_listing(listing):
            return None
        cuts = Cuts(self._first(known) if recall.is_first else self._cut(known, recall.number, unsettled), listing)
        if not cuts and recall.is_empty:
            raise SourceBroken(f"source {name_of(source)!r}: it is empty; check its options in the recipe")
        check_names(self._recipe, cuts.partitions)
        digests = [part_digest(self._recipe, partition) for partition in cuts.partitions]
        # Of the corpus of an earlier release it is seen the next time.
        self._gone = (
            (Missing() if recall.is_empty else None)
            if recall.is_first
            else known.missing(is_there=unsettled is not None)
        )
        if self._listing.is_cut_short:
            self._gone = Missing()
        if self._gone is None and not recall.is_first:
            tell_nothing_there(self._recipe.corpus)
        if recall.is_whole(listing, digests) and (
            self._gone is None or (recall.knows_vanished and not self._gone.has_changed)
        ):
            return None
        self._begin(cuts, digests)
        return cuts

    def _missing(self, parts: Sequence[Part]) -> Missing | None:
        return self._gone

    def _look_at_lines(self) -> tuple[Known | None, Unsettled[Listed] | None]:
        """What the list names but for settled candidates, and what is known of it; None where that is not quicker."""
        moment = self._moment()
        if self.recall.is_first or moment.kept_before is not None or moment.again != NOTHING_AGAIN:
            return None, None
        unsettled = self._source.unsettled(self._context, self.recall.settled(moment))
        if unsettled is None:
            return None, None
        identities = (one.identity for one in unsettled.listed if one.identity)
        known = self.recall.known_beside(unsettled.passed, identities, moment, most=_MAX_OTHERS)
        return known, unsettled if known is not None else None

    def _moved(self, cuts: "Cuts") -> dict[str, str]:
        """By the identity of what is asked for and not kept yet, that of a candidate of the same bytes that is gone."""
        gone: dict[str, list[str]] = {}
        for identity, said in sorted(self._known.gone(), reverse=True):
            if content := self._source.bytes_of(said):
                gone.setdefault(content, []).append(identity)
        moved: dict[str, str] = {}
        for stamps in cuts.stamps() if gone else ():
            for (identity, stamp), is_kept in zip(stamps.items(), self._known.keeps(list(stamps)), strict=True):
                former = gone.get(self._source.bytes_of(stamp or ""))
                if former and not is_kept:
                    moved[identity] = former.pop()
        return moved

    def _moment(self) -> Moment:
        recipe, setting = self._recipe.extraction_digest, setting_of(self._context)
        retries, before = not self._has_asked, self._kept_before
        return Moment(
            self._context.now(),
            setting,
            recipe,
            self._again,
            retries=retries,
            changed_robots=lambda refusals: changed_robots(refusals, self._context.web),
            kept_before=before,
        )

    def _cut_now(self, number: int) -> Iterator[Cut]:
        known, unsettled = self._look_at_lines()
        self._known = self.recall.known(self._moment()) if known is None else known
        return self._cut(self._known, number, unsettled)

    def _cut(self, known: Known, number: int, unsettled: Unsettled[Listed] | None = None) -> Iterator[Cut]:
        """Partitions of what is new, and then, by themselves, of what was asked for before; ``number``: of the head."""
        yield from self._cut_asked(self._listed(self._context, known, unsettled), known, number)

    def _listed(self, context: Context, known: Known, unsettled: Unsettled[Listed] | None = None) -> Iterator[Listed]:
        """What the source lists, but for what was taken out of the corpus: nothing of that is written down."""
        listed = self._identities(context) if unsettled is None else iter(unsettled.listed)
        return self._without_forgotten(listed, known) if self._forgotten else listed

    def _identities(self, context: Context) -> Iterator[Listed]:
        return self._listing.identities(replace(context, is_forgotten=self._forgotten.of_record))

    def _without_forgotten(self, listed: Iterator[Listed], known: Known) -> Iterator[Listed]:
        for one in listed:
            if not self._is_forgotten(one):
                yield one
            elif one.identity:
                known.see([one.identity])  # it is there

    def _is_forgotten(self, listed: Listed) -> bool:
        payload = listed.payload if isinstance(listed.payload, Mapping) else {}
        record = payload.get("record")
        told = {**payload, **(record if isinstance(record, Mapping) else {})}
        return self._forgotten.of_record(told | ({"key": listed.identity} if listed.identity else {}))

    def _cut_asked(self, candidates: Iterator[Listed], known: Known, number: int) -> Iterator[Cut]:
        context, again = replace(self._context, is_finished=nothing_finished), list[Listed]()
        yield from self._source.cut(_asked(candidates, known, again, self._source), context)
        self.asked_again = AskedAgain()
        responses = self.recall.responses([one.identity for one in again], self._moment())
        max_bytes, costly = self._again.max_bytes, 0
        if max_bytes is not None:
            again, costly = responses.by_age(again)
        for partition, stamps in self._source.cut(iter(again), context):
            # So that it is neither a partition nor a raw part of before.
            payload = {**partition.payload, AGAIN: number}
            if earlier := responses.of_partition(stamps):
                payload[EARLIER] = earlier
                if max_bytes is not None and costly:
                    payload[BUDGET] = max(1, max_bytes * len(earlier) // costly)
                self.asked_again = self.asked_again.add(earlier)
            if originals := responses.originals_of_partition(stamps):
                payload[ORIGINALS] = originals
                self.asked_again = replace(self.asked_again, originals=self.asked_again.originals + len(originals))
            yield Cut(replace(partition, name=f"{partition.name} again {number}", payload=payload), stamps)

    def _first(self, known: Known) -> Iterator[Cut]:
        """Partitions where no ledger is: those that releases without one cut, as far as they are finished or new.

        Of the others, candidates that the newest version knows are taken out, and the rest is cut again.
        """
        finished = self.recall.is_finished
        context = replace(self._context, is_finished=lambda one: finished(part_digest(self._recipe, one)))
        taken, is_cut_again = set[str](), False
        out = (
            {one.identity for one in self._identities(context) if self._is_forgotten(one)} if self._forgotten else set()
        )
        for cut in self._source.cut(self._identities(context), context):
            is_new = not len(known) or not any(known.knows(list(cut.stamps)))
            if (is_new and out.isdisjoint(cut.stamps)) or context.is_finished(cut.partition):
                taken.update(cut.stamps if len(known) or out else ())
                yield cut
            else:
                is_cut_again = True
        if is_cut_again:
            left = (one for one in self._listed(context, known) if one.identity and one.identity not in taken)
            yield from self._cut_asked(left, known, 0)


def _asked(candidates: Iterable[Listed], known: Known, again: list[Listed], source: ListedSource) -> Iterator[Listed]:
    """The candidates that are new, and the faults of the list; ``again`` gets those that are known and asked for."""
    for some in batches(candidates, _BATCH):
        is_due = known.is_due([one.identity for one in some], [one.stamp for one in some])
        for one, due in zip(some, is_due, strict=True):
            if not one.identity or (due is None and not _is_owned(one, known, source)):
                yield one
            elif due or (one.is_withheld and known.keeps([one.identity])[0]):
                again.append(one)


def _is_owned(listed: Listed, known: Known, source: ListedSource) -> bool:
    """Whether a candidate describes one that the corpus has: it is not read by itself."""
    return bool(known) and any(known.knows(source.owners(listed)))
