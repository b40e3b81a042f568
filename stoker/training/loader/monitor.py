"""Rates of a stream, share of cache hits, and how long the loop waits for batches."""

import time
from collections.abc import Callable

from stoker.training.reading.counters import Counters


class StreamMonitor:
    """Reports what a stream did since the last report."""

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters, self._clock = counters, clock
        self._reported, self._reported_at = counters.sums(), clock()

    def report(self) -> dict[str, float]:
        """Numbers by name, since the last report; a number of which nothing is known is left out.

        ``samples_per_s``, ``bytes_per_s`` (made into batches), ``fetched_per_s`` (bytes from the store), ``cache_hits``
        (share of shards that were found on this machine), ``stall`` (share of its time that the loop waited for a
        batch), ``device_idle`` (share of its time that a GPU had no work), ``queue`` (batches that were ready when the
        loop asked, mean), ``skipped`` (samples, since the beginning).
        """
        sums, now = self._counters.sums(), self._clock()
        since = {name: value - self._reported.get(name, 0) for name, value in sums.items()}
        passed = max(now - self._reported_at, 1e-9)
        self._reported, self._reported_at = sums, now
        numbers = {
            "samples_per_s": since.get("samples", 0) / passed,
            "bytes_per_s": since.get("bytes", 0) / passed,
            "fetched_per_s": since.get("fetched", 0) / passed,
        }
        opened = since.get("hits", 0) + since.get("misses", 0)
        if opened:
            numbers["cache_hits"] = since.get("hits", 0) / opened
        busy = since.get("waited_s", 0) + since.get("loop_s", 0)
        if busy:
            numbers["stall"] = since.get("waited_s", 0) / busy
        if since.get("batches", 0):
            numbers["queue"] = since.get("depth", 0) / since["batches"]
        if since.get("device_s", 0):
            numbers["device_idle"] = since["idle_s"] / since["device_s"]
        if sums.get("skipped", 0):
            numbers["skipped"] = sums["skipped"]
        return numbers
