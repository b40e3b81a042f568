"""Leases on a corpus: an ingest and a garbage collection never work on it at the same time.

An ingest relies on objects that no version names yet, and gc removes such objects. Each creates its own lease object
first and then looks for leases of the other kind, so that of two that begin at once at least one sees the other. A
lease is renewed by a heartbeat as long as its process lives; an old one belongs to a dead process. All ages are by the
store's own clock: they are counted from the time that it gives to the caller's own lease, which was just renewed. After
the clock was set back a dead process's lease may lie in the future. The lease of a process that works alone, or with
processes that end with it, counts only as long as it lives, where this can be told: on its own machine.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from stoker.storage.boot import is_alive, process_space, start_time
from stoker.storage.errors import NotFound, StorageError, StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout

_log = logging.getLogger(__name__)

HEARTBEAT_S = 30.0  # between renewals of a lease
_GC_EXPIRES_S = 120.0  # a gc whose lease is older is dead
_POLL_S = 1.0  # between checks of an ingest that waits for a gc
_MAX_WAIT_S = 150.0  # for a gc
_MAX_SIZE = 4096  # bytes of a lease
_INGEST, _GC = "ingest", "gc"

_held: dict[str, tuple[Store, bytes]] = {}  # the leases of this process and what they hold, by their keys


class CorpusBusy(StorageUnavailable):
    """An ingest or a gc works on the corpus; try again later."""


@dataclass(frozen=True)
class GcLease:
    """The right to remove objects of a corpus that no version needs."""

    store: Store
    corpus: str
    key: str  # of the lease object
    older_than_s: float  # an ingest whose lease is older counts as dead

    def check(self) -> float:
        """Now, by the store's clock. Raises CorpusBusy when an ingest has begun. To be called every few seconds."""
        now, ages = _ages(self.store, self.corpus, self.key, _INGEST)
        active = [(age, key) for age, key in ages if age < self.older_than_s]
        if active:
            raise CorpusBusy(_under_way(self, *active[0]))
        return now


def _under_way(lease: GcLease, age: float, key: str) -> str:
    """The message for an ingest that is under way, or may be."""
    where = f"{lease.store.url}/{lease.corpus}: an ingest is under way"
    if age < 0:
        return (
            f"{where}, or the clock was set back: its lease {key} is from {-age / 60:.0f} minutes in the future. Run "
            "again when it has ended; if no ingest works on this corpus, remove that file"
        )
    since = "just now" if age < 120 else f"{age / 60:.0f} minutes ago"
    return (
        f"{where} (last sign of life {since}), and may rely on what no version names yet; run again when it has ended. "
        f"If it was killed, wait until that is {lease.older_than_s / 60:.0f} minutes ago (`stoker gc` --older-than), "
        f"or, if no ingest works on this corpus, remove its lease {key}"
    )


@contextmanager
def ingest_lease(
    store: Store, corpus: str, *, alone: bool = True, sleep: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """A lease for making a version; yields its key. Waits for a gc to stop, and raises CorpusBusy when it does not.

    ``alone``: no process that may outlive this one works under this lease, so that it ends with this one.
    """
    with _lease(store, corpus, _INGEST, alone=alone) as key:
        for _ in range(round(_MAX_WAIT_S / _POLL_S)):
            # A gc that lives renews its lease: one from the future was written before the clock was set back.
            if all(abs(age) >= _GC_EXPIRES_S for age, _ in _ages(store, corpus, key, _GC)[1]):
                break
            _log.info("%s/%s: waits for `stoker gc` to end", store.url, corpus, extra={"corpus": corpus})
            sleep(_POLL_S)
        else:
            raise CorpusBusy(f"{store.url}/{corpus}: `stoker gc` is clearing it up; try again when it has ended")
        yield key


@contextmanager
def gc_lease(store: Store, corpus: str, *, older_than_s: float) -> Iterator[GcLease]:
    """A lease for removing objects that no version needs. Raises CorpusBusy while an ingest is active."""
    with _lease(store, corpus, _GC, alone=True) as key:
        lease = GcLease(store, corpus, key, older_than_s)
        lease.check()
        yield lease


def release_leases() -> None:
    """Give back all leases of this process: it is about to end in the middle of what it does. Raises StorageError."""
    for key, (store, _) in list(_held.items()):
        store.delete(key)


def _ages(store: Store, corpus: str, own_key: str, kind: str) -> tuple[float, list[tuple[float, str]]]:
    """Now by the store's clock, and the ages in seconds and the keys of all leases of a kind, youngest first.

    Negative ages are of leases from the future.
    """
    store.write(
        own_key, _held[own_key][1]
    )  # what is the time? And it may have expired, where the process was suspended
    renewed = {stored.key: stored.modified or 0.0 for stored in store.list(layout.leases(corpus))}
    if own_key not in renewed:
        raise CorpusBusy(f"{store.url}/{own_key}: another process removed this lease; run again")
    prefix = layout.lease(corpus, kind, "").removesuffix(".json")
    now = renewed[own_key]
    others = [key for key in renewed if key.startswith(prefix) and not _is_dead(store, key)]
    ages = ((now - renewed[key], key) for key in others)
    # One that was renewed since ours was, or by a machine whose clock differs a little, is as young as can be.
    return now, sorted((0.0 if -HEARTBEAT_S < age < 0 else age, key) for age, key in ages)


@contextmanager
def _lease(store: Store, corpus: str, kind: str, *, alone: bool) -> Iterator[str]:
    """The key of a lease object that a thread renews until the end."""
    key = layout.lease(corpus, kind, uuid.uuid4().hex)
    payload = _payload(alone=alone)
    store.create(key, payload)
    _held[key] = store, payload
    _log.debug("%s/%s: lease taken", store.url, key, extra={"lease": key})
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(HEARTBEAT_S):
            try:
                store.write(key, payload)
            except StorageError as error:  # out of reach for a while: the next heartbeat may succeed
                _log.warning("%s/%s: the lease was not renewed: %s", store.url, key, error, extra={"lease": key})

    heartbeat = threading.Thread(target=renew, name="stoker-lease", daemon=True)
    heartbeat.start()
    try:
        yield key
    finally:
        ended.set()
        heartbeat.join(60)
        with suppress(StorageError):  # then the lease expires
            store.delete(key)
        del _held[key]


def _payload(*, alone: bool) -> bytes:
    where = {"alone_in": process_space(), "started": start_time(os.getpid())} if alone and process_space() else {}
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()} | where).encode()


def _is_dead(store: Store, key: str) -> bool:
    """Whether a lease is of a process that worked alone and here, and is no more: the id may be another one's now."""
    with suppress(
        NotFound, ValueError, AttributeError, RecursionError, OverflowError
    ):  # whatever is in it: its age counts
        content = json.loads(store.read(key, size=_MAX_SIZE))
        here = content.get("alone_in") == process_space() != "" and content.get("host") == socket.gethostname()
        pid, started = content.get("pid"), content.get("started", "")  # releases before did not write the latter
        return here and type(pid) is int and pid > 0 and isinstance(started, str) and not is_alive(pid, started)
    return False
