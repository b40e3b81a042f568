"""Leases: an ingest and a garbage collection never work on a corpus at the same time."""

import json
import time

import pytest

from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import work
from stoker.storage.versions.work import CorpusBusy, gc_lease, ingest_lease, release_leases
from tests.storage.published import CORPUS
from tests.storage.versions.test_orphans import A, clear


def test_an_ingest_waits_for_a_gc_and_not_for_a_dead_one() -> None:
    store, waits = MemoryStore(), list[float]()
    other = f"{CORPUS}/work/gc-{A}.json"
    store.write(other, b"{}")

    def ends(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            store.delete(other)

    with ingest_lease(store, CORPUS, sleep=ends):
        assert len(waits) == 3
    store.write(other, b"{}")
    with (
        pytest.raises(CorpusBusy, match="`stoker gc` is clearing it up"),
        ingest_lease(store, CORPUS, sleep=lambda _: None),
    ):
        raise AssertionError("never reached")
    store._modified[other] -= 1000
    with ingest_lease(store, CORPUS, sleep=lambda _: pytest.fail("waited for a dead process")):
        pass
    assert [one.key for one in store.list(f"{CORPUS}/work/")] == [other]
    clear(store)
    assert list(store.list()) == []


def test_a_lease_is_renewed_while_its_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.01)
    store = MemoryStore()
    with ingest_lease(store, CORPUS):
        (key,) = (one.key for one in store.list())
        store._modified[key] = 0.0
        deadline = time.monotonic() + 60
        while store._modified[key] == 0.0 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert store._modified[key] > 0
        assert set(json.loads(store.read(key))) == {"host", "pid"}
    assert list(store.list()) == []


def test_a_process_that_ends_in_the_middle_gives_its_leases_back() -> None:
    store = MemoryStore()
    with ingest_lease(store, "one"), gc_lease(store, "other", older_than_s=60):
        assert len(list(store.list())) == 2
        release_leases()
        assert list(store.list()) == []
    release_leases()  # there is nothing left
