"""Who is at work on a corpus: an ingest relies on objects that no version names yet, and gc removes such; never both.

Each writes its note first and looks for the other's then, so that of two who begin at once at least one sees the
other. A note is written again as long as its writer lives; an old one is a dead process'. All ages are by the
store's own clock.
"""

import json
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

BEAT_S = 30.0  # between the signs of life
_GONE_S = 120.0  # a gc without a sign of life for so long is dead
_LOOK_S = 1.0  # between an ingest's looks at a gc
_PATIENCE_S = 150.0  # then it gives up
_INGEST, _GC = "ingest", "gc"


class AtWork(StorageUnavailable):
    """Somebody is at work on the corpus; later it can be had."""


@dataclass(frozen=True)
class Turn:
    """The right to remove what no version of a corpus needs."""

    store: Store
    corpus: str
    own: str  # key of the own note
    older_than_s: float

    def check(self) -> float:
        """Now, by the store's clock. Raises AtWork when an ingest has begun. To be called every few seconds."""
        self.store.write(self.own, _note())  # first: a process that slept may have been taken for dead
        now, others = _look(self.store, self.corpus, self.own, _INGEST, self.older_than_s)
        if others:
            since = "just now" if others[0] < 120 else f"{others[0] / 60:.0f} minutes ago"
            raise AtWork(
                f"{self.store.url}/{self.corpus}: an ingest is under way (last sign of life {since}), and may rely on "
                "what no version names yet; run again when it has ended. If it was killed, give an --older-than "
                "below that, or ingest again"
            )
        return now


@contextmanager
def ingesting(store: Store, corpus: str, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """While a version is made. Waits for a gc to make way, and raises AtWork when it does not."""
    with _noted(store, corpus, _INGEST) as own:
        for _ in range(round(_PATIENCE_S / _LOOK_S)):
            if not _look(store, corpus, own, _GC, _GONE_S)[1]:
                break
            sleep(_LOOK_S)
        else:
            raise AtWork(f"{store.url}/{corpus}: `stoker gc` is clearing it up; try again when it has ended")
        yield


@contextmanager
def collecting(store: Store, corpus: str, *, older_than_s: float) -> Iterator[Turn]:
    """While what no version needs is removed. Raises AtWork while an ingest younger than that is under way."""
    with _noted(store, corpus, _GC) as own:
        turn = Turn(store, corpus, own, older_than_s)
        turn.check()
        yield turn


def _look(store: Store, corpus: str, own: str, kind: str, young_s: float) -> tuple[float, list[float]]:
    """Now, and how long ago the others' last signs of life were, the youngest first, of those below ``young_s``."""
    found = {stored.key: stored.modified or 0.0 for stored in store.list(layout.work(corpus))}
    if own not in found:
        raise AtWork(f"{store.url}/{own}: somebody removed this note of who is at work; run again")
    start = layout.work_note(corpus, kind, "").removesuffix(".json")
    now = max(found.values())
    return now, sorted(now - then for key, then in found.items() if key.startswith(start) and now - then < young_s)


@contextmanager
def _noted(store: Store, corpus: str, kind: str) -> Iterator[str]:
    key = layout.work_note(corpus, kind, uuid.uuid4().hex)
    store.create(key, _note())
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            with suppress(StorageError):  # a store that is away for a while: the next sign of life may reach it
                store.write(key, _note())

    heart = threading.Thread(target=beat, name="stoker-note", daemon=True)
    heart.start()
    try:
        yield key
    finally:
        over.set()
        heart.join(60)
        with suppress(StorageError):  # then it grows old, which says the same a little later
            store.delete(key)


def _note() -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
