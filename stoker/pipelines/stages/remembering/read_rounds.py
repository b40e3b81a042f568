"""The rounds of a source that lists nothing: what it holds is known only by reading.

The partitions are read whose parts the ledger does not have, with the samples that are known: what the source finds as
it was is ``Candidate.unchanged``. Parts of partitions that it no longer has stay in the corpus. With another recipe all
partitions are read, and samples stay as the older one made them; to make these anew, partitions are read once more.
What is at a URL is asked on demand whether it has changed: then the partition is read under another name, and what was
read of it before is no partition of the source any more. So is one that the source has again, where it had another in
its place, see ``returning``. Small partitions that are read in one run share parts, see
``reading.sharing``; each is looked for by its own digest all the same.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pyarrow.compute as pc

from stoker.pipelines.memory.identity import STAMP
from stoker.pipelines.memory.known import Again, Moment
from stoker.pipelines.memory.missing import Missing
from stoker.pipelines.memory.unchanged import NOTHING_KNOWN, KnownSamples, write
from stoker.pipelines.partition import Partition, Partitions, digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import LOSS, UNKNOWN, OutcomeClass
from stoker.pipelines.source import AGAIN, CHANGED, STAMP_END, Context, Cut
from stoker.pipelines.stages.ingest import find_part, part_digest, plan
from stoker.pipelines.stages.reading.sharing import share, sharing, together_again
from stoker.pipelines.stages.remembering.asking_whole import ask_whole
from stoker.pipelines.stages.remembering.outcomes import RecordReader, partition_of
from stoker.pipelines.stages.remembering.planned import Cuts, PlannedRounds
from stoker.pipelines.stages.remembering.recall import Recall
from stoker.pipelines.stages.remembering.refreshing import AskedAgain
from stoker.pipelines.stages.remembering.returning import read_otherwise_since
from stoker.pipelines.stages.remembering.samples import told_by
from stoker.pipelines.stages.remembering.vanishing import tell_nothing_there
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.outcome_class import KNOWN, VANISHED

_NAME_CHANGED = re.compile(r"(.+) changed (\d+)", re.DOTALL)
_NAME_AGAIN = re.compile(r"(.+) again (\d+)", re.DOTALL)
_SETTLED = (OutcomeClass.BYTES, OutcomeClass.OWNER)  # rejects that no recipe decides otherwise


class ReadRounds(PlannedRounds):
    """A plan that was not finished, and then the other partitions whose parts the ledger does not have."""

    _all: Partitions | None = None

    def __init__(self, recipe: Recipe, context: Context, store: Store, again: Again) -> None:
        self._again = again
        super().__init__(recipe, context, store)

    def restart(self) -> None:
        """See PlannedRounds."""
        super().restart()
        self._current, self.known = None, NOTHING_KNOWN

    def finish(self, parts: Sequence[Part]) -> None:
        """See PlannedRounds."""
        assert self._cuts is not None
        held = {name: made for part in parts for name, made in part.holds.items()}
        self._left = [
            one
            for partition, part in zip(self._cuts.partitions, parts, strict=True)
            for one in sharing(partition)
            if one.name not in part.holds
        ]
        # Also of a plan that was not finished, which was cut of what there was before it.
        self._current = ((self._current or frozenset()) - self._before(held)).union(held.values())
        if self._left:
            self._current -= {part_digest(self._recipe, one) for one in self._left}
            self._current |= self._before(one.name for one in self._left)  # it counts until the other is read
            self._cuts.listing = digest(sorted(self._current))
        super().finish(parts)
        self.known.remove()

    def is_all_known(self) -> bool:
        """See PlannedRounds. Seen where the partitions are those of files on this machine."""
        self._load()
        recall = self.recall
        if recall.is_empty or recall.is_first or recall.is_made_by_another():
            return False
        if not self._recipe.source.plans_from_files(self._context):
            return False
        have, found = _Have(self._recipe, recall), set[str]()
        for partition in map(have.newest, self._partitions()):
            if not (made := have.parts_of(partition)):
                return False
            found.update(made)
        return recall.is_read(digest(sorted(found)))

    def _planned(self) -> Cuts | None:
        have = _Have(self._recipe, self.recall)
        is_remade = self._again.older_recipe and not self._has_asked and self._count_older() > 0
        changed = self._changed(have) if self._again.kept and not self._has_asked else frozenset()
        wanted, digests, listing = self._wanted(have, changed, is_remade=is_remade)
        if self.recall.is_read(listing) and not self.recall.is_made_by_another():
            return None
        if self.recall.is_made_by_another() and not self._again.older_recipe:
            self._tell_older(self._count_older())
        changed |= self._read_otherwise_since(have)
        while True:
            wanted, digests, listing = self._wanted(have, changed, is_remade=is_remade)
            for partition in self._back(have, changed):
                if (again := part_digest(self._recipe, partition)) not in digests:
                    wanted.append(partition)
                    digests.append(again)
            planned = self._shared(dict(zip(digests, wanted, strict=True)))
            if not (long_ago := self._read_long_ago(planned) - changed):
                return self._begun(planned, listing)
            changed |= long_ago

    def _wanted(
        self, have: "_Have", changed: Collection[str], *, is_remade: bool
    ) -> tuple[list[Partition], list[str], str]:
        """The partitions that are to be read, their digests, and that of all that the source has then."""
        wanted, found = list[Partition](), set[str]()
        for original in self._partitions():
            if original.name in changed:
                wanted.append(_changed(original, self.recall.number))
                continue
            partition = have.newest(original)
            made = have.parts_of(partition)
            if not made:
                wanted.append(partition)
            elif is_remade:
                wanted.append(_again(partition, self.recall.number))
                made = have.parts_of_recipe(partition)  # another recipe's is made anew: both would count else
            found.update(made)
        digests = [part_digest(self._recipe, partition) for partition in wanted]
        self._current = frozenset(found.union(digests))
        return wanted, digests, digest(sorted(self._current))

    def _read_otherwise_since(self, have: "_Have") -> frozenset[str]:
        """The names of partitions that the source has again, and others of the same candidates no more."""
        there = ((one.name, have.parts_of(have.newest(one))) for one in self._partitions())
        return read_otherwise_since(self.recall, (one for one in there if one[1]))

    def _read_long_ago(self, planned: Iterable[Partition]) -> frozenset[str]:
        """The names of partitions that were read once, and are in no part of the ledger since nothing of them counted.

        Only those with candidates that were known when they were read: these may be others now.
        """
        named = {part.digest for part in self.recall.named}
        found = set[str]()
        for one in planned:
            made = part_digest(self._recipe, one)
            if self.recall.is_first or made in named or not self.recall.is_finished(made):
                continue
            part = find_part(self._recipe, one, self._store)
            if part is not None and part.known:
                found.update(_name_of(member.name) for member in sharing(one) or [one])
        return frozenset(found)

    def _back(self, have: "_Have", changed: Collection[str]) -> list[Partition]:
        """The partitions of shared parts that the source had no more, so that nothing of them counts, and has again.

        They are read again, as one is that had a part of its own, which went with it.
        """
        if not have.uncounted:
            return []
        there = (have.newest(one) for one in self._partitions() if one.name not in changed)
        return [one for one in there if (made := have.parts_of(one)) and have.uncounted.issuperset(made)]

    def _begun(self, partitions: Sequence[Partition], listing: str) -> Cuts:
        cuts = Cuts((Cut(one, {}) for one in partitions), listing)
        if self._begin(cuts, [part_digest(self._recipe, one) for one in partitions]):
            self._write_known()
        return cuts

    def _left_over(self) -> Cuts:
        """See PlannedRounds. Each by itself: its server did not answer, or it is long."""
        before = self._before(one.name for one in self._left)
        digests = {part_digest(self._recipe, one) for one in self._left}
        self._current = ((self._current or frozenset()) - before) | digests
        return self._begun(self._left, digest(sorted(self._current)) if self._is_planned else "")

    def _shared(self, wanted: dict[str, Partition]) -> list[Partition]:
        """What is to be read, by digest, small ones together; not what has a part of its own already.

        What is read again of a part that was lost shares it again: older versions name it. What was left out of the
        part has one of its own.
        """
        digests, lost = {one.name: made for made, one in wanted.items()}, []
        for part in (one for one in self.recall.named if one.shared and one.digest in self.recall.lost):
            held = set(part.shared.values())
            again = [one for made, one in wanted.items() if made in held]
            shared = together_again(part.partition, again)
            if len(again) == len(held) and part_digest(self._recipe, shared) == part.digest:
                lost.append(shared)
                wanted = {made: one for made, one in wanted.items() if made not in held}

        def share_of(partition: Partition) -> float:
            is_there = self.recall.is_finished(digests[partition.name])
            return 1.0 if is_there else self._recipe.source.share(partition, self._context)

        return [*lost, *share(list(wanted.values()), share_of)]

    def _changed(self, have: "_Have") -> frozenset[str]:
        """The names of partitions whose bodies are others now at their URLs."""
        source, read = self._recipe.source, list[tuple[str, str, Part, str]]()
        for partition in self._partitions():
            url, made = source.url_of_whole(partition), have.parts_of(have.newest(partition))
            if url and made and not self._forgotten.of_record({"url": url}):
                read.append((partition.name, url, *have.place(made[-1])))
        names, asked = ask_whole(read, self.recall.reader, self._context, older_than=self._again.older_than)
        self.asked_again = AskedAgain(asked)
        return names

    def _before(self, names: Iterable[str]) -> frozenset[str]:
        """The digests that count of partitions until these are read, which are what is read in their place."""
        again = {_name_of(name): name for name in names if _name_of(name) != name}
        if not again:
            return frozenset()
        have, found = _Have(self._recipe, self.recall), set[str]()
        for partition in (have.newest(one) for one in self._partitions() if one.name in again):
            name = again[_name_of(partition.name)]
            # What this recipe has read counts beside what it reads once more of the same bytes.
            if _NAME_CHANGED.fullmatch(name) or not have.parts_of_recipe(partition):
                found.update(have.parts_of(partition))
        return frozenset(found)

    def _missing(self, parts: Sequence[Part]) -> Missing | None:
        if self.recall.is_empty or not self._recipe.source.tells_all:
            return Missing()
        held, current = {part.digest: part for part in (*self.recall.parts, *parts)}, self._current or frozenset()
        if any(LOSS in part.rejected for part in held.values() if not current.isdisjoint(part.holds.values())):
            return Missing()  # what the lost pieces held is there, or is not: nobody knows
        known = self.recall.known(Moment(self._context.now(), None, self._recipe.extraction_digest))
        whole = self._wholes()
        for part in held.values():
            names = {name for name, made in part.holds.items() if made in current or _name_of(name) in whole}
            if names:
                known.see(self.recall.reader.identities(part, names))
        missing = known.missing()
        if missing is None:
            tell_nothing_there(self._recipe.corpus)
        return missing

    def _wholes(self) -> frozenset[str]:
        """The names of partitions that are one thing: all that was ever read of one is there as long as it is."""
        is_whole = self._recipe.source.stamp_of_whole
        return frozenset(partition.name for partition in self._partitions() if is_whole(partition))

    def _cut_now(self, number: int) -> Iterator[Cut]:
        have, found = _Have(self._recipe, self.recall), set[str]()
        is_remade = self._again.older_recipe
        self._write_known()
        back = self._read_otherwise_since(have)
        for original in self._partitions():
            partition = have.newest(original)
            made = have.parts_of_recipe(partition) if is_remade else have.parts_of(partition)
            found.update(made or [part_digest(self._recipe, partition)])
            yield Cut(partition, {})
            if self._again.kept or not made or original.name in back:
                yield Cut(_changed(original, number), {})
            if is_remade:
                yield Cut(_again(partition, number), {})
        self._current = frozenset(found)

    def _count_older(self) -> int:
        """How many samples another recipe made."""
        made_by = self.recall.kept("recipe")["recipe"]
        return len(made_by) - int(pc.sum(pc.equal(made_by, self._recipe.extraction_digest)).as_py() or 0)

    def _write_known(self) -> None:
        if not self.recall.is_empty:
            is_remade = self._again.older_recipe
            self.known = write_known(self._recipe, self.recall, self._context.scratch, is_remade=is_remade)

    def _partitions(self) -> Partitions:
        """All partitions of the source as it is now; a site is crawled once in a run."""
        if self._all is not None:
            return self._all
        named = {made for part in self.recall.named for made in part.holds.values()}
        finished = self.recall.is_finished

        def is_finished(partition: Partition) -> bool:
            made = part_digest(self._recipe, partition)
            return made in named or finished(made)

        has_samples = self.recall.has_samples()
        context = replace(self._context, is_finished=is_finished, is_forgotten=self._forgotten.of_record)
        self._all = plan(self._recipe, replace(context, has_samples=has_samples))
        return self._all


def _name_of(name: str) -> str:
    """The name of a partition, however often it was read again."""
    for pattern in (_NAME_AGAIN, _NAME_CHANGED):
        name = named[1] if (named := pattern.fullmatch(name)) else name
    return name


class _Have:
    """The parts of the ledger by partition; none where there is no ledger, which is made of them then.

    A partition is told by its digest: that of its part, where it has one of its own.
    """

    def __init__(self, recipe: Recipe, recall: Recall) -> None:
        self._recipe, self._recall = recipe, recall
        self._parts = {} if recall.is_first else {part.digest: part for part in recall.parts}
        self._places = {made: (part, name) for part in self._parts.values() for name, made in part.holds.items()}
        self._numbers: dict[str, list[int]] = {}
        self._changes: dict[str, int] = {}  # the last one by name
        for _, name in self._places.values():
            if named := _NAME_AGAIN.fullmatch(name):
                name = named[1]
                self._numbers.setdefault(name, []).append(int(named[2]))
            if named := _NAME_CHANGED.fullmatch(name):
                self._changes[named[1]] = max(int(named[2]), self._changes.get(named[1], 0))

    def place(self, made: str) -> tuple[Part, str]:
        """The part with a partition, and its name there."""
        return self._places[made]

    def newest(self, partition: Partition) -> Partition:
        """The partition as it is since its bytes changed last."""
        number = self._changes.get(partition.name)
        return partition if number is None else _changed(partition, number)

    def parts_of(self, partition: Partition) -> list[str]:
        """Digests of a partition that parts hold: as it was read first, and each time that it was read again.

        Or the one of another recipe that this one does not decide otherwise.
        """
        made = self.parts_of_recipe(partition)
        stamp = "" if made else self._recipe.source.stamp_of_whole(partition)
        return made or (self._settled(stamp, partition.name) if stamp and stamp in self._last else [])

    def parts_of_recipe(self, partition: Partition) -> list[str]:
        """Those of them that this recipe made."""
        read = [partition, *(_again(partition, number) for number in self._numbers.get(partition.name, ()))]
        return [one for one in (part_digest(self._recipe, one) for one in read) if one in self._places]

    @cached_property
    def uncounted(self) -> frozenset[str]:
        """The digests of partitions that share parts, and of which no record counts there, nor in a later part."""
        found = set[str]()
        for part in self._parts.values():
            if part.shared and any(reason not in ("", VANISHED) for reason in part.superseded):
                names = [partition_of(row, part) for row in self._recall.reader.rows(part, ())]
                counting = {name for number, name in enumerate(names) if number not in part.not_counted}
                gone = {*names} - counting
                there = (part.holds[name] for name in part.holds if name in gone)
                found.update(made for made in there if self._places[made][0] is part)
        return frozenset(found)

    @cached_property
    def _last(self) -> dict[str, str]:
        """By the stamp of a whole, the digest of the last part of before whose candidates have it."""
        stamps = self._recall.definite("stamp").group_by(["stamp", "part"]).aggregate([])
        last: dict[str, tuple[int, str]] = {}
        places = {made: place for place, made in enumerate(self._parts)}
        for stamp, made in zip(stamps["stamp"].to_pylist(), stamps["part"].to_pylist(), strict=True):
            if stamp and made in places:
                whole = _whole_of(stamp)
                last[whole] = max(last.get(whole, (-1, "")), (places[made], made))
        return {stamp: made for stamp, (_, made) in last.items()}

    def _settled(self, stamp: str, last: str) -> list[str]:
        """The digest of what has a stamp in the last part of before, if none of its rejects is for a recipe.

        ``last``: name of the partition as it is since it changed last. What was read before that is not meant.
        """
        part = self._parts[self._last[stamp]]
        name, rejected = part.partition, set(part.counted.rejected)
        if part.shared:
            rows = [*enumerate(self._recall.reader.rows(part, (STAMP, "reason")))]
            name = next(partition_of(row, part) or "" for _, row in rows if _whole_of(row.get(STAMP) or "") == stamp)
            own = [(number, row["reason"]) for number, row in rows if partition_of(row, part) == name]
            rejected = {reason for number, reason in own if number not in part.not_counted} - {None, KNOWN}
            rejected |= {VANISHED for number, _ in own if number in part.vanished}
        reasons = (self._recipe.reasons.get(reason, UNKNOWN) for reason in rejected)
        is_settled = all(reason.outcome_class in _SETTLED for reason in reasons)
        named = _NAME_AGAIN.fullmatch(name)
        is_settled = is_settled and (named[1] if named else name) == last
        return [part.holds[name]] if is_settled else []


def _whole_of(stamp: str) -> str:
    """The stamp of the whole in the stamp of a candidate, see ``Source.stamp_of_whole``."""
    return stamp.partition(STAMP_END)[0]


def _changed(partition: Partition, number: int) -> Partition:
    """The partition, whose bytes are others since the ledger head ``number``."""
    return replace(partition, name=f"{partition.name} changed {number}", payload={**partition.payload, CHANGED: number})


def _again(partition: Partition, number: int) -> Partition:
    """The partition to be read once more; ``number``: of the ledger head."""
    return replace(partition, name=f"{partition.name} again {number}", payload={**partition.payload, AGAIN: number})


def write_known(recipe: Recipe, recall: Recall, folder: Path, *, is_remade: bool) -> KnownSamples:
    """The samples that the corpus holds, in a file of a folder. Raises StorageError.

    ``is_remade``: those alone that this recipe made, and the keys of the others, which are made anew.
    """
    kept, keys = recall.kept("stamp", "recipe", *(("id", "key") if is_remade else ())), None
    if is_remade:
        is_ours = pc.fill_null(pc.equal(kept["recipe"], recipe.extraction_digest), False)
        is_named = pc.and_(pc.invert(is_ours), pc.fill_null(pc.not_equal(kept["key"], kept["id"]), False))
        keys, kept = kept.filter(is_named).select(["hash", "key"]), kept.filter(is_ours)
    return KnownSamples(name_of(recipe.source), write(folder, *told_by(kept), keys=keys))


def known_samples(
    recipe: Recipe, store: Store, context: Context, name: str, number: int, *, is_remade: bool
) -> KnownSamples:
    """The samples that ``Rounds.known`` has: in the file of this name, on another machine made again of a ledger head.

    ``is_remade``: see ``write_known``. Raises StorageError.
    """
    path = context.scratch / name
    if path.exists():
        return KnownSamples(name_of(recipe.source), path)
    recall = Recall(RecordReader(recipe, recipe.source, store), context)
    recall.load(number)
    return write_known(recipe, recall, context.scratch, is_remade=is_remade)
