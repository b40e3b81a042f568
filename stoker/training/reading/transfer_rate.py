"""How fast shards come, to tell whether one is here soon."""

import time
from collections.abc import Iterable
from threading import Lock

from stoker.training.reading.fetching import Fetch

_GUESS = 50e6  # bytes a second that a store is taken to give, before any were counted
_COUNTED_S = 0.05  # before what was counted says anything


class Traffic:
    """The fetches that are under way, and what they bring."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._fetches: set[Fetch] = set()
        self._since = 0.0  # when the first of those began that ran without a break since
        self._ended = 0  # bytes of those that have ended since
        self._rate = _GUESS

    def begin(self, fetch: Fetch) -> None:
        """One sets out."""
        with self._lock:
            if not self._fetches:
                self._since, self._ended = time.monotonic(), 0
            self._fetches.add(fetch)

    def end(self, fetch: Fetch) -> None:
        """One has ended, or failed."""
        with self._lock:
            self._count()
            self._fetches.discard(fetch)
            self._ended += fetch.fetched

    def seconds(self, fetches: Iterable[Fetch]) -> float:
        """Until these and those under way are whole, at the rate of now.

        Waits a moment when the first of all have just set out.
        """
        with self._lock:
            since = self._since if self._fetches else time.monotonic()  # a thread is just about to begin
            wait = since + _COUNTED_S - time.monotonic() if self._rate == _GUESS else 0
        if wait > 0:
            time.sleep(wait)
        with self._lock:
            self._count()
            return sum(one.shard.size - one.got for one in {*fetches, *self._fetches}) / self._rate

    def _count(self) -> None:
        passed = time.monotonic() - self._since
        if self._fetches and passed >= _COUNTED_S:
            brought = self._ended + sum(one.fetched for one in self._fetches)
            self._rate = brought / passed if brought else self._rate
