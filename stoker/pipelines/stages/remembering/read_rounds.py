"""The rounds of a source that lists nothing: what it holds is known only by reading.

The partitions are read whose parts the ledger does not have, with the samples that are known: what the source finds as
it was is ``Candidate.unchanged``. Parts of partitions that it no longer has stay in the corpus.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from stoker.pipelines.memory.unchanged import NOTHING_KNOWN, KnownSamples
from stoker.pipelines.partition import Partition, Partitions, digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.source import Context, Cut
from stoker.pipelines.stages.ingest import part_digest, plan
from stoker.pipelines.stages.remembering.outcomes import RecordReader
from stoker.pipelines.stages.remembering.planned import Cuts, PlannedRounds
from stoker.pipelines.stages.remembering.recall import Recall
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Part

T = TypeVar("T")


class ReadRounds(PlannedRounds):
    """A plan that was not finished, and then the other partitions whose parts the ledger does not have."""

    _all: Partitions | None = None

    def restart(self) -> None:
        """See PlannedRounds."""
        super().restart()
        self._current, self.known = None, NOTHING_KNOWN

    def finish(self, parts: Sequence[Part]) -> None:
        """See PlannedRounds."""
        super().finish(parts)
        if self.known.path is not None:
            self.known.path.unlink(missing_ok=True)

    def _planned(self) -> Cuts | None:
        partitions = self._partitions()
        digests = [part_digest(self._recipe, partition) for partition in partitions]
        self._current = frozenset(digests)
        listing = digest(sorted(digests))
        if self.recall.is_read(listing):
            return None
        cuts = Cuts((Cut(one, {}) for one in self._unread(partitions, digests)), listing)
        if self._begin(cuts, list(self._unread(digests, digests))):
            self._write_known()
        return cuts

    def _cut_now(self, number: int) -> Iterator[Cut]:
        partitions = self._partitions()
        self._current = frozenset(part_digest(self._recipe, partition) for partition in partitions)
        self._write_known()
        yield from (Cut(partition, {}) for partition in partitions)

    def _write_known(self) -> None:
        if not self.recall.is_empty:
            self.known = self.recall.write_known(self._context.scratch)

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

    def _unread(self, items: Iterable[T], digests: Iterable[str]) -> Iterator[T]:
        """Those whose part the ledger does not have; all where there is no ledger, which is made of them then."""
        have = frozenset[str]() if self.recall.is_first else {part.digest for part in self.recall.parts}
        return (item for item, made in zip(items, digests, strict=True) if made not in have)


def known_samples(recipe: Recipe, store: Store, context: Context, name: str, number: int) -> KnownSamples:
    """The samples that ``Rounds.known`` has: in the file of this name, on another machine made again of a ledger head.

    Raises StorageError.
    """
    path = context.scratch / name
    if path.exists():
        return KnownSamples(name_of(recipe.source), path)
    recall = Recall(RecordReader(recipe, recipe.source, store), context)
    recall.load(number)
    return recall.write_known(context.scratch)
