"""The memory of a corpus without the candidates that were taken out: a new ledger head, in the place of all others."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.stages.forgetting.rewriting import Rewriting
from stoker.release import __version__
from stoker.storage.clock import Clock, timestamp
from stoker.storage.versions import layout
from stoker.storage.versions.listed.redirected import part_now
from stoker.storage.versions.memory import numbered, outcomes
from stoker.storage.versions.memory.ledger import Ledger, create_head, heads, newest_head
from stoker.storage.versions.memory.outcomes import hashes_of
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from stoker.storage.versions.memory.sealed_writer import SealedWriter, put_table


def write_head(rewriting: Rewriting, sources: set[str], *, now: Clock) -> None:
    """Create a head that names what was written anew, and no plan: partitions of a killed ingest are cut anew.

    ``sources``: names of those that the corpus ever had. Raises StorageError.
    """
    head = newest_head(rewriting.store, rewriting.corpus)
    if head is None:
        return
    changed = _changed(rewriting, head, sources | {head.source})
    if (changed.parts, changed.outcomes, changed.plan) == (tuple(head.parts), head.outcomes, head.plan):
        return
    following = head.successor(created_at=timestamp(now()), stoker=__version__)
    create_head(
        rewriting.store,
        replace(following, parts=changed.parts, outcomes=changed.outcomes, plan=None),
    )


def remove_old_heads(rewriting: Rewriting) -> None:
    """Remove all heads but the newest, and the plans that they name; what else they alone name is for gc."""
    store, corpus = rewriting.store, rewriting.corpus
    for number in heads(store, corpus)[:-1]:
        store.delete(layout.ledger(corpus, number))
    for number in numbered.numbers(store, layout.plans(corpus)):
        store.delete(layout.plan(corpus, number))


def _changed(rewriting: Rewriting, head: Ledger, sources: set[str]) -> Ledger:
    identities = sorted(rewriting.identities)
    hashes = [hashes_of(source, identities) for source in sorted(sources)]
    wanted = pa.array(np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes])), pa.uint64())
    files = tuple(_without(rewriting, stored, wanted) for stored in head.outcomes)
    parts = tuple(part_now(part, rewriting.replaced) for part in head.parts)
    return replace(head, parts=parts, outcomes=tuple(file for file in files if file.rows), plan=None)


def _without(rewriting: Rewriting, stored: StoredTable, hashes: pa.Array) -> StoredTable:
    """A file of outcomes without those of candidates that were taken out; as it is if it has none."""
    reader = outcomes.open_outcomes(rewriting.store, stored)

    def stays(table: pa.Table) -> pa.Array:
        of_candidates = pa.table({"key": table["key"], IDENTITY: table["id"], "url": table["id"]})
        gone = pa.array(rewriting.forgotten.rows(of_candidates))
        return pc.invert(pc.or_(gone, pc.is_in(table["hash"], value_set=hashes)))

    if all(pc.all(stays(table), min_count=0).as_py() for table in reader.scan(["hash", "key", "id"])):
        return stored

    def fill(writer: SealedWriter) -> None:
        for table in reader.scan():
            if (left := table.filter(stays(table))).num_rows:
                writer.write(left)

    return put_table(
        rewriting.store,
        lambda sha256: layout.outcomes(rewriting.corpus, sha256),
        outcomes.writer,
        fill,
        folder=rewriting.folder,
    )
