"""What a stream does at the moment: rates, cache, and who waits for whom."""

import time
from collections.abc import Callable

from stoker.training.reading.counters import Counters


class Watch:
    """Tells what happened since it told last."""

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters, self._clock = counters, clock
        self._before, self._at = counters.sums(), clock()

    def tell(self) -> dict[str, float]:
        """Numbers by name, and the time measured from now on.

        ``samples_per_s``, ``bytes_per_s`` (made into batches), ``fetched_per_s`` (bytes from the store), ``cache_hits``
        (share of shards that were found on this machine), ``stall`` (share of its time that the loop waited for a
        batch), ``device_idle`` (share of its time that a GPU had no work), ``queue`` (batches that were ready when the
        loop asked, mean), ``skipped`` (samples, in all).
        What did not happen is left out.
        """
        sums, now = self._counters.sums(), self._clock()
        since = {name: value - self._before.get(name, 0) for name, value in sums.items()}
        passed = max(now - self._at, 1e-9)
        self._before, self._at = sums, now
        told = {
            "samples_per_s": since.get("samples", 0) / passed,
            "bytes_per_s": since.get("bytes", 0) / passed,
            "fetched_per_s": since.get("fetched", 0) / passed,
        }
        opened = since.get("hits", 0) + since.get("misses", 0)
        if opened:
            told["cache_hits"] = since.get("hits", 0) / opened
        busy = since.get("waited_s", 0) + since.get("loop_s", 0)
        if busy:
            told["stall"] = since.get("waited_s", 0) / busy
        if since.get("batches", 0):
            told["queue"] = since.get("depth", 0) / since["batches"]
        if since.get("device_s", 0):
            told["device_idle"] = since["idle_s"] / since["device_s"]
        if sums.get("skipped", 0):
            told["skipped"] = sums["skipped"]
        return told
