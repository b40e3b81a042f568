"""Leases on a corpus: an ingest and a garbage collection never work on it at the same time.

An ingest relies on objects that no version names yet, and gc removes such objects. Each creates its own lease object
first and then looks for leases of the other kind, so that of two that begin at once at least one sees the other. A
lease is renewed by a heartbeat as long as its process lives; an old one belongs to a dead process. All ages are by the
store's own clock: they are counted from the time that it gives to the caller's own lease, which was just renewed. After
the clock was set back a dead process's lease may lie in the future.
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

from stoker.storage.errors import StorageError, StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout

_log = logging.getLogger(__name__)

HEARTBEAT_S = 30.0  # between renewals of a lease
_GC_EXPIRES_S = 120.0  # a gc whose lease is older is dead
_POLL_S = 1.0  # between checks of an ingest that waits for a gc
_MAX_WAIT_S = 150.0  # for a gc
_INGEST, _GC = "ingest", "gc"

_held: dict[str, Store] = {}  # the leases of this process, by their keys


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
            raise CorpusBusy(_under_way(self.store, self.corpus, *active[0]))
        return now


def _under_way(store: Store, corpus: str, age: float, key: str) -> str:
    """The message for an ingest that is under way, or may be."""
    where = f"{store.url}/{corpus}: an ingest is under way"
    if age < 0:
        return (
            f"{where}, or the clock was set back: its lease {key} is from {-age / 60:.0f} minutes in the future. Run "
            "again when it has ended; if no ingest works on this corpus, remove that file"
        )
    since = "just now" if age < 120 else f"{age / 60:.0f} minutes ago"
    return (
        f"{where} (last sign of life {since}), and may rely on what no version names yet; run again when it has ended. "
        "If it was killed, give an --older-than below that, or ingest again"
    )


@contextmanager
def ingest_lease(store: Store, corpus: str, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """A lease for making a version; yields its key. Waits for a gc to stop, and raises CorpusBusy when it does not."""
    with _lease(store, corpus, _INGEST) as key:
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
    with _lease(store, corpus, _GC) as key:
        lease = GcLease(store, corpus, key, older_than_s)
        lease.check()
        yield lease


def release_leases() -> None:
    """Give back all leases of this process: it is about to end in the middle of what it does. Raises StorageError."""
    for key, store in list(_held.items()):
        store.delete(key)


def _ages(store: Store, corpus: str, own_key: str, kind: str) -> tuple[float, list[tuple[float, str]]]:
    """Now by the store's clock, and the ages in seconds and the keys of all leases of a kind, youngest first.

    Negative ages are of leases from the future.
    """
    store.write(own_key, _payload())  # what is the time? And it may have expired, where the process was suspended
    renewed = {stored.key: stored.modified or 0.0 for stored in store.list(layout.leases(corpus))}
    if own_key not in renewed:
        raise CorpusBusy(f"{store.url}/{own_key}: another process removed this lease; run again")
    prefix = layout.lease(corpus, kind, "").removesuffix(".json")
    now = renewed[own_key]
    ages = ((now - moment, key) for key, moment in renewed.items() if key.startswith(prefix))
    # One that was renewed since ours was, or by a machine whose clock differs a little, is as young as can be.
    return now, sorted((0.0 if -HEARTBEAT_S < age < 0 else age, key) for age, key in ages)


@contextmanager
def _lease(store: Store, corpus: str, kind: str) -> Iterator[str]:
    """The key of a lease object that a thread renews until the end."""
    key = layout.lease(corpus, kind, uuid.uuid4().hex)
    store.create(key, _payload())
    _held[key] = store
    _log.debug("%s/%s: lease taken", store.url, key, extra={"lease": key})
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(HEARTBEAT_S):
            try:
                store.write(key, _payload())
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


def _payload() -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
