"""How fast shards are downloaded, to estimate when bytes of them will be here."""

import time
from collections.abc import Mapping
from threading import Lock

from stoker.training.reading.fetching import ShardFetch

_GUESS = 50e6  # bytes a second, until a rate was measured
_MIN_MEASURED_S = 0.05  # a rate measured over a shorter time means nothing
_PRIOR_S = (
    0.2  # that the rate from before counts for: fetches that have just begun wait for their servers, and bring less
)


class TransferRate:
    """The rate at which the fetches that are running bring bytes, together."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[ShardFetch] = set()
        self._since = 0.0  # begin of the time in which at least one fetch ran without a break
        self._ended_bytes = 0  # of the fetches that have ended in that time
        self._rate = self._rate_before = _GUESS  # the latter: at ``since``

    @property
    def running(self) -> int:
        """Fetches that have begun, and not ended."""
        return len(self._running)

    def begin(self, fetch: ShardFetch) -> None:
        """A fetch begins."""
        with self._lock:
            if not self._running:
                self._since, self._ended_bytes, self._rate_before = time.monotonic(), 0, self._rate
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
            prior_s = 0.0 if self._rate_before == _GUESS else _PRIOR_S
            self._rate = (downloaded + self._rate_before * prior_s) / (passed + prior_s) if downloaded else self._rate
