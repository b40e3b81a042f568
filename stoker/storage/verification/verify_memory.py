"""Verifies what lies beside versions: ledger heads, outcomes, plans, tombstones, purges, deletions, studies.

No version needs any of it to be read. Every object that is there is read whole and compared with its checksums.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.verification.reread import ObjectChecker
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.deleted import load_deleted
from stoker.storage.versions.measured.studies import load_study
from stoker.storage.versions.memory import numbered, outcomes, tombstones
from stoker.storage.versions.memory.ledger import KEPT, Ledger, heads, load_head
from stoker.storage.versions.memory.plans import load_plan, open_partitions
from stoker.storage.versions.memory.sealed_parquet import SealedReader, StoredTable
from stoker.storage.versions.memory.withdrawn import load_record
from stoker.storage.versions.memory.witness import load_witness

T = TypeVar("T")
P = ParamSpec("P")


def verify_memory(objects: ObjectChecker, corpus: str) -> None:
    """Report what is wrong with the memory of a corpus. Raises StorageUnavailable, StorageRefused."""
    check = _Check(objects, corpus)
    store = objects.store
    previous: Ledger | None = None
    for number in heads(store, corpus)[-KEPT:]:
        key = layout.ledger(corpus, number)
        head = check.one(key, load_head, store, corpus, number)
        if head is not None:
            check.head(key, head, previous)
        previous = head
    check.tombstones()
    for number in numbered.numbers(store, layout.withdrawn_folder(corpus)):
        check.purge(number)
    for number in numbered.numbers(store, layout.plans(corpus)):
        check.plan(layout.plan(corpus, number))
    for number in catalog.numbers(store, corpus).deleted:
        check.one(layout.deleted(corpus, number), load_deleted, store, corpus, number)
    for stored in store.list(layout.studies(corpus)):
        if (named := layout.study_of(stored.key)) is not None:
            check.one(stored.key, load_study, store, corpus, *named)


@dataclass
class _Check:
    objects: ObjectChecker
    corpus: str
    seen: set[str] = field(default_factory=set)  # keys of tables that were read

    def one(self, key: str, load: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
        """What an object holds; None if it is damaged, which is reported."""
        try:
            return load(*arguments, **options)
        except NotFound:
            self.objects.add_problem(key, "is missing")
        except (CorruptShard, StorageRefused) as error:
            self.objects.add_problem(key, str(error).removeprefix(f"{self.objects.store.url}/{key}: "))
        return None

    def head(self, key: str, head: Ledger, previous: Ledger | None) -> None:
        """A ledger head against the one before it, and the tables that it names."""
        if previous is not None and (head.parent, head.parent_checksum) != (previous.number, previous.checksum):
            self.objects.add_problem(key, f"does not follow head {previous.number} as that is now")
        self.parts(head)
        for stored in head.outcomes:
            self.table(stored, outcomes.open_outcomes(self.objects.store, stored))
        for stored in head.tombstones:
            self.table(stored, tombstones.open_file(self.objects.store, stored))
        if head.plan is not None and head.plan not in self.seen:
            self.plan(head.plan)

    def parts(self, head: Ledger) -> None:
        """The list of a head's raw parts; the parts themselves are needed by a version, or read when one is made."""
        file, _ = head.parts_list
        if file.rows and file.key not in self.seen:
            self.seen.add(file.key)
            if self.one(file.key, tuple, head.parts) is not None:
                self.objects.count(file.size)

    def tombstones(self) -> None:
        """All files of tombstones, and their witnesses."""
        store = self.objects.store
        numbers = numbered.numbers(store, layout.tombstones_folder(self.corpus))
        keys = {stored.key for stored in store.list(layout.tombstones_folder(self.corpus))}
        files: dict[int, str] = {}
        for number in numbers:
            if (key := layout.witness(self.corpus, number)) in keys:
                witness = self.one(key, load_witness, store, self.corpus, number)
                files |= witness.files if witness else {}
        for number in sorted({*numbers, *files}):
            key = layout.tombstones(self.corpus, number)
            if key in self.seen:  # by way of a head
                continue
            self.one(key, tombstones.load_file, store, self.corpus, number, sha256=files.get(number))

    def purge(self, number: int) -> None:
        """A record of a purge: what it wrote has the name of its content."""
        key = layout.withdrawn(self.corpus, number)
        record = self.one(key, load_record, self.objects.store, self.corpus, number)
        for replaced in () if record is None else record.objects:
            if replaced.new != (expected := layout.purged(replaced.old, replaced.sha256)):
                problem = (
                    f"names {replaced.new[:200]!r} in the place of {replaced.old[:200]}, expected {expected[:200]}"
                )
                self.objects.add_problem(key, problem)

    def plan(self, key: str) -> None:
        """A plan, and its partitions."""
        if key in self.seen:
            return
        self.seen.add(key)
        plan = self.one(key, load_plan, self.objects.store, key)
        if plan is not None:
            self.table(plan.partitions, open_partitions(self.objects.store, plan))

    def table(self, stored: StoredTable, reader: SealedReader) -> None:
        """A table against what names it, a row group at a time."""
        if stored.key in self.seen:
            return
        self.seen.add(stored.key)
        self.one(stored.key, self._read, stored, reader)

    def _read(self, stored: StoredTable, reader: SealedReader) -> None:
        size = self.objects.store.size(stored.key)
        if size != stored.size:
            raise CorruptShard(f"has {size} bytes, expected {stored.size}")
        rows = 0
        for table in _sorted(reader.scan()):
            rows += table.num_rows
        self.objects.count(size)
        if rows != stored.rows:
            raise CorruptShard(f"has {rows} rows, expected {stored.rows}")


def _sorted(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The tables, whose column ``hash``, if they have one, must rise from the first row to the last."""
    last = np.uint64(0)
    for table in tables:
        if "hash" in table.column_names:
            hashes = np.append(last, table["hash"].to_numpy())
            if (hashes[1:] < hashes[:-1]).any():
                raise CorruptShard("is not sorted by hash")
            last = hashes[-1]
        yield table
