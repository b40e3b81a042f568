"""How fast shards are downloaded, to estimate when bytes of them will be here."""

import time
from collections.abc import Mapping
from threading import Lock

from stoker.training.reading.fetching import ShardFetch

_GUESS = 50e6  # bytes a second, until a rate was measured
_MIN_MEASURED_S = 0.05  # a rate measured over a shorter time means nothing


class TransferRate:
    """The rate at which the fetches that are running bring bytes, together."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[ShardFetch] = set()
        self._since = 0.0  # begin of the time in which at least one fetch ran without a break
        self._ended_bytes = 0  # of the fetches that have ended in that time
        self._rate = _GUESS

    def begin(self, fetch: ShardFetch) -> None:
        """A fetch begins."""
        with self._lock:
            if not self._running:
                self._since, self._ended_bytes = time.monotonic(), 0
            self._running.add(fetch)

    def end(self, fetch: ShardFetch) -> None:
        """A fetch has ended, or failed."""
        with self._lock:
            self._measure()
            self._running.discard(fetch)
            self._ended_bytes += fetch.bytes_downloaded

    def seconds_left(self, needed: Mapping[ShardFetch, int], soon_s: float = 0) -> float:
        """Seconds until so many bytes of each of these fetches have arrived, at the present rate.

        All running fetches share the rate evenly. Sleeps for a moment, once, if no rate was measured yet, the first
        fetches have just begun, and at the guessed rate it would take longer than ``soon_s``.
        """
        if self._rate == _GUESS and (left_s := self._seconds_left(needed)) <= soon_s:
            return left_s
        with self._lock:
            since = self._since if self._running else time.monotonic()  # a thread is just about to begin
            wait = since + _MIN_MEASURED_S - time.monotonic() if self._rate == _GUESS else 0
        if wait > 0:
            time.sleep(wait)
        with self._lock:
            self._measure()
            return self._seconds_left(needed)

    def _seconds_left(self, needed: Mapping[ShardFetch, int]) -> float:
        longest = max((size - fetch.bytes_available for fetch, size in needed.items()), default=0)
        others = [fetch.shard.size - fetch.bytes_available for fetch in {*needed, *tuple(self._running)}]
        return sum(max(0, min(left, longest)) for left in others) / self._rate

    def _measure(self) -> None:
        passed = time.monotonic() - self._since
        if self._running and passed >= _MIN_MEASURED_S:
            downloaded = self._ended_bytes + sum(fetch.bytes_downloaded for fetch in self._running)
            self._rate = downloaded / passed if downloaded else self._rate
