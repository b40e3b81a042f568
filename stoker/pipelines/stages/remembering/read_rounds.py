"""The rounds of a source that lists nothing: what it holds is known only by reading.

The partitions are read whose parts the ledger does not have, with the samples that are known: what the source finds as
it was is ``Candidate.unchanged``. Parts of partitions that it no longer has stay in the corpus. With another recipe all
partitions are read, and samples stay as the older one made them; to make these anew, partitions are read once more.
What is at a URL is asked on demand whether it has changed: then the partition is read under another name, and what was
read of it before is no partition of the source any more.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pyarrow.compute as pc

from stoker.pipelines.memory.known import Again, Moment
from stoker.pipelines.memory.missing import Missing
from stoker.pipelines.memory.unchanged import NOTHING_KNOWN, KnownSamples, write
from stoker.pipelines.partition import Partition, Partitions, digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import LOSS, UNKNOWN, OutcomeClass
from stoker.pipelines.source import AGAIN, CHANGED, Context, Cut
from stoker.pipelines.stages.ingest import part_digest, plan
from stoker.pipelines.stages.remembering.asking_whole import ask_whole
from stoker.pipelines.stages.remembering.outcomes import RecordReader
from stoker.pipelines.stages.remembering.planned import Cuts, PlannedRounds
from stoker.pipelines.stages.remembering.recall import Recall
from stoker.pipelines.stages.remembering.refreshing import AskedAgain
from stoker.pipelines.stages.remembering.samples import told_by
from stoker.pipelines.stages.remembering.vanishing import tell_nothing_there
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Part

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
        self._current = (self._current or frozenset()) | {part.digest for part in parts}
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
        wanted, found = [], set[str]()
        is_remade = self._again.older_recipe and not self._has_asked and self._count_older() > 0
        changed = self._changed(have) if self._again.kept and not self._has_asked else frozenset()
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
        listing = digest(sorted(self._current))
        if self.recall.is_read(listing) and not self.recall.is_made_by_another():
            return None
        cuts = Cuts((Cut(one, {}) for one in wanted), listing)
        if self.recall.is_made_by_another() and not self._again.older_recipe:
            self._tell_older(self._count_older())
        if self._begin(cuts, digests):
            self._write_known()
        return cuts

    def _changed(self, have: "_Have") -> frozenset[str]:
        """The names of partitions whose bodies are others now at their URLs."""
        source, read = self._recipe.source, list[tuple[str, str, Part]]()
        for partition in self._partitions():
            url, made = source.url_of_whole(partition), have.parts_of(have.newest(partition))
            if url and made and not self._forgotten.of_record({"url": url}):
                read.append((partition.name, url, have.part(made[-1])))
        names, asked = ask_whole(read, self.recall.reader, self._context, older_than=self._again.older_than)
        self.asked_again = AskedAgain(asked)
        return names

    def _missing(self, parts: Sequence[Part]) -> Missing | None:
        if self.recall.is_empty or not self._recipe.source.tells_all:
            return Missing()
        held = {part.digest: part for part in (*self.recall.parts, *parts)}
        current = [held[digest] for digest in sorted(self._current or ()) if digest in held]
        if any(LOSS in part.rejected for part in current):
            return Missing()  # what the lost pieces held is there, or is not: nobody knows
        known = self.recall.known(Moment(self._context.now(), None, self._recipe.extraction_digest))
        whole = self._wholes()
        of_wholes = (part for made, part in held.items() if made not in (self._current or ()))
        for part in (*current, *(part for part in of_wholes if _name_of(part) in whole)):
            known.see(self.recall.reader.identities(part))
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
        for original in self._partitions():
            partition = have.newest(original)
            made = have.parts_of_recipe(partition) if is_remade else have.parts_of(partition)
            found.update(made or [part_digest(self._recipe, partition)])
            yield Cut(partition, {})
            if self._again.kept:
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
        named, finished = {part.digest for part in self.recall.named}, self.recall.is_finished

        def is_finished(partition: Partition) -> bool:
            made = part_digest(self._recipe, partition)
            return made in named or finished(made)

        has_samples = self.recall.has_samples()
        context = replace(self._context, is_finished=is_finished, is_forgotten=self._forgotten.of_record)
        self._all = plan(self._recipe, replace(context, has_samples=has_samples))
        return self._all


def _name_of(part: Part) -> str:
    """The name of the partition that a part was read of, however often it was read again."""
    name = part.partition
    for pattern in (_NAME_AGAIN, _NAME_CHANGED):
        name = named[1] if (named := pattern.fullmatch(name)) else name
    return name


class _Have:
    """The parts of the ledger by partition; none where there is no ledger, which is made of them then."""

    def __init__(self, recipe: Recipe, recall: Recall) -> None:
        self._recipe, self._recall = recipe, recall
        self._parts = {} if recall.is_first else {part.digest: part for part in recall.parts}
        self._numbers: dict[str, list[int]] = {}
        self._changes: dict[str, int] = {}  # the last one by name
        for part in self._parts.values():
            name = part.partition
            if named := _NAME_AGAIN.fullmatch(name):
                name = named[1]
                self._numbers.setdefault(name, []).append(int(named[2]))
            if named := _NAME_CHANGED.fullmatch(name):
                self._changes[named[1]] = max(int(named[2]), self._changes.get(named[1], 0))

    def part(self, made: str) -> Part:
        """The part of a digest."""
        return self._parts[made]

    def newest(self, partition: Partition) -> Partition:
        """The partition as it is since its bytes changed last."""
        number = self._changes.get(partition.name)
        return partition if number is None else _changed(partition, number)

    def parts_of(self, partition: Partition) -> list[str]:
        """Digests of the parts that hold a partition: as it was read first, and each time that it was read again.

        Or the one of another recipe that this one does not decide otherwise.
        """
        made = self.parts_of_recipe(partition)
        stamp = "" if made else self._recipe.source.stamp_of_whole(partition)
        return made if not stamp or stamp not in self._settled else [self._settled[stamp]]

    def parts_of_recipe(self, partition: Partition) -> list[str]:
        """Those of them that this recipe made."""
        read = [partition, *(_again(partition, number) for number in self._numbers.get(partition.name, ()))]
        return [one for one in (part_digest(self._recipe, one) for one in read) if one in self._parts]

    @cached_property
    def _settled(self) -> dict[str, str]:
        """By stamp, the last part of before whose candidates have it, if none of its rejects is for a recipe."""
        stamps = self._recall.definite("stamp").group_by(["stamp", "part"]).aggregate([])
        last: dict[str, tuple[int, str]] = {}
        places = {made: place for place, made in enumerate(self._parts)}
        for stamp, made in zip(stamps["stamp"].to_pylist(), stamps["part"].to_pylist(), strict=True):
            if stamp and made in places:
                last[stamp] = max(last.get(stamp, (-1, "")), (places[made], made))
        return {stamp: made for stamp, (_, made) in last.items() if self._is_settled(self._parts[made])}

    def _is_settled(self, part: Part) -> bool:
        reasons = (self._recipe.reasons.get(reason, UNKNOWN) for reason in part.counted.rejected)
        return all(reason.outcome_class in _SETTLED for reason in reasons)


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
