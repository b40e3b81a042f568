"""What gc keeps of a corpus' memory, and what a crash in any write leaves."""

import json
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest

from stoker.storage.errors import CorruptShard, StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout, orphans
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory.ledger import KEPT, create_head, heads, load_head, newest_head
from stoker.storage.versions.memory.plans import iter_partitions, load_plan
from stoker.storage.versions.memory.tombstones import load_tombstones
from stoker.storage.versions.memory.withdrawn import load_withdrawn, record_withdrawn
from stoker.storage.versions.orphans import Orphan, ReferencedKeys
from stoker.storage.versions.work import gc_lease
from tests.fakes import Counting, FailingCalls
from tests.storage.published import CORPUS, make_version
from tests.storage.remembered import KEPT as KEPT_SAMPLE
from tests.storage.remembered import PART, REPLACED, TAKEN_OUT, TIME, begin_night, put_outcomes, remember

MEMORY = ("memory", "outcomes", "plans", "tombstones", "withdrawn")


def found(store: Store) -> list[Orphan]:
    referenced = ReferencedKeys(store)
    referenced.refresh()
    return list(orphans.find(store, CORPUS, referenced.of(CORPUS)))


def clear(store: Store) -> None:
    with gc_lease(store, CORPUS, older_than_s=0) as lease:
        those = [one for one in found(store) if one.keys != [lease.key]]
        assert len(list(orphans.remove(lease, ReferencedKeys(store), those))) == len(those)


def of_memory(store: Store) -> set[str]:
    return {one.key for one in store.list() if one.key.split("/")[1] in MEMORY}


def test_all_that_the_heads_name_stays(store: Store) -> None:
    manifest = make_version(store)
    remember(store)
    before = {one.key for one in store.list()}
    assert found(store) == []
    clear(store)
    assert {one.key for one in store.list()} == before
    assert verify(store, manifest).problems == ()


def test_what_no_head_names_goes_and_what_is_for_ever_stays() -> None:
    store = MemoryStore()
    remember(store)
    for number in heads(store, CORPUS):
        store.delete(layout.ledger(CORPUS, number))
    kinds = [one.kind for one in found(store)]
    assert (kinds.count(orphans.OUTCOMES), kinds.count(orphans.PLAN), kinds.count(orphans.LIST)) == (3, 4, 1)
    clear(store)
    for_ever = {layout.tombstones(CORPUS, 1), layout.witness(CORPUS, 1), layout.withdrawn(CORPUS, 1)}
    assert of_memory(store) == for_ever


def test_heads_before_the_last_thirty_go_with_what_they_alone_name() -> None:
    store = MemoryStore()
    remember(store)
    for _ in range(KEPT - 2):
        head = newest_head(store, CORPUS)
        assert head is not None
        create_head(store, head.successor(created_at=TIME, stoker="0.1.0"))
    gone = [key for one in found(store) for key in one.keys]
    # Heads 5 to 34 are the last thirty: the first two outcomes were merged in head 5, plan 3 is that of all since.
    assert gone[:4] == [layout.ledger(CORPUS, number) for number in range(1, 5)]
    assert len([key for key in gone if "/outcomes/" in key]) == 2
    assert [key for key in gone if "/plans/0" in key] == [layout.plan(CORPUS, 1), layout.plan(CORPUS, 2)]
    clear(store)
    assert heads(store, CORPUS) == list(range(5, 35))
    assert found(store) == []


def test_the_parts_of_a_plan_that_is_not_finished_stay() -> None:
    store = MemoryStore()
    markers = {}
    for name in "af":  # a partition of the plan, and another
        folder = layout.raw_folder(CORPUS, name * 32)
        tar, records = f"{folder}part-{'9' * 16}.tar", f"{folder}records-{'9' * 16}.parquet"
        markers[name] = layout.raw_part(CORPUS, name * 32)
        store.write(markers[name], f'{{"tar":"{tar}","records":"{records}"}}'.encode())
        store.write(tar, b"tar")
        store.write(records, b"rows")
    begin_night(store)
    assert [one.keys[0] for one in found(store) if one.kind == orphans.PART] == [markers["f"]]


def test_what_a_purge_wrote_stays_as_long_as_something_names_what_it_replaced() -> None:
    store = MemoryStore()
    manifest = make_version(store)
    sha256 = ["1" * 64, "2" * 64]
    last = []
    for key in (manifest.parts[0].tar, manifest.shards[0].key, manifest.shards[0].index):
        moved = [key, *(layout.purged(key, one) for one in sha256)]
        for (old, new), one in zip(pairwise(moved), sha256, strict=True):
            store.write(new, store.read(old))
            record_withdrawn(store, CORPUS, [replace(REPLACED, old=old, new=new, sha256=one)], at=TIME)
            store.delete(old)
        last.append(moved[-1])
    assert found(store) == []
    assert not any("withdrawn" in problem for problem in verify(store, manifest).problems)
    store.delete(layout.version(CORPUS, 1))
    gone = {key for one in found(store) for key in one.keys}
    assert gone >= set(last)
    clear(store)
    assert not {one.key for one in store.list()} & set(last)


def test_parts_of_heads_stay_and_a_list_that_heads_share_is_read_once() -> None:
    store = Counting()
    remember(store)
    listed = load_head(store, CORPUS, 6).parts_list[0].key
    for key in (PART.tar, PART.records):
        store.write(key, b"x")
    store.write(layout.raw_part(CORPUS, PART.digest), json.dumps(PART.to_json()).encode())
    store.reads.clear()
    assert found(store) == []
    assert store.reads.count(listed) == 1


def test_where_a_list_of_parts_is_damaged_nothing_is_removed() -> None:
    store = MemoryStore()
    make_version(store)
    remember(store)
    listed = load_head(store, CORPUS, 6).parts_list[0].key
    store.write(listed, b"x" * store.size(listed))
    with pytest.raises(CorruptShard, match=f"{listed}: sha256 .* or remove ledger head [2-6]: the head before"):
        clear(store)


@pytest.mark.parametrize("key", [layout.ledger(CORPUS, 5), layout.plan(CORPUS, 3), layout.withdrawn(CORPUS, 1)])
def test_where_one_is_damaged_nothing_is_removed(key: str) -> None:
    store = MemoryStore()
    make_version(store)
    remember(store)
    store.write(key, store.read(key)[:-2])
    with pytest.raises(CorruptShard, match=key):
        clear(store)
    assert load_manifest(store, CORPUS).version == 1


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it, the answer lost"])
def test_a_crash_at_any_call_of_any_write_leaves_the_old_or_the_new_and_gc_finds_the_rest(after: bool) -> None:
    calm = FailingCalls()
    remember(calm)
    calls = 10**9 - calm.left
    assert calls > 30
    for place in range(1, calls + 1):
        store = FailingCalls(place, after=after)
        with suppress(StorageUnavailable):
            remember(store)
            assert after  # an answer that was lost said that the object is there already
        store.left = 10**9
        manifest = make_version(store)
        numbers = heads(store, CORPUS)
        assert numbers == list(range(1, len(numbers) + 1))
        for number in numbers:
            load_head(store, CORPUS, number)
        assert len(load_tombstones(store, CORPUS)) in (0, len(TAKEN_OUT))
        assert len(load_withdrawn(store, CORPUS)) in (0, 1)
        assert verify(store, manifest).problems == ()
        clear(store)
        assert verify(store, manifest).problems == ()
        head = newest_head(store, CORPUS)
        named = set() if head is None or head.plan is None else {head.plan}
        assert {key for key in of_memory(store) if "/plans/0" in key} >= named
        assert found(store) == []
        again = remember(store)
        assert again.plan is not None
        assert sum(table.num_rows for table in iter_partitions(store, load_plan(store, again.plan))) == 3


def test_a_file_that_another_run_has_written_meanwhile_is_used() -> None:
    store = MemoryStore()
    first = put_outcomes(store, KEPT_SAMPLE)
    store.write(first.key, b"damaged")
    assert put_outcomes(store, KEPT_SAMPLE) == first
    assert store.size(first.key) == first.size
