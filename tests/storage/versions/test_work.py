"""Leases: an ingest and a garbage collection never work on a corpus at the same time."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from stoker.storage.boot import process_space, start_time
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import work
from stoker.storage.versions.work import CorpusBusy, gc_lease, ingest_lease, release_leases
from tests.conftest import HANGS_S
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


def test_a_dead_gc_from_the_future_makes_no_ingest_wait_and_no_object_old() -> None:
    """The clock was set back since it died."""
    store, future = MemoryStore(), f"{CORPUS}/work/gc-{A}.json"
    store.write(future, b"{}")
    store._modified[future] += 3 * 86400
    with ingest_lease(store, CORPUS, sleep=lambda _: pytest.fail("waited for a dead process")):
        with (
            pytest.raises(
                CorpusBusy,
                match=r"an ingest is under way \(last sign of life just now\).*remove its lease digits/work/ingest-",
            ),
            gc_lease(store, CORPUS, older_than_s=86400),
        ):
            raise AssertionError("never reached")
        assert len(list(store.list(f"{CORPUS}/work/ingest-"))) == 1
    with gc_lease(store, CORPUS, older_than_s=0) as lease:
        assert abs(lease.check() - time.time()) < 60


def test_an_ingest_from_the_future_is_named_and_one_renewed_this_moment_is_young() -> None:
    store, other = MemoryStore(), f"{CORPUS}/work/ingest-{A}.json"
    store.write(other, b"{}")
    store._modified[other] += 7200
    for older_than_s in (0, 3600):
        with (
            pytest.raises(
                CorpusBusy, match=rf"its lease {other} is from 120 minutes in the future.*, remove that file"
            ),
            gc_lease(store, CORPUS, older_than_s=older_than_s),
        ):
            raise AssertionError("never reached")
    store._modified[other] = time.time() + 5
    with pytest.raises(CorpusBusy, match="just now"), gc_lease(store, CORPUS, older_than_s=1):
        raise AssertionError("never reached")
    with gc_lease(store, CORPUS, older_than_s=0):
        pass


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
        told = {"host": socket.gethostname(), "pid": os.getpid(), "started": start_time(os.getpid())}
        assert json.loads(store.read(key)) == told | {"alone_in": process_space()}
    assert list(store.list()) == []


def test_a_process_that_ends_in_the_middle_gives_its_leases_back() -> None:
    store = MemoryStore()
    with ingest_lease(store, "one"), gc_lease(store, "other", older_than_s=60):
        assert len(list(store.list())) == 2
        release_leases()
        assert list(store.list()) == []
    release_leases()  # there is nothing left


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """That of a process which is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(HANGS_S)
    return process.pid


@pytest.mark.parametrize("kind", ["ingest", "gc"])
@pytest.mark.parametrize(
    "counts",
    ["alive", "alive, and of a release before", "elsewhere", "another host", "not alone", "damaged", "", "reused"],
)
def test_the_lease_of_a_process_that_worked_alone_ends_with_it(kind: str, counts: str, dead_pid: int) -> None:
    store, other = MemoryStore(), f"{CORPUS}/work/{kind}-{A}.json"
    content: dict[str, object] = {"host": socket.gethostname(), "pid": dead_pid, "alone_in": process_space()}
    changes: dict[str, dict[str, object]] = {
        "alive": {"pid": os.getpid(), "started": start_time(os.getpid())},
        "alive, and of a release before": {"pid": os.getpid()},
        "reused": {"pid": os.getpid(), "started": "before"},
        "elsewhere": {"alone_in": "another"},
        "another host": {"host": "another"},
        "not alone": {"alone_in": None},
    }
    content |= changes.get(counts, {})
    store.write(other, b"[1" if counts == "damaged" else json.dumps(content).encode())
    wanted = nullcontext() if counts in ("", "reused") else pytest.raises(CorpusBusy)
    with wanted:
        if kind == "gc":
            with ingest_lease(store, CORPUS, sleep=lambda _: None):
                pass
        else:
            with gc_lease(store, CORPUS, older_than_s=3600):
                pass


def test_a_process_says_where_it_works_alone() -> None:
    store = MemoryStore()
    with ingest_lease(store, CORPUS), ingest_lease(store, CORPUS, alone=False):
        told = [json.loads(store.read(one.key)).get("alone_in", "") for one in store.list()]
        assert sorted(told) == ["", process_space()]
