"""The memory of a small corpus: one of every object that there can be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import Ledger, create_head, newest_head
from stoker.storage.versions.memory.merging import merge_files
from stoker.storage.versions.memory.outcomes import Outcome
from stoker.storage.versions.memory.plans import PARTITIONS, create_plan
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from stoker.storage.versions.memory.sealed_writer import put_table
from stoker.storage.versions.memory.tombstones import add_tombstones
from stoker.storage.versions.memory.withdrawn import Replaced, record_withdrawn
from stoker.storage.versions.verified import put
from tests.storage.published import CORPUS

AT = datetime(2026, 11, 27, 3, 4, 5, 678, tzinfo=UTC)
TIME = "2026-11-27T03:04:05+00:00"
KEPT = Outcome(
    source="image_urls", id="https://example.org/a.jpg", definite=True, kind="kept", at=AT, key="example.org/a",
    size=1234, revision=7, sha1="a9993e364706816aba3e25717850c26c9cd0d89d", etag='"x"',
    last_modified="Fri, 27 Nov 2026 03:04:05 GMT", recipe="r" * 32, part="p" * 32, row=3, split="train", split_since=2,
    since=2,
)  # fmt: skip
GONE = Outcome(
    source="image_urls", id="https://example.org/b.jpg", definite=False, kind="moment", at=AT, reason="gone",
    detail="404", tries=2, setting="s" * 32,
)  # fmt: skip
AGAIN = replace(GONE, at=AT + timedelta(days=1), tries=3)
TAKEN_OUT = [("host", "example.net"), ("url", "https://example.org/c.jpg")]
PART = Part(
    "first", "a" * 32, f"{CORPUS}/raw/{'a' * 32}/part-{'1' * 16}.tar", "1" * 64, 2048,
    f"{CORPUS}/raw/{'a' * 32}/records-{'2' * 16}.parquet", "2" * 64, 2, 1, {"gone": 1},
)  # fmt: skip
REPLACED = Replaced(PART.tar, f"{CORPUS}/raw/{'a' * 32}/part-{'3' * 16}.tar", 2048, "3" * 64, (0, 5))


def partitions(*names: str) -> pa.Table:
    rows = [{"name": name, "payload": '{"n":1}', "fingerprint": "", "part": name[0] * 32} for name in names]
    return pa.Table.from_pylist(rows, schema=PARTITIONS)


def put_outcomes(store: Store, *rows: Outcome) -> StoredTable:
    payload, written = outcomes.encode(outcomes.to_table(rows))
    stored = written.stored_as(layout.outcomes(CORPUS, written.sha256))
    put(store, stored.key, payload, sha256=stored.sha256)
    return stored


def merged(store: Store, *files: StoredTable) -> StoredTable:
    """The outcomes of all files in one."""
    return put_table(
        store,
        lambda sha256: layout.outcomes(CORPUS, sha256),
        outcomes.writer,
        lambda writer: merge_files([outcomes.open_outcomes(store, one) for one in files], outcomes.merge, writer),
    )


def begin_night(store: Store) -> Ledger:
    """Plan, and name the plan in a new head."""
    before = newest_head(store, CORPUS)
    plan = create_plan(
        store, CORPUS, [partitions("ab", "cd"), partitions("ef")], recipe_digest="r" * 64,
        ledger=None if before is None else before.number, created_at=TIME, stoker="0.1.0",
    )  # fmt: skip
    head = before.successor(created_at=TIME, stoker="0.1.0") if before else Ledger(CORPUS, 1, TIME, "0.1.0")
    create_head(store, replace(head, plan=plan.key))
    return replace(head, plan=plan.key)


def end_night(store: Store, before: Ledger, *rows: Outcome) -> Ledger:
    """Add what was found, and finish the plan."""
    head = replace(
        before.successor(created_at=TIME, stoker="0.1.0"),
        outcomes=(*before.outcomes, put_outcomes(store, *rows)),
        parts=(PART,),
        plan=None,
    )
    create_head(store, head)
    return head


def remember(store: Store) -> Ledger:
    """Two nights, with a merge, tombstones and a purge; the newest head, whose plan is not finished."""
    end_night(store, begin_night(store), KEPT, GONE)
    tombstones = add_tombstones(store, CORPUS, TAKEN_OUT, at=AT)
    record_withdrawn(store, CORPUS, [REPLACED], at=TIME)
    second = end_night(store, begin_night(store), AGAIN)
    whole = replace(
        second.successor(created_at=TIME, stoker="0.1.0"),
        outcomes=(merged(store, *second.outcomes),),
        tombstones=(tombstones,),
    )
    create_head(store, whole)
    return begin_night(store)
