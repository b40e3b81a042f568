"""The keys that the memory of a corpus refers to: `stoker gc` keeps them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.memory.ledger import KEPT, Ledger, heads, load_head
from stoker.storage.versions.memory.plans import load_plan, parts_of
from stoker.storage.versions.memory.withdrawn import load_record


@dataclass
class MemoryKeys:
    """What the newest ledger heads name, and what purges put in the place of objects that are referred to."""

    heads: set[tuple[str, int]] = field(default_factory=set)  # corpus and number of those read so far
    purges: set[tuple[str, int]] = field(default_factory=set)  # also corpus and number
    lists: set[str] = field(default_factory=set)  # keys of lists of parts that were read: heads share them
    replaced: list[tuple[str, str]] = field(default_factory=list)  # old and new keys, oldest first

    def add(self, store: Store, corpus: str, keys: set[str]) -> None:
        """Add the keys of one corpus to those that are referred to.

        Raises StorageError for a head, list, plan or purge that cannot be read: what it refers to is unknown then.
        """
        numbers = heads(store, corpus)[-KEPT:]
        for number in numbers:
            if (corpus, number) not in self.heads:
                head = load_head(store, corpus, number)
                keys |= set(_named_by(store, head, is_newest=number == numbers[-1]))
                keys |= self._parts(head)
                self.heads.add((corpus, number))
        for number in numbered.numbers(store, layout.withdrawn_folder(corpus)):
            if (corpus, number) not in self.purges:
                objects = load_record(store, corpus, number).objects
                self.replaced += [(replaced.old, replaced.new) for replaced in objects]
                self.purges.add((corpus, number))
        for old, new in self.replaced:
            if old in keys:
                keys.add(new)

    def _parts(self, head: Ledger) -> set[str]:
        """The list of a head's parts, and what it names; nothing for one that was read."""
        file, _ = head.parts_list
        if not file.rows or file.key in self.lists:
            return set()
        self.lists.add(file.key)
        return {file.key, *(key for part in head.parts for key in (part.tar, part.records, *part.originals))}


def _named_by(store: Store, head: Ledger, *, is_newest: bool) -> Iterator[str]:
    """A head and what it names but for its parts. The plan of the newest is not finished: its parts are needed too."""
    yield layout.ledger(head.corpus, head.number)
    for stored in (*head.outcomes, *head.tombstones):
        yield stored.key
    if head.plan is None:
        return
    plan = load_plan(store, head.plan)
    yield from (plan.key, plan.partitions.key)
    if is_newest:
        yield from (layout.raw_part(head.corpus, digest) for digest in parts_of(store, plan))
