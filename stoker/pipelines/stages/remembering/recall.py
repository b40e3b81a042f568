"""What a corpus remembers of a source's candidates: read from the newest ledger head, and written as the next.

A ledger belongs to a source, whatever its options and the steps are: each outcome names the recipe that made it. Where
the recipe has another source than before, or where there is no ledger yet, memory begins with the parts of the newest
version, if those are of this source.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.known import COLUMNS, COLUMNS_OF_INTEREST, Known, Moment, hashes_of_interest
from stoker.pipelines.memory.missing import Missing
from stoker.pipelines.memory.rows_read import NONE, Settled, is_among
from stoker.pipelines.registry import name_of
from stoker.pipelines.source import Context
from stoker.pipelines.stages.remembering.outcomes import (
    CurrentParts,
    Earlier,
    RecordReader,
    identity_in,
    setting_of,
)
from stoker.pipelines.stages.remembering.refreshing import Responses
from stoker.pipelines.stages.remembering.samples import Alike, alike, newest_rows
from stoker.pipelines.stages.remembering.vanishing import Vanishing
from stoker.release import __version__
from stoker.storage.clock import timestamp
from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StorageUnavailable
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Part, load_manifest
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import Ledger, create_head, load_head, newest_head
from stoker.storage.versions.memory.merging import merge_files
from stoker.storage.versions.memory.outcome_class import KEPT, KNOWN, MOVED
from stoker.storage.versions.memory.outcomes import SCHEMA, hashes_of
from stoker.storage.versions.memory.plans import Plan
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from stoker.storage.versions.memory.sealed_writer import put_table
from stoker.storage.versions.verified import put

_log = logging.getLogger(__name__)
_MAX_ATTEMPTS = 20  # heads that other ingests may create before this one gives up
_MAX_FILES = 8  # of outcomes, before they are merged into one
_MAX_ROWS = 500_000  # of one new file of outcomes, which is sorted in memory
_MARKER = "/part.json"

Stamps = Mapping[str, str | None]  # by identity; None: not known


class Recall:
    """The memory of a corpus, for one recipe. ``load`` first.

    Args:
        reader: of the records of raw parts.
        context: for its clock, settings and scratch folder.
    """

    head: Ledger | None  # the newest one
    parts: tuple[Part, ...]  # raw parts of the corpus, without those that are lost
    lost: frozenset[str]  # digests of those that were damaged and taken away: they are read again
    is_first: bool  # the ledger is not of this source, or there is none

    def __init__(self, reader: RecordReader, context: Context) -> None:
        self.reader, self._context = reader, context
        self._store, self._corpus = reader.store, reader.recipe.corpus
        self._source, self._extraction = name_of(reader.source), reader.recipe.extraction_digest
        self._adopted: dict[str, datetime] = {}  # parts of before there was a ledger, by digest: when they were there

    def load(self, number: int | None = None) -> None:
        """Read the newest head, or one by its number, and see which parts are there.

        Raises StorageError, DamagedParts among them.
        """
        self.head = (
            newest_head(self._store, self._corpus) if number is None else load_head(self._store, self._corpus, number)
        )
        listed = (stored.key for stored in self._store.list(layout.raw(self._corpus)))
        self._markers = frozenset(key for key in listed if key.endswith(_MARKER))
        self.is_first = self.head is None or not self._is_ours(self.head)
        self._all = self._parts_of_version() if self.is_first or self.head is None else tuple(self.head.parts)
        self.parts = tuple(part for part in self._all if self.is_finished(part.digest))
        self.lost = frozenset(part.digest for part in self._all if not self.is_finished(part.digest))
        # What became of their candidates, where no ledger tells it.
        self._before = [self._outcomes(part) for part in self.parts] if self.is_first else []

    def _is_ours(self, head: Ledger) -> bool:
        return head.source == self._source if head.source else head.extraction == self._extraction

    @property
    def named(self) -> tuple[Part, ...]:
        """The parts of the corpus, those that are lost among them."""
        return self._all

    def is_finished(self, digest: str) -> bool:
        """Whether the raw part of this digest was there when the memory was loaded."""
        return layout.raw_part(self._corpus, digest) in self._markers

    @property
    def number(self) -> int:
        """Of the newest head; 0 if there is none."""
        return self.head.number if self.head else 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is remembered: the corpus begins."""
        return not self._all and (self.is_first or not (self.head and self.head.outcomes))

    @property
    def plan_key(self) -> str | None:
        """The plan that was not finished, if it was made for this recipe."""
        return self.head.plan if self.head and self.head.extraction == self._extraction else None

    def is_whole(self, listing: str, faults: Collection[str]) -> bool:
        """Whether all of a list is known, of which no more than parts with these faults is to be asked for."""
        head = self.head
        if self.is_first or head is None or head.plan is not None or self.lost:
            return False
        if head.extraction != self._extraction:  # whose options may read the list in another way
            return False
        return (head.listing, set(head.faults)) == (listing, set(faults))

    def known(self, moment: Moment) -> Known:
        """What is known of candidates. Raises StorageError."""
        return Known(self._source, self._tables(COLUMNS, self._before), moment, self._counting)

    def known_of_interest(self, moment: Moment) -> Known:
        """What is known of those candidates that may be due, or that an older recipe made. Raises StorageError.

        In little memory, however many others there are.
        """
        tables = self._counted_tables(COLUMNS_OF_INTEREST)
        return self._known_of(np.concatenate([NONE, *(hashes_of_interest(table, moment) for table in tables)]), moment)

    def settled(self, moment: Moment) -> Settled:
        """The candidates that are not due, as far as one row tells all that is known of them. Raises StorageError."""
        most = sum(stored.rows for stored in self._files()) + sum(table.num_rows for table in self._before)
        return Settled.of(self._source, self._counted_tables, moment, most=most)

    def known_beside(
        self, seen: npt.NDArray[np.uint64], identities: Iterable[str], moment: Moment, *, most: int
    ) -> Known | None:
        """What is known of these candidates, and of all but those seen already. Raises StorageError.

        Args:
            seen: hashes of identities, sorted.
            identities: of more candidates.
            moment: of the run that asks.
            most: rows of others than these; None is returned if there are more.
        """
        others, count = [hashes_of(self._source, identities)], 0
        for table in self._counted_tables(("hash", "source")):
            hashes = table["hash"].to_numpy()
            others.append(hashes[~is_among(hashes, seen)])
            count += len(others[-1])
            if count > most:
                return None
        return self._known_of(np.concatenate(others), moment)

    def _known_of(self, hashes: npt.NDArray[np.uint64], moment: Moment) -> Known:
        return Known(self._source, [self._of_hashes(hashes, self._before, COLUMNS)], moment, self._counting)

    def responses(self, asked: Iterable[str], moment: Moment) -> Responses:
        """What was fetched of candidates that are asked for again. Raises StorageError, DamagedParts among them."""
        table = self._of_hashes(hashes_of(self._source, asked), self._before)
        parts = {part.digest: part for part in self.parts}
        drops_gone = self.reader.recipe.memory.vanished == "drop"
        return Responses.of(
            table,
            moment,
            lambda digest: self.reader.rows(parts[digest]) if digest in parts else [],
            drops_gone=drops_gone,
        )

    # Writing

    def begin(self, plan: Plan, digests: Collection[str]) -> None:
        """Name a plan in the next head, before it starts. ``digests``: of the raw parts that it makes.

        Raises AlreadyExists if another ingest has created a head since; StorageError.
        """
        head = replace(self._next(), parts=self._all, plan=plan.key)
        if self.is_first:
            before = self._put(self._before_without(digests))
            faults = self._look_at([part for part in self.parts if part.digest not in digests])[1]
            head = replace(head, outcomes=(*self._files(), *before), listing="", faults=tuple(faults), vanished="")
        create_head(self._store, head)
        self.load()

    def remember(
        self,
        parts: Sequence[Part],
        stamps: Callable[[], Iterable[Stamps]],
        *,
        listing: str,
        is_whole: bool,
        moved: Mapping[str, str],
        current: frozenset[str] | None = None,
        missing: Missing | None = None,
    ) -> None:
        """Write the outcomes of new parts, and a head that counts them. Raises StorageError, DamagedParts among them.

        Args:
            parts: of the partitions of a round, in their order.
            stamps: gives those of each.
            listing: digest of the list of which all candidates are known then; "": not known.
            is_whole: whether the round had all faults of the list, so that those of earlier ones no longer count.
            moved: by the identity of a candidate, the one whose place it takes if it is kept.
            current: digests of all partitions that the source has, see ``Part.holds``; None: it is one that lists.
            missing: what the source has no more; None: that is not known.
        """
        at, plan = self._context.now(), self.head.plan if self.head else None
        for _ in range(_MAX_ATTEMPTS):
            vanishing = Vanishing(self._corpus, self.reader.recipe.memory, missing, self.word)
            head = self._with(parts, stamps(), at, is_whole=is_whole, moved=moved, current=current, vanishing=vanishing)
            head = replace(head, listing=listing)
            try:
                create_head(self._store, replace(head, plan=None) if head.plan == plan else head)
            except AlreadyExists:
                self.load()  # what another ingest remembers stays
                continue
            self.load()
            return
        raise StorageUnavailable(
            f"{self._store.url}/{self._corpus}: {_MAX_ATTEMPTS} other ingests came first; try again"
        )

    def _next(self) -> Ledger:
        """The head after the newest one, of this recipe; nothing of its content is changed yet."""
        now = timestamp(self._context.now())
        if self.head is None:
            return Ledger(self._corpus, 1, now, __version__, source=self._source, extraction=self._extraction)
        following = self.head.successor(created_at=now, stoker=__version__)
        return replace(following, source=self._source, extraction=self._extraction)

    def _with(
        self,
        parts: Sequence[Part],
        stamps: Iterable[Stamps],
        at: datetime,
        *,
        is_whole: bool,
        moved: Mapping[str, str],
        current: frozenset[str] | None,
        vanishing: Vanishing,
    ) -> Ledger:
        """The next head with what became of a round's parts; its tables are in the store."""
        before = self._before_without({part.digest for part in parts})
        hashes, faults = self._look_at(parts, is_read=current is not None)
        repeated = _repeated(hashes)
        again = hashes_of(self._source, [*moved.values(), *vanishing.counted_again])
        hashes = np.concatenate([hashes, again])
        old = self._of_hashes(hashes, before)
        same = Alike() if current is None else alike(self.reader, self.parts, parts, current, old)
        earlier, setting, told = Earlier(self._source, old), setting_of(self._context), [old]
        asked: set[str] = set()
        # What is read now is newer than what was read before, whatever the clock of this machine says.
        at = max([at, *(one + timedelta(microseconds=1) for one in [pc.max(old["at"]).as_py()] if one)])

        def made() -> Iterator[pa.Table]:
            for part, of_part in zip(parts, stamps, strict=True):
                is_adopted, read_at = part.digest in self._adopted, self._adopted.get(part.digest, at)
                rows = self.reader.outcomes(
                    part,
                    of_part,
                    earlier,
                    at=read_at,
                    setting=setting,
                    is_adopted=is_adopted,
                    unchanged=same.unchanged,
                )
                table = outcomes.to_table(earlier.with_moved(rows, moved))
                told.append(self._rows_of(old["hash"].to_numpy(), [table]))
                told.append(self._rows_of(repeated, [table.filter(pc.is_valid(table["revision"]))]))
                asked.update(table["id"].to_pylist() if vanishing.marked else ())
                yield table
            if vanishing.marked:
                marked = self._of_hashes(hashes_of(self._source, vanishing.marked), before)
                table = outcomes.to_table(vanishing.outcomes(Earlier(self._source, marked), at, asked))
                told.append(self._rows_of(again, [table]))
                yield table

        stored = self._put(chain(before, made()))
        if count := sum(pc.equal(table["reason"], MOVED).to_pylist().count(True) for table in told[1:]):
            what = "1 file is under another name" if count == 1 else f"{count:,} files are under other names"
            _log.warning("%s: %s now: the split stays, the label is that of the new place", self._corpus, what)
        if (not is_whole or current is not None) and self.head is not None:
            faults = list(dict.fromkeys([*self.head.faults, *faults]))
        if current is not None:
            all_parts = {part.digest: part for part in (*self._all, *parts)}
            faults = [made for made in faults if made in all_parts and _still(all_parts[made], current)]
        word, counted = vanishing.word, frozenset(faults)
        told_of = pa.concat_tables(told)
        following = self._next_parts(parts, told_of, counted, current, vanishing.drops, same)
        are_spared = bool(vanishing.drops) and vanishing.are_too_many(self._all, following)
        vanishing.tell(asked.intersection(moved.values()), are_spared=are_spared)
        if are_spared:
            word, following = "", self._next_parts(parts, told_of, counted, current, True, same, spared=True)
        return replace(
            self._next(),
            parts=following,
            outcomes=self._merged((*self._files(), *stored)),
            faults=tuple(faults),
            vanished=word,
        )

    @property
    def word(self) -> str:
        """The recipe's word by which candidates that vanished are counted; "": not all of them are."""
        return self.head.vanished if self.head and not self.is_first else ""

    @property
    def knows_vanished(self) -> bool:
        """Whether candidates that vanished are counted as this recipe wants it, as far as the list is known."""
        return self.word == self.reader.recipe.memory.vanished

    def _next_parts(
        self,
        parts: Sequence[Part],
        told: pa.Table,
        faults: frozenset[str],
        current: frozenset[str] | None,
        drops: bool | None,
        same: Alike,
        *,
        spared: bool = False,
    ) -> tuple[Part, ...]:
        """The raw parts of the corpus after a round: those of before in their places, then the new ones.

        ``told`` are the outcomes of candidates that were known before: which of their rows counts is seen again. A part
        that was made to ask for known ones, or whose partition the source no longer has, is left out if nothing of it
        counts; those of ``current`` partitions never are, so that they are not read again. What was rejected of
        partitions that the source no longer has does not count. ``drops`` and ``spared``: see ``Vanishing``.
        ``same``: of candidates of which several rows may count, those that do.
        """
        places = CurrentParts(self._source, told, drops=drops, counting=same.counting)
        touched = {*told["part"].to_pylist()} | {*same.parts} | ({*self.head.faults} if self.head else set())
        given = {part.digest: part for part in parts}
        result = []
        for old in self._all:
            is_lost = old.digest in self.lost
            if is_lost and old.digest not in given:
                continue
            before = {} if is_lost else old.superseded  # rows that were read again may be others
            part = replace(given.pop(old.digest, old), superseded=before, grouped=old.grouped)
            is_touched = self.is_first or is_lost or part.digest in touched
            result.append(self._counted(part, places, faults, current, is_touched=is_touched, spared=spared))
        for part in given.values():
            part = replace(part, superseded={}, grouped=self.is_empty or part.kept > 0)
            is_touched = part.digest in touched
            result.append(self._counted(part, places, faults, current, is_touched=is_touched, spared=spared))
        if current is None:
            return tuple(part for part in result if part.grouped or part.counted.read)
        return tuple(part for part in result if _still(part, current) or part.counted.read)

    def _counted(
        self,
        part: Part,
        places: CurrentParts,
        faults: frozenset[str],
        current: frozenset[str] | None,
        *,
        is_touched: bool,
        spared: bool,
    ) -> Part:
        """A part with the rows that no longer count, looked for only where they may be others than before."""
        still = None if current is None else _still(part, current)
        has_all = still is None or len(still) == len(part.holds)
        if not is_touched and (has_all or not part.counted.rejected):
            return part
        gone = self.reader.superseded(part, places, faults, still=still, spared=spared)
        return replace(part, superseded=gone)

    def _look_at(self, parts: Sequence[Part], *, is_read: bool = False) -> tuple[npt.NDArray[np.uint64], list[str]]:
        """The hashes of the candidates of parts, and the digests of the parts in which faults of the list are.

        ``is_read``: without those that a source which lists nothing read once more and found unchanged. Of a whole dump
        it would be as much as the dump's own memory to write down each time that they were seen.
        """
        hashes, faults = [np.zeros(0, np.uint64)], []
        for part in parts:
            rows = self.reader.rows(part)
            of_candidates = [row for row in rows if not self.reader.is_fault(row)]
            if len(of_candidates) < len(rows):
                faults.append(part.digest)
            candidates = [identity_in(row) for row in of_candidates if not is_read or row["reason"] != KNOWN]
            hashes.append(hashes_of(self._source, candidates))
        return np.concatenate(hashes), faults

    def is_read(self, listing: str) -> bool:
        """Whether the ledger knows all of a source that lists nothing, whose partitions make this digest."""
        head = self.head
        is_whole = not self.is_first and head is not None and not (head.plan or self.lost)
        return is_whole and self.knows_vanished and head is not None and head.listing == listing

    def has_samples(self) -> bool:
        """Whether the corpus holds samples, whatever recipe made them. Raises StorageError."""
        tables = self._tables(("source", "class", "part"), self._before)
        return any(pc.any(pc.equal(self._counting(table)["class"], KEPT)).as_py() for table in tables)

    def kept(self, *columns: str) -> pa.Table:
        """The rows by which candidates are kept, sorted by hash, with these columns. Raises StorageError."""
        return newest_rows(self.definite("hash", "class", "revision", "at", *columns))

    def definite(self, *columns: str) -> pa.Table:
        """All definite outcomes, with their parts and these columns. Raises StorageError."""
        names = ("source", "definite", "part", *columns)
        empty = pa.schema([SCHEMA.field(name) for name in names]).empty_table()
        tables = map(self._counting, self._tables(names, self._before))
        return pa.concat_tables([empty, *(table.filter(table["definite"]) for table in tables)])

    def is_made_by_another(self) -> bool:
        """Whether the ledger was written by another recipe's ingest, of this source."""
        return not self.is_first and self.head is not None and self.head.extraction != self._extraction

    # Tables of outcomes

    def _tables(
        self, columns: Sequence[str], before: Sequence[pa.Table], hashes: npt.NDArray[np.uint64] | None = None
    ) -> Iterator[pa.Table]:
        """Outcomes of the ledger, a row group at a time, and then those of before there was one.

        ``hashes``, sorted: of the ledger only row groups that may have one of them.
        """
        if not self.is_first:
            for stored in self._files():
                try:
                    for table in outcomes.open_outcomes(self._store, stored).scan(columns, hashes=hashes):
                        yield table
                        del table
                        pa.default_memory_pool().release_unused()  # mimalloc keeps 15 MB of a row group otherwise
                except NotFound as error:
                    raise CorruptShard(f"{self._store.url}/{stored.key}: it is lost; {outcomes.REMEDY}") from error
        yield from (table.select(columns) for table in before)

    def _counted_tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows that count of all that is known; ``columns``: "source" and others. Parts are read if one is lost."""
        return map(self._counting, self._tables((*columns, *(["part"] if self.lost else [])), self._before))

    def _counting(self, table: pa.Table) -> pa.Table:
        """The rows of this source whose raw part is not lost."""
        counts = pc.equal(table["source"], self._source)
        if self.lost:
            counts = pc.and_(counts, pc.invert(pc.is_in(table["part"], pa.array(self.lost, pa.string()))))
        return table if pc.all(counts).as_py() else table.filter(counts)

    def _of_hashes(
        self, hashes: npt.NDArray[np.uint64], before: Sequence[pa.Table], columns: Sequence[str] = SCHEMA.names
    ) -> pa.Table:
        """The rows that count of all that is known and have one of these hashes."""
        hashes = np.unique(hashes)
        return self._rows_of(hashes, self._tables(columns, before, hashes) if len(hashes) else (), columns)

    def _rows_of(
        self, hashes: npt.NDArray[np.uint64], tables: Iterable[pa.Table], columns: Sequence[str] = SCHEMA.names
    ) -> pa.Table:
        """The rows that count of tables and have one of these hashes."""
        wanted, empty = pa.array(hashes, pa.uint64()), SCHEMA.empty_table().select(columns)
        found = (table.filter(pc.is_in(table["hash"], wanted)) for table in tables) if len(hashes) else ()
        return pa.concat_tables([empty, *map(self._counting, found)])

    def _before_without(self, digests: Collection[str]) -> list[pa.Table]:
        gone = pa.array(digests, pa.string())
        return [table.filter(pc.invert(pc.is_in(table["part"], gone))) for table in self._before]

    def _files(self) -> tuple[StoredTable, ...]:
        """The outcomes that the newest head names.

        Where the ledger was another source's, without those of this one from before that: their parts do not count.
        """
        files = self.head.outcomes if self.head else ()
        if not self.is_first:
            return files
        tables = [table for stored in files for table in outcomes.open_outcomes(self._store, stored).scan()]
        others = [table.filter(pc.not_equal(table["source"], self._source)) for table in tables]
        same = sum(table.num_rows for table in tables) == sum(table.num_rows for table in others)
        return files if same else tuple(self._put(others))

    def _put(self, tables: Iterable[pa.Table]) -> list[StoredTable]:
        """Store tables of outcomes, many rows together in one object."""
        stored, waiting, rows = [], [SCHEMA.empty_table()], 0
        for table in chain(tables, [None]):
            if table is not None:
                waiting.append(table)
                rows += table.num_rows
            if rows >= _MAX_ROWS or (table is None and rows):
                payload, written = outcomes.encode(outcomes.merge(pa.concat_tables(waiting)))
                stored.append(written.stored_as(layout.outcomes(self._corpus, written.sha256)))
                put(self._store, stored[-1].key, payload, sha256=written.sha256)
                waiting, rows = [SCHEMA.empty_table()], 0
        return stored

    def _merged(self, files: tuple[StoredTable, ...]) -> tuple[StoredTable, ...]:
        """The files, or one of all their rows where they are many."""
        if len(files) <= _MAX_FILES:
            return files
        readers = [outcomes.open_outcomes(self._store, stored) for stored in files]
        key_of: Callable[[str], str] = lambda sha256: layout.outcomes(self._corpus, sha256)  # noqa: E731
        self._context.scratch.mkdir(parents=True, exist_ok=True)
        return (
            put_table(
                self._store,
                key_of,
                outcomes.writer,
                lambda writer: merge_files(readers, outcomes.merge, writer),
                folder=self._context.scratch,
            ),
        )

    # Before there is a ledger

    def _parts_of_version(self) -> tuple[Part, ...]:
        """The parts of the newest version, if they are of this source. Those that are damaged are read again."""
        for number in reversed(catalog.versions(self._store, self._corpus)):
            try:
                manifest = load_manifest(self._store, self._corpus, number)
                parts = [part.as_read() for part in manifest.parts]
            except (CorruptShard, NotFound) as error:
                _log.warning("%s", error)
                continue
            self._adopted = dict.fromkeys((part.digest for part in parts), datetime.fromisoformat(manifest.created_at))
            is_ours = manifest.recipe.get("source", {}).get("name") == self._source
            return tuple(part for part in parts if is_ours and self.is_finished(part.digest))
        return ()

    def _outcomes(self, part: Part) -> pa.Table:
        """What became of the candidates of a part that an earlier release read."""
        setting, none = setting_of(self._context), Earlier(self._source, SCHEMA.empty_table())
        at = self._adopted[part.digest]
        return outcomes.to_table(self.reader.outcomes(part, {}, none, at=at, setting=setting, is_adopted=True))


def _still(part: Part, current: Collection[str]) -> set[str]:
    """The names of the partitions in a part that are current."""
    return {name for name, made in part.holds.items() if made in current}


def _repeated(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Those that are there more than once."""
    values, counts = np.unique(hashes, return_counts=True)
    return values[counts > 1]
